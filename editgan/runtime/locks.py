"""Locks with a note that names their holder, and checks whether a holder is still running."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from editgan.errors import UserError
from editgan.runtime.environment import home_project


@contextmanager
def held(path: Path, fault: str, **facts: str) -> Iterator[dict[str, str]]:
    """Hold a lock file, with a note of the holder beside it. Yields the note of a killed holder, {} if there is none.

    The kernel releases the lock when its holder ends. A clean end deletes the note.

    Args:
        fault: error message if another process holds it, with {pid} and {started} for its process id and start.
        facts: further entries of the note.

    Raises UserError: another process holds it.
    """
    note = note_beside(path)
    with held_briefly(path, fault):
        try:
            left = note_in(note)
            start = time.strftime("%Y-%m-%d %H:%M:%S")
            note.write_text(json.dumps({"pid": str(os.getpid()), "started": start, **facts}))
            yield left
        finally:
            note.unlink(missing_ok=True)


@contextmanager
def held_briefly(path: Path, fault: str) -> Iterator[None]:
    """Hold a lock file, but leave the note of a killed holder as it is. Raises UserError: another process holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        holder = {"pid": "unknown", "started": "unknown"} | note_in(note_beside(path))
        raise UserError(f"{path}: {fault.format(**holder)}") from None
    try:
        yield
    finally:
        lock.release()


def note_beside(lock: Path) -> Path:
    return lock.with_name(f"{lock.name}.json")


def note_in(file: Path) -> dict[str, str]:
    """The note of a holder; {} if there is none or it is damaged."""
    try:
        note = json.loads(file.read_text())
        return note if isinstance(note, dict) else {}
    except (OSError, ValueError):
        return {}


def holder_lives(file: Path) -> bool:
    """Whether the process in a file is running. A process that is younger than the file is another one."""
    try:
        process = psutil.Process(int(note_in(file)["pid"]))
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() < file.stat().st_mtime + 2
    except (psutil.NoSuchProcess, KeyError, ValueError, OSError):
        return False


def at_work(root: Path, stage: str) -> bool:
    return holder_lives(note_beside(root / "work" / stage / "lock"))


def checkouts(root: Path) -> list[Path]:
    """The home project and its checkouts in runs/."""
    home = home_project(root)
    return [home, *(path for path in home.glob("runs/*") if path.is_dir())]
