"""Where a run comes from, as tags of its record: the commit, and the process that makes it."""

import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

import psutil


def git_tags(root: Path) -> dict[str, str]:
    """Commit of a checkout, and whether its files differ from it, as tags of a run."""

    def git(*arguments: str) -> str:
        command = ("git", "-C", root, *arguments)
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        # What runs write themselves (DVC removes outputs before it runs a stage) does not make the code another one.
        dirty = bool(git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!outputs", ":!dvc.lock"))
        return {"mlflow.source.git.commit": git("rev-parse", "HEAD"), "git_dirty": str(dirty).lower()}
    except (OSError, subprocess.CalledProcessError):
        return {"git_dirty": "unknown"}


def process_tags() -> dict[str, str]:
    """Machine, process and the time it was started."""
    process = psutil.Process()
    return {"host": socket.gethostname(), "pid": str(process.pid), "process_start": f"{process.create_time():.0f}"}


def is_dead(tags: Mapping[str, str]) -> bool:
    """Whether a process of this machine is gone; a process id alone may belong to a newer one."""
    if tags.get("host") != socket.gethostname():
        return False
    try:
        return abs(psutil.Process(int(tags["pid"])).create_time() - float(tags["process_start"])) >= 2
    except (psutil.NoSuchProcess, KeyError, ValueError):
        return True
