"""Child processes that end with this one, however it ends."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from editgan.runtime.environment import project_environment

LEASH = Path(__file__).with_name("leash.py")
GRACE_SECONDS = 20.0  # a stage closes its run properly in this time


def start(
    command: Sequence[str],
    *,
    root: Path,
    environment: Mapping[str, str] | None = None,
    whole_tree: bool = False,
    **options,
) -> subprocess.Popen:
    """Start a command in a process group of its own that is killed when this process (thread) ends.

    Args:
        command: program and arguments; "python" is this interpreter.
        root: working directory; its project's environment is given to the command.
        whole_tree: also end what the command has started, when it or this process ends.
        options: further arguments of `subprocess.Popen`.
    """
    program = [sys.executable if part == "python" else part for part in command]
    return subprocess.Popen(
        [sys.executable, "-I", str(LEASH), *(["--whole-tree"] if whole_tree else []), str(os.getpid()), *program],
        cwd=root,
        env=child_environment(root) | dict(environment or {}),
        start_new_session=True,
        **options,
    )


def child_environment(root: Path) -> dict[str, str]:
    """This process's environment with the project's settings, and with this interpreter first on PATH."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return {**os.environ, **project_environment(root), "PATH": path, "PWD": str(root), "PYTHONUNBUFFERED": "1"}


def stop(process: subprocess.Popen, grace: float = GRACE_SECONDS) -> None:
    """End a process group: SIGTERM, after `grace` seconds SIGKILL. Returns when the process is gone."""
    for signum, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, None)):
        if not _signal_group(process.pid, signum):
            break
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            continue
        _wait_for_group(process.pid, grace)
    process.wait()


def _wait_for_group(group: int, seconds: float) -> None:
    """The leader may be gone before its children, which are still closing their runs."""
    import time

    end = time.monotonic() + seconds
    while time.monotonic() < end and _signal_group(group, 0):
        time.sleep(0.1)


def _signal_group(group: int, signum: int) -> bool:
    """Returns False when no process of the group is left."""
    try:
        os.killpg(group, signum)
        return True
    except ProcessLookupError:
        return False
