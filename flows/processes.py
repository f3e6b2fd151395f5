"""Child processes that end with this one, however it ends, and with all that they have started."""

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from editgan.runtime.environment import project_environment

LEASH = Path(__file__).with_name("leash.py")
GRACE_SECONDS = 20.0  # a stage closes its run properly in this time
POLL_SECONDS = 1.0


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


@contextmanager
def followed(
    command: Sequence[str], *, root: Path, environment: Mapping[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen, Iterator[str]]]:
    """A command that runs in the block at most, and its lines of output as they come, "" at least every second.

    They end with the process and not with its output, which a left-behind grandchild could hold open.
    """
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "errors": "replace"}
    process = start(command, root=root, environment=environment, **piped)
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in process.stdout:
            lines.put(line.rstrip())
        lines.put(None)

    def follow() -> Iterator[str]:
        line: str | None = ""
        while line is not None:
            yield line
            ended = process.poll() is not None
            try:
                line = lines.get(timeout=POLL_SECONDS)
            except queue.Empty:
                line = None if ended else ""
        process.wait()

    threading.Thread(target=read, daemon=True).start()
    try:
        yield process, follow()
    finally:
        stop(process)
