"""What a source holds: pictures with what is known of them, and the files that cannot be used, each with its reason.

Files of a source are not trusted: symbolic links and paths that lead out of its folder are never opened.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from editgan.data.archive import Classes
from editgan.errors import UserError

MAX_BYTES = 64 * 2**20  # of one file


class Rejected(NamedTuple):
    """A file that is not used, its path as the source names it."""

    file: str
    reason: str


@dataclass(frozen=True)
class Item:
    """One picture. Paths are relative to the source's folder, with forward slashes."""

    file: str
    masks: tuple[tuple[str, int | None], ...] = ()  # (file, label of what is not black in it); None: its pixel values
    mask_side: int | None = None  # side of the masks in pixels; None: they have the picture's size
    person: str | None = None
    partition: str | None = None  # train, val or test, where the source says
    attributes: dict = field(default_factory=dict)  # JSON values by name


@dataclass(frozen=True)
class Listing:
    """Pictures in a fixed order, before any is opened."""

    items: list[Item]
    rejected: list[Rejected]
    classes: Classes


def refusal(root: Path, file: str) -> str | None:
    """Why a file of the source must not be opened; None where it may be."""
    parts = PurePosixPath(file).parts
    if not parts or file.startswith("/") or ".." in parts or "\\" in file or "\0" in file:
        return "its path leads out of the folder"
    path = root
    for part in parts:
        path = path / part
        try:
            found = path.lstat()
        except OSError:
            return "no such file"
        if stat.S_ISLNK(found.st_mode):
            return "is a symbolic link" if part == parts[-1] else f"lies behind the symbolic link {part}"
    if not stat.S_ISREG(found.st_mode):
        return "is no regular file"
    if found.st_size > MAX_BYTES:
        return f"has {found.st_size / 2**20:.0f} MiB, at most {MAX_BYTES // 2**20} are read"
    return None


def files_below(root: Path, folder: str) -> tuple[list[str], list[Rejected]]:
    """All files of a folder, sorted, and what is in it that cannot be read: linked or closed folders, bad names.

    Raises:
        UserError: there is no such folder, or it is a symbolic link.
    """
    if (root / folder).is_symlink():
        raise UserError(f"{root / folder}: is a symbolic link; put the folder itself there")
    if not (root / folder).is_dir():
        raise UserError(f"{root / folder}: no such folder; docs/data.md describes the layout")
    files: list[str] = []
    rejected: list[Rejected] = []

    def unlisted(error: OSError) -> None:
        place = Path(error.filename).relative_to(root).as_posix()
        rejected.append(Rejected(printable(place), f"cannot be listed ({error.strerror})"))

    for directory, folders, names in os.walk(root / folder, onerror=unlisted):
        place = Path(directory).relative_to(root).as_posix()
        rejected += [
            Rejected(printable(f"{place}/{name}"), "is a symbolic link")
            for name in folders
            if os.path.islink(os.path.join(directory, name))
        ]
        for name in names:
            file = f"{place}/{name}"
            if printable(file) == file:
                files.append(file)
            else:
                rejected.append(Rejected(printable(file), "its name is no UTF-8"))
    return sorted(files), sorted(rejected)


def printable(path: str) -> str:
    """A name as text, with a mark for each byte that is no UTF-8."""
    return os.fsencode(path).decode(errors="replace")


def read_text(root: Path, file: str) -> str:
    """A text file of the source.

    Raises:
        UserError: it must not be opened (`refusal`) or is no UTF-8.
    """
    reason = refusal(root, file)
    if reason is not None:
        raise UserError(f"{root / file}: {reason}; docs/data.md describes the layout")
    try:
        return (root / file).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{root / file}: is no UTF-8 text ({error})") from None
