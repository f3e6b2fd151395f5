"""Child processes that end with this process, and whose whole tree can be ended."""

import ctypes
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from editgan.runtime.environment import project_environment

PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
# Asks the kernel for SIGTERM when the parent ends, then becomes the program. `preexec_fn` is not safe beside threads.
ENDS_WITH_PARENT = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 15); os.execvp(sys.argv[1], sys.argv[1:])"
GRACE_SECONDS = 20.0  # a stage needs up to 15 to close its run
POLL_SECONDS = 1.0


def start(
    command: Sequence[str], *, root: Path, environment: Mapping[str, str] | None = None, **options
) -> psutil.Popen:
    """Start a command in a session of its own. It gets SIGTERM when the thread that started it ends.

    Args:
        command: program and arguments; "python" is this interpreter.
        root: working directory; the command gets its project's environment, with this interpreter first on PATH.
        options: further arguments of `subprocess.Popen`.
    """
    program = [sys.executable if part == "python" else part for part in command]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    own = {**project_environment(root), "PATH": path, "PWD": str(root), "PYTHONUNBUFFERED": "1"}
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)  # orphans become our children, so `stop` can wait for them
    return psutil.Popen(
        [sys.executable, "-I", "-c", ENDS_WITH_PARENT, *program],
        cwd=root,
        env={**os.environ, **own, **(environment or {})},
        start_new_session=True,
        **{"stdin": subprocess.DEVNULL, **options},
    )


def stop(process: psutil.Process, grace: float = GRACE_SECONDS) -> None:
    """End a process and all below it: SIGTERM, after `grace` seconds SIGKILL."""
    try:
        tree = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for end, seconds in ((psutil.Process.terminate, grace), (psutil.Process.kill, None)):
        for one in tree:
            with suppress(psutil.NoSuchProcess):
                end(one)
        _, tree = psutil.wait_procs(tree, seconds)


@contextmanager
def followed(
    command: Sequence[str], *, root: Path, environment: Mapping[str, str] | None = None
) -> Iterator[tuple[psutil.Popen, Iterator[str]]]:
    """Run a command within the block. Yields its process and its lines of output, "" at least every second.

    The lines end with the process: an orphan may hold its output open.
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
