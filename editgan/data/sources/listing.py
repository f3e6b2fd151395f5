"""The content of a source: pictures with their attributes, and rejected files with reasons.

Files of a source are not trusted: symbolic links and paths that lead outside its folder are never opened.
"""

import csv
import io
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from editgan.data.archive import Classes
from editgan.errors import Unusable, UserError

MAX_BYTES = 64 * 2**20  # limit for one file


class Rejected(NamedTuple):
    """A file that is not used; its path is relative to the source."""

    file: str
    reason: str


def rejected_csv(rejected: Sequence[Rejected]) -> bytes:
    """One row per file: file, reason."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([Rejected._fields, *rejected])
    return text.getvalue().encode()


@dataclass(frozen=True)
class Item:
    """One picture. Paths are relative to the source's folder and use forward slashes."""

    file: str
    masks: tuple[tuple[str, int | None], ...] = ()  # (file, label where not black); None: pixel values are labels
    mask_side: int | None = None  # side of the masks in pixels; None: same as the picture
    person: str | None = None
    partition: str | None = None  # train, val or test, if the source defines it
    attributes: dict = field(default_factory=dict)  # JSON values by name


class Listing(NamedTuple):
    """Pictures in a fixed order, not yet opened. An importer lists photos (`Found`) instead of items."""

    items: list
    rejected: list[Rejected]
    classes: Classes


def read_file(root: Path, file: str) -> bytes:
    """Content of a file of the source.

    Raises:
        Unusable: it must not be opened or cannot be read.
    """
    parts = PurePosixPath(file).parts
    if not parts or leads_out(file):
        raise Unusable("its path leads out of the folder")
    path = root
    for part in parts:
        path = path / part
        try:
            found = path.lstat()
        except OSError:
            raise Unusable("no such file") from None
        if stat.S_ISLNK(found.st_mode):
            raise Unusable("is a symbolic link" if part == parts[-1] else f"is behind the symbolic link {part}")
    fault = size_fault(found.st_size) if stat.S_ISREG(found.st_mode) else "is not a regular file"
    if fault is not None:
        raise Unusable(fault)
    try:
        return path.read_bytes()
    except OSError as error:
        raise Unusable(f"cannot be read ({error.strerror})") from None


def leads_out(name: str) -> bool:
    """Whether a name is not a plain relative path."""
    return name.startswith("/") or "\\" in name or "\0" in name or ".." in PurePosixPath(name).parts


def size_fault(size: int) -> str | None:
    return f"has {size / 2**20:.0f} MiB, the limit is {MAX_BYTES // 2**20} MiB" if size > MAX_BYTES else None


def files_below(root: Path, folder: str) -> tuple[list[str], list[Rejected]]:
    """All files of a folder, sorted, and the unreadable ones: links, inaccessible folders, invalid names.

    Raises:
        UserError: the folder does not exist or is a symbolic link.
    """
    if (root / folder).is_symlink():
        raise UserError(f"{root / folder}: is a symbolic link; use the folder itself")
    if not (root / folder).is_dir():
        raise UserError(f"{root / folder}: no such folder; docs/data.md describes the layout")
    files: list[str] = []
    rejected: list[Rejected] = []

    def unlisted(error: OSError) -> None:
        place = Path(error.filename).relative_to(root).as_posix()
        rejected.append(Rejected(printable(place), f"cannot be listed ({error.strerror})"))

    for directory, folders, names in os.walk(root / folder, onerror=unlisted):
        place = Path(directory).relative_to(root)
        linked = [name for name in folders if os.path.islink(os.path.join(directory, name))]
        rejected += [Rejected(printable((place / name).as_posix()), "is a symbolic link") for name in linked]
        for file in ((place / name).as_posix() for name in names):
            if printable(file) == file:
                files.append(file)
            else:
                rejected.append(Rejected(printable(file), "its name is not valid UTF-8"))
    return sorted(files), sorted(rejected)


def printable(path: str) -> str:
    """A name as text, with a replacement character for each byte that is not valid UTF-8."""
    return os.fsencode(path).decode(errors="replace")


def read_text(root: Path, file: str) -> str:
    """A text file of the source. Raises UserError if it cannot be read or is not valid UTF-8."""
    try:
        return read_file(root, file).decode("utf-8-sig")
    except Unusable as reason:
        raise UserError(f"{root / file}: {reason}; docs/data.md describes the layout") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{root / file}: is not UTF-8 text ({error})") from None


def parse_csv(text: str, path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Column names and rows of a table; cells beyond the header are under "", missing ones empty.

    Raises:
        UserError: not a CSV; the message names `path`, from which the text was read.
    """
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey="", restval="")
    try:
        return list(reader.fieldnames or []), list(reader)
    except csv.Error as error:
        raise UserError(f"{path}: is not a CSV ({error})") from None
