"""What around the project can make a run fail: its path, its folders, temporary files, git, servers.

Checked before anything is computed. What can be put right without the user is put right in `environment`; `notes` says
what that was.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from editgan.errors import UserError
from editgan.runtime.environment import LONG_TMPDIR, TMPDIR_BYTES, answers, home_project, named_user, private_home

# In a path, DVC's settings read these as lists, comments and quotes, its progress bars format braces, and MLflow's
# database address ends at `?`.
UNFIT = ",#?\"'{}\n\r"
SHARED_MEMORY = Path("/dev/shm")


class Fault(NamedTuple):
    """What is wrong, and what the user can do."""

    what: str
    remedy: str


def refuse(root: Path, *, pipeline: bool = False) -> None:
    """Raises UserError, which names the first fault, if a stage (or the pipeline) cannot run here."""
    if found := faults(root, pipeline=pipeline):
        raise UserError(f"{found[0].what}; {found[0].remedy}")


def faults(root: Path, *, pipeline: bool = False) -> list[Fault]:
    """What would make a stage fail. With `pipeline`, also what would make DVC or Prefect fail."""
    found = [*_path(root), *_folders(root), *_temporary(), *_shared_memory()]
    return [*found, *_repository(root), *_prefect()] if pipeline else found


def notes(root: Path) -> list[str]:
    """What the project's environment replaces, because it cannot be used."""
    said = []
    home = private_home(root)
    if os.environ.get("HOME") == str(home):
        said.append(f"HOME is not a folder that can be written to; programs use {home} instead")
    if not named_user():
        said.append(f"user id {os.getuid()} has no name; programs see {os.environ.get('USER')}")
    if given := os.environ.get(LONG_TMPDIR):
        said.append(f"TMPDIR {given} is too long for sockets; {tempfile.gettempdir()} is used instead")
    return said


def _path(root: Path) -> list[Fault]:
    unfit = sorted(set(str(root)) & set(UNFIT))
    try:
        str(root).encode()
    except UnicodeEncodeError:
        unfit.append("bytes that are not UTF-8")
    if not unfit:
        return []
    named = " and ".join(repr(one) if len(one) == 1 else one for one in unfit)
    remedy = "move the project to a path without it (blanks and letters of all languages are fine)"
    return [Fault(f"the project's path {str(root)!r} contains {named}, which DVC or MLflow cannot read", remedy)]


def _folders(root: Path) -> list[Fault]:
    home = home_project(root)
    for folder in dict.fromkeys((root, root / "work", root / "outputs", home, home / ".cache")):
        if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK):
            owner = folder.stat().st_uid
            remedy = "give yourself the right to write there, or copy the project to a folder of yours"
            return [
                Fault(f"{folder}: cannot be written to (it belongs to user {owner}, you are {os.getuid()})", remedy)
            ]
    return []


def _temporary() -> list[Fault]:
    remedy = "set TMPDIR to a folder with a short path that you can write to, e.g. /tmp"
    try:
        folder = tempfile.gettempdir()
    except FileNotFoundError:
        return [Fault("there is no folder for temporary files", remedy)]
    size = len(os.fsencode(folder))
    if size > TMPDIR_BYTES:
        limit = f"has {size} bytes, and the sockets of its processes allow {TMPDIR_BYTES}"
        return [Fault(f"the path of the folder for temporary files, {folder}, {limit}", remedy)]
    return []


def _shared_memory() -> list[Fault]:
    if Path("/proc").is_dir() and not (SHARED_MEMORY.is_dir() and os.access(SHARED_MEMORY, os.W_OK)):
        remedy = "mount it (`mount -t tmpfs tmpfs /dev/shm`; containers have it unless it was removed)"
        return [Fault(f"{SHARED_MEMORY} is missing or cannot be written to, and processes need it for locks", remedy)]
    return []


def _repository(root: Path) -> list[Fault]:
    if shutil.which("git") is None:
        return [Fault("git is not on PATH, and DVC needs it", "install it")]
    command = ["git", "-C", str(root), "rev-parse", "--show-toplevel"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"LC_ALL": "C"})
    if "dubious ownership" in done.stderr:
        remedy = f"`git config --global --add safe.directory '{root}'` if you trust it, or change its owner"
        return [Fault(f"{root}: belongs to another user, so git and DVC refuse it", remedy)]
    if done.returncode or Path(done.stdout.removesuffix("\n")).resolve() != root.resolve():
        remedy = f"clone the project, or run `git init && git add -A && git commit -m copy` in {root}"
        return [Fault(f"{root}: is not a git repository, which DVC needs (a download without .git?)", remedy)]
    return []


def _prefect() -> list[Fault]:
    url = os.environ.get("PREFECT_API_URL")
    if url and not answers(f"{url.rstrip('/')}/health", if_busy=True):
        remedy = "start that server, correct the address, or unset PREFECT_API_URL: then a server is started"
        return [Fault(f"PREFECT_API_URL {url} does not answer", remedy)]
    return []
