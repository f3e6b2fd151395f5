"""Care of a stage process: it dies with its parent, none works beside it in its folder, and it keeps its memory."""

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

PR_SET_PDEATHSIG = 1  # of prctl(2): the signal that the kernel sends when the thread that started us ends
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # of mallopt(3)
KEPT_BYTES, GROWTH_BYTES = 1 << 30, 256 << 20
POLL_SECONDS = 1.0
GRACE_SECONDS = 15.0  # for closing the run properly after SIGTERM


class Stopped(BaseException):
    """The process was told to end (SIGTERM, or its parent died). No Exception, so that no stage swallows it."""


def die_with_parent() -> None:
    """Let this process and its children end when the parent does, even when that is killed with -9.

    Two guards: the kernel sends SIGTERM when the thread that started us ends, and a watchdog looks every
    second whether we still have the same parent. Either way the run is closed as KILLED and resumable state stays; a
    process that is still there after `GRACE_SECONDS` is ended at once. The shell that DVC starts has to be replaced
    by us (`exec` in dvc.yaml), or the shell would be the parent that survives.
    """
    parent = os.getppid()
    signal.signal(signal.SIGTERM, _raise_stopped)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    threading.Thread(target=_watch_parent, args=(parent,), name="parent-watchdog", daemon=True).start()


def keep_freed_memory() -> None:
    """Let glibc reuse the large buffers of tensors instead of returning each to the kernel.

    A tensor of more than 128 kB otherwise costs fresh pages every time it is made. On a virtual machine that was a
    sixth of the time of an inversion step (16 of 98 ms an image in the kernel, then 1).
    """
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
    mallopt(M_TOP_PAD, GROWTH_BYTES)


def die_with_stage() -> None:
    """The guard of a worker process that a stage forks (initializer of a pool): killed as soon as the stage is gone.

    Idle pool workers otherwise outlive a stage that was killed with -9.
    """
    parent = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def end_children() -> None:
    """Kill every process that this one started and that still runs."""
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            child.kill()


def exclusive(folder: Path) -> AbstractContextManager:
    """Hold the lock of a stage's work folder. Raises UserError: another process holds it; names its number."""
    return held(
        folder / "lock", f"process {{pid}} already runs the stage {folder.name} here; wait for it or stop it first"
    )


def has_gpu() -> bool:
    """Whether NVIDIA's driver lists a GPU that this process may use; asks the driver, since flows do without torch."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "" or shutil.which("nvidia-smi") is None:
        return False
    listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    return listing.returncode == 0 and "GPU" in listing.stdout


def _raise_stopped(signum, frame) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the clean-up that follows is not to be interrupted
    raise Stopped(signal.Signals(signum).name)


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    end_children()
    os._exit(128 + signal.SIGTERM)
