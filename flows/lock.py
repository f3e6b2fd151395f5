"""One of a kind: a file lock that the kernel drops with its holder, and a note of who held it."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from editgan.errors import UserError


class Lock:
    """The held lock. `left_behind` is the note of a holder that was killed, None after a clean end."""

    def __init__(self, file, left_behind: dict[str, str] | None) -> None:
        self._file = file
        self.left_behind = left_behind

    def note(self, **facts: str) -> None:
        """Write down who holds the lock and what would have to be closed if it were killed."""
        started = time.strftime("%Y-%m-%d %H:%M:%S")
        self._write(json.dumps({"pid": str(os.getpid()), "started": started, **facts}))

    def clear(self) -> None:
        """A clean end: nothing is left to close."""
        self._write("")

    def _write(self, text: str) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._file.write(text)
        self._file.flush()


def sole_pipeline(project: Path, name: str | None) -> AbstractContextManager[Lock]:
    """Hold the lock of a checkout: `work/pipeline.lock` of the project itself, `runs/NAME.lock` of runs/NAME.

    It lies beside the checkout and not in it, to be held before the checkout is made or brought up to date.

    Raises:
        UserError: another pipeline holds it; names its process and since when.
    """
    path = project / "work" / "pipeline.lock" if name is None else project / "runs" / f"{name}.lock"
    return sole(path, "another pipeline runs in this checkout", "wait for it, or run in another one with --name")


@contextmanager
def sole(path: Path, holder: str, remedy: str) -> Iterator[Lock]:
    """Hold a lock file.

    Args:
        holder, remedy: what to say of another process that holds it.

    Raises:
        UserError: one does; names it and since when.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        note = _read(file)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{path}: {holder} (process {note.get('pid', 'unknown')}, since {note.get('started', 'unknown')}); "
                f"stop it with `kill {note.get('pid', 'PID')}`, {remedy}"
            ) from None
        lock = Lock(file, _read(file) or None)
        lock.note()
        try:
            yield lock
        finally:
            lock.clear()


def _read(file) -> dict[str, str]:
    file.seek(0)
    try:
        return json.loads(file.read() or "{}")
    except ValueError:
        return {}
