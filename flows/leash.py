"""`python leash.py PARENT PROGRAM ARGUMENTS...`: run PROGRAM; when it or process PARENT ends, end all that it started.

It inherits every orphan below it (Linux), so that nothing escapes, also not a process with a session of its own.
Nothing of the project is imported, which keeps the detour short.
"""

import ctypes
import os
import signal
import subprocess
import sys

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
GRACE_SECONDS = 15.0  # for a stage to close its run
prctl = ctypes.CDLL(None).prctl


def main() -> int:
    parent, *program = sys.argv[1:]
    signal.signal(signal.SIGUSR1, lambda *_: sys.exit(1))  # PARENT has ended
    for signum in (signal.SIGTERM, signal.SIGINT):  # PROGRAM gets them too, and this one ends with it
        signal.signal(signum, lambda *_: None)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    prctl(PR_SET_PDEATHSIG, signal.SIGUSR1)
    if os.getppid() != int(parent):  # it ended before the signal was set
        return 1
    try:
        status = subprocess.Popen(program, preexec_fn=lambda: prctl(PR_SET_PDEATHSIG, signal.SIGKILL)).wait()
        return status if status >= 0 else 128 - status
    finally:
        end_tree()


def end_tree() -> None:
    """SIGTERM to all that is left below this process, SIGKILL to what is there after `GRACE_SECONDS`."""
    import psutil

    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    for end in (psutil.Process.terminate, psutil.Process.kill):
        left = psutil.Process().children(recursive=True)
        for process in left:
            try:
                end(process)
            except psutil.NoSuchProcess:
                pass
        psutil.wait_procs(left, GRACE_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
