"""`python leash.py PARENT PROGRAM ARGUMENTS...`: become PROGRAM, and be killed when process PARENT ends (Linux).

The kernel keeps a death signal across exec, so programs that know nothing of it (DVC, servers) are held by it too.
Not so the processes that they start: for programs that leave theirs behind there is `leash.py --whole-tree PARENT
PROGRAM ...`, which stays, as a process that inherits every orphan below it, and ends with them when either PARENT or
PROGRAM has ended. Nothing of the project is imported, which keeps the detour at a few hundredths of a second.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
GRACE_SECONDS = 20.0  # for a flow to end its stage and close its runs


def main() -> None:
    whole_tree = sys.argv[1] == "--whole-tree"
    parent, *program = sys.argv[1 + whole_tree :]
    if whole_tree:
        signal.signal(signal.SIGUSR1, _parent_ended)
        _prctl(PR_SET_CHILD_SUBREAPER, 1)
    _prctl(PR_SET_PDEATHSIG, signal.SIGUSR1 if whole_tree else signal.SIGKILL)
    if os.getppid() != int(parent):  # it ended before the signal was set
        sys.exit(1)
    if not whole_tree:
        os.execvp(program[0], program)
    for signum in (signal.SIGTERM, signal.SIGINT):  # the program gets them too, and this one ends with it
        signal.signal(signum, lambda *_: None)
    status = _wait(subprocess.Popen(program).pid)
    _end_tree()
    sys.exit(status if status >= 0 else 128 - status)


def _wait(program: int) -> int:
    """Until the program ends. Orphans that end meanwhile are collected: whoever waits for their group would wait on."""
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == program:
            return os.waitstatus_to_exitcode(status)


def _parent_ended(*_) -> None:
    _end_tree()
    os._exit(1)


def _end_tree() -> None:
    """SIGTERM to all that is left of the tree, SIGKILL to what is there after `GRACE_SECONDS`."""
    told, end = set(), time.monotonic() + GRACE_SECONDS
    while left := _descendants():
        late = time.monotonic() > end
        for pid in left if late else left - told:
            try:
                os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
            except ProcessLookupError:
                pass
        told |= left
        time.sleep(0.1)


def _descendants() -> set[int]:
    """Processes below this one; orphans among them have become its children. Collects those that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return set()
    found, new = set(), {os.getpid()}
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                parents[int(name)] = int(file.read().rpartition(")")[2].split()[1])
        except OSError:
            continue
    while new:
        new = {pid for pid, parent in parents.items() if parent in new} - found
        found |= new
    return found


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value)


if __name__ == "__main__":
    main()
