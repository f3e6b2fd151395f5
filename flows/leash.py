"""`python leash.py PARENT PROGRAM ARGUMENTS...`: become PROGRAM, and be killed when process PARENT ends (Linux).

The kernel keeps a death signal across exec, so programs that know nothing of it (DVC, servers) are held by it too.
Nothing of the project is imported, which keeps the detour at a few hundredths of a second.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, program = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the signal was set
        sys.exit(1)
    os.execvp(program[0], program)


if __name__ == "__main__":
    main()
