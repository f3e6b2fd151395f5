"""The process of a stage: it ends with its parent, is the only one in its folder, and keeps freed memory."""

import ctypes
import os
import shutil
import signal
import subprocess
import threading
import time
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import psutil

from editgan.runtime.locks import held

PR_SET_PDEATHSIG = 1  # prctl(2): the signal that the kernel sends when the thread that started this process ends
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8  # of mallopt(3)
KEPT_BYTES, GROWTH_BYTES = 1 << 30, 256 << 20
POLL_SECONDS = 1.0
GRACE_SECONDS = 15.0  # to close the run after SIGTERM
ERROR_FILE = "error.txt"  # in work/STAGE: the error that the user must fix before the stage can run


class Stopped(BaseException):
    """SIGTERM, or the parent ended. Not an Exception, so that no stage catches it by accident."""


def die_with_parent() -> None:
    """End this process and its children when the parent ends, even if it is killed with SIGKILL.

    The kernel sends SIGTERM when the thread that started this process ends, and a watchdog thread checks the parent
    every second. The run is then closed as KILLED, and the resumable state stays. After `GRACE_SECONDS` the process is
    killed. dvc.yaml starts stages with `exec`; otherwise the parent would be a shell that survives DVC.
    """
    parent = os.getppid()
    signal.signal(signal.SIGTERM, _raise_stopped)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    threading.Thread(target=_watch_parent, args=(parent,), name="parent-watchdog", daemon=True).start()


def keep_freed_memory() -> None:
    """Make glibc reuse the memory of large tensors instead of returning it to the kernel.

    Otherwise each new tensor of more than 128 kB needs new pages from the kernel. On a virtual machine this took 16 of
    the 98 ms per image of an inversion step; now 1 ms.

    All threads share one heap. With a heap each, every thread would keep as much as its largest edit took: a server
    that answers from many threads grew from 1.2 GB to 2.6 GB within four edits.
    """
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
    mallopt(M_TOP_PAD, GROWTH_BYTES)
    mallopt(M_ARENA_MAX, 1)


def die_with_stage() -> None:
    """End a worker process when its stage ends, even by SIGKILL (initializer of a process pool)."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def end_children() -> None:
    """Kill all running child processes, and theirs."""
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            child.kill()


def exclusive(folder: Path) -> AbstractContextManager:
    """Hold the lock of a stage's work folder. Raises UserError: another process holds it; gives its process id."""
    return held(
        folder / "lock", f"process {{pid}} already runs the stage {folder.name} here; wait for it or stop it first"
    )


def has_gpu() -> bool:
    """Whether NVIDIA's driver lists a GPU for this process. Asks the driver, because flows do not import torch."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "" or shutil.which("nvidia-smi") is None:
        return False
    listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    return listing.returncode == 0 and "GPU" in listing.stdout


def _raise_stopped(signum, frame) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # do not interrupt the clean-up
    raise Stopped(signal.Signals(signum).name)


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    end_children()
    os._exit(128 + signal.SIGTERM)
