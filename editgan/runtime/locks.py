"""Who holds what: locks with a note of their holder, and whether the processes that notes name still live."""

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
    """Hold a lock file; a note beside it says who holds it. Yields the note of a holder that was killed, {} of none.

    The kernel drops the lock when its holder ends in whatever way. A clean end deletes the note.

    Args:
        fault: what to say of another process that holds it; {pid} and {started} stand for its number and its start.
        facts: what else the note says.

    Raises UserError: another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock, note = FileLock(path), note_beside(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        holder = {"pid": "unknown", "started": "unknown"} | note_in(note)
        raise UserError(f"{path}: {fault.format(**holder)}") from None
    try:
        left = note_in(note)
        note.write_text(json.dumps({"pid": str(os.getpid()), "started": time.strftime("%Y-%m-%d %H:%M:%S"), **facts}))
        yield left
    finally:
        note.unlink(missing_ok=True)
        lock.release()


def note_beside(lock: Path) -> Path:
    return lock.with_name(f"{lock.name}.json")


def note_in(file: Path) -> dict[str, str]:
    """What a file says of a holder: a note, or a process number alone as DVC writes it; {} where it says nothing."""
    try:
        text = file.read_text().strip()
        note = {"pid": text} if text.isdigit() else json.loads(text or "{}")
        return note if isinstance(note, dict) else {}
    except (OSError, ValueError):
        return {}


def holder_lives(file: Path) -> bool:
    """Whether the process that a file names still runs; one that is younger than the file is another one."""
    try:
        process = psutil.Process(int(note_in(file)["pid"]))
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() < file.stat().st_mtime + 2
    except (psutil.NoSuchProcess, KeyError, ValueError, OSError):
        return False


def at_work(root: Path, stage: str) -> bool:
    return holder_lives(note_beside(root / "work" / stage / "lock"))


def dvc_at_work(root: Path) -> bool:
    """Whether a DVC command runs in a checkout, be it only waiting for its stage."""
    return holder_lives(root / ".dvc" / "tmp" / "lock")


def checkouts(root: Path) -> list[Path]:
    """The home project and the checkouts under runs/, which share its caches and records."""
    home = home_project(root)
    return [home, *(path for path in home.glob("runs/*") if path.is_dir())]
