"""Child processes that end with this one, however it ends, and with all that they have started."""

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
    command: Sequence[str], *, root: Path, environment: Mapping[str, str] | None = None, **options
) -> subprocess.Popen:
    """Start a command in a process group of its own that ends when this process (thread) does.

    Args:
        command: program and arguments; "python" is this interpreter.
        root: working directory; the command gets its project's environment, with this interpreter first on PATH.
        options: further arguments of `subprocess.Popen`.
    """
    program = [sys.executable if part == "python" else part for part in command]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    own = {**project_environment(root), "PATH": path, "PWD": str(root), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-I", str(LEASH), str(os.getpid()), *program],
        cwd=root,
        env={**os.environ, **own, **(environment or {})},
        start_new_session=True,
        **{"stdin": subprocess.DEVNULL, **options},
    )


def stop(process: subprocess.Popen, grace: float = GRACE_SECONDS) -> None:
    """End a process group: SIGTERM, after `grace` seconds SIGKILL. Returns when the process is gone."""
    if process.poll() is not None:  # its leash has ended the rest
        return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(grace)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
