"""Who holds what: the processes that lock files and records name, and whether they still live."""

import fcntl
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil

from editgan.runtime.environment import home_project


def checkouts(root: Path) -> list[Path]:
    """The home project and the checkouts under runs/, which share its caches and records."""
    home = home_project(root)
    return [home, *(path for path in home.glob("runs/*") if path.is_dir())]


def pipeline_locks(root: Path) -> list[Path]:
    inside = [path for one in checkouts(root) for path in one.glob("work/pipeline.lock")]
    return [*inside, *home_project(root).glob("runs/*.lock")]


def note_in(lock: Path) -> dict[str, str]:
    """What a lock file says of its holder: a process id, or the note of a pipeline; empty where it says nothing."""
    try:
        text = lock.read_text().strip()
        note = {"pid": str(int(text))} if text.isdigit() else json.loads(text or "{}")
        return note if isinstance(note, dict) else {}
    except (OSError, ValueError):
        return {}


def holder_lives(lock: Path) -> bool:
    """Whether the process that a lock file names still runs; one that is younger than the file is another one."""
    try:
        process = psutil.Process(int(note_in(lock)["pid"]))
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() < lock.stat().st_mtime + 2
    except (psutil.NoSuchProcess, KeyError, ValueError, OSError):
        return False


def at_work(root: Path, stage: str) -> bool:
    return holder_lives(root / "work" / stage / "lock")


def dvc_at_work(root: Path) -> bool:
    """Whether a DVC command runs in a checkout, be it only waiting for its stage."""
    return holder_lives(root / ".dvc" / "tmp" / "lock")


def empty(lock: Path) -> None:
    """Empty a lock file, unless a process has taken the lock since."""
    with lock.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.truncate(0)


def without_dead(content: dict) -> tuple[dict, set[int]]:
    """DVC's list of files in use without entries of dead processes, and the ids of these."""
    dead: set[int] = set()

    def holds(entry: dict) -> bool:
        try:
            alive = any("dvc" in word for word in psutil.Process(entry["pid"]).cmdline())
        except psutil.AccessDenied:
            alive = True
        except psutil.NoSuchProcess:
            alive = False
        if not alive:
            dead.add(entry["pid"])
        return alive

    read = {path: kept for path, entries in content.get("read", {}).items() if (kept := list(filter(holds, entries)))}
    write = {path: entry for path, entry in content.get("write", {}).items() if entry and holds(entry)}
    return {"read": read, "write": write}, dead


def rewrite(path: Path, content: dict) -> None:
    """Write DVC's list while holding the lock under which DVC itself changes it."""
    with path.with_name("rwlock.lock").open("a") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.write_text(json.dumps(content))


def processes_in(root: Path) -> Iterator[tuple[psutil.Process, list[str]]]:
    """Processes that work in a folder, and their command lines."""
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()) == root and process.status() != psutil.STATUS_ZOMBIE:
                yield process, process.cmdline()
        except (psutil.Error, OSError):
            continue


def orphaned(process: psutil.Process) -> bool:
    """Whether a process has been handed over to another session's; one that leads its group was started that way."""
    try:
        foreign = os.getsid(process.pid) != os.getsid(process.ppid())
        return foreign and os.getpgid(process.pid) != process.pid
    except (psutil.NoSuchProcess, ProcessLookupError):
        return False


def answers(url: str) -> bool:
    """Whether a server answers; one that is too busy to do so in time counts as there."""
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return reply.status == 200
    except TimeoutError:
        return True
    except urllib.error.URLError as error:
        return isinstance(error.reason, TimeoutError)
    except (OSError, ValueError):
        return False
