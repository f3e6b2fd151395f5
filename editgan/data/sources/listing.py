"""The content of a source: pictures with their attributes, and rejected files with reasons.

Files of a source are not trusted: symbolic links and paths that lead outside its folder are never opened.
"""

import csv
import io
import os
import re
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from editgan.data.archive import Classes
from editgan.data.tables import folded
from editgan.errors import Unusable, UserError

MAX_BYTES = 64 * 2**20  # limit for one file
TOOLS = {  # files and folders that programs leave behind; hidden ones (`.NAME`) need no mention
    "__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "@eadir", "$recycle.bin", "__pycache__",
    "system volume information", "lost+found", "recycler", "#recycle", "@recycle", "#snapshot", "@__thumb",
    "picasa.ini", "ehthumbs_vista.db", "zbthumbnail.info",
}  # fmt: skip
LIKE_MASKS = re.compile(
    r"(.*[ _-])?(masks?|labels?|annotations?|seg|segmentations?|segmentation(class|object))([ _-].*)?"
)


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
    notes: Sequence[str] = ()  # what else the user should know: columns without a use, ignored files


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


class Below(NamedTuple):
    """Files of a folder, sorted; those that cannot be read; and hidden files and files of tools, which do not count."""

    files: list[str]
    rejected: list[Rejected]
    ignored: list[str]


def files_below(root: Path, folder: str) -> Below:
    """All files of a folder; unreadable are links, inaccessible folders and invalid names.

    Raises:
        UserError: the folder does not exist or is a symbolic link.
    """
    if (root / folder).is_symlink():
        raise UserError(f"{root / folder}: is a symbolic link; use the folder itself")
    if not (root / folder).is_dir():
        raise UserError(f"{root / folder}: no such folder; docs/data.md describes the layout")
    found = Below([], [], [])

    def unlisted(error: OSError) -> None:
        place = Path(error.filename).relative_to(root).as_posix()
        found.rejected.append(Rejected(printable(place), f"cannot be listed ({error.strerror})"))

    for directory, folders, names in os.walk(root / folder, onerror=unlisted):
        place = Path(directory).relative_to(root)
        linked = [name for name in folders if os.path.islink(os.path.join(directory, name))]
        found.rejected.extend(Rejected(printable((place / name).as_posix()), "is a symbolic link") for name in linked)
        for file in ((place / name).as_posix() for name in names):
            if left_by_tools(file):
                found.ignored.append(file)
            elif printable(file) == file:
                found.files.append(file)
            else:
                found.rejected.append(Rejected(printable(file), "its name is not valid UTF-8"))
    return Below(*map(sorted, found))


def left_by_tools(file: str) -> bool:
    """Whether a file is hidden or left by a program, or lies in such a folder."""
    return any(part.startswith(".") or part.casefold() in TOOLS for part in PurePosixPath(file).parts)


def ignored_note(ignored: Iterable[str]) -> list[str]:
    """A line that counts ignored files; none if there are none."""
    names = [next(part for part in PurePosixPath(file).parts if left_by_tools(part)) for file in ignored]
    examples = ", ".join(printable(name) for name in sorted(set(names))[:4])
    return [f"ignored {len(names)} hidden files or files of other programs ({examples})"] if names else []


def repeated(remarks: Iterable[tuple[str, str]]) -> list[str]:
    """A line for each kind of remark, given with its file: the first one, and how many more differ in numbers only."""
    kinds: dict[str, list[tuple[str, str]]] = {}
    for file, remark in remarks:
        kinds.setdefault(re.sub(r"\d+", "0", remark), []).append((file, remark))
    lines = []
    for (file, remark), *others in sorted(kinds.values(), key=len, reverse=True):
        lines.append(f"{file}{f' and {len(others)} more' if others else ''}: {remark}")
    return lines


def entry(root: Path, name: str) -> str:
    """An entry of a folder in any letter case; `name` itself if there is none.

    Raises:
        UserError: there are two.
    """
    try:
        found = [one for one in sorted(os.listdir(root)) if folded(one) == name]
    except OSError as error:
        raise UserError(f"{root}: cannot be listed ({error.strerror})") from None
    if len(found) > 1:
        raise UserError(f"{root}: has both {printable(found[0])} and {printable(found[1])}; keep one")
    return found[0] if found else name


def below_single_folders(root: Path, name: str) -> Path:
    """The folder with an entry `name` (any letter case): `root`, or one that is reached through single folders."""
    place = root
    while folded(entry(place, folded(name))) not in map(folded, os.listdir(place)):
        inner = [one for one in place.iterdir() if one.is_dir() and not left_by_tools(one.name)]
        if len(inner) != 1 or inner[0].is_symlink():
            return root
        place = inner[0]
    return place


def like_masks(folder: str) -> bool:
    """Whether a folder is named as people name folders of masks."""
    return LIKE_MASKS.fullmatch(folded(folder)) is not None


def printable(path: str) -> str:
    """A name as text, with a replacement character for each byte that is not valid UTF-8."""
    return os.fsencode(path).decode(errors="replace")


def read_needed(root: Path, file: str) -> bytes:
    """A file that a source cannot do without. Raises UserError if it cannot be read."""
    try:
        return read_file(root, file)
    except Unusable as reason:
        raise UserError(f"{root / file}: {reason}; docs/data.md describes the layout") from None


def read_text(root: Path, file: str) -> str:
    """A text file of the source. Raises UserError if it cannot be read or is not valid UTF-8."""
    try:
        return read_needed(root, file).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{root / file}: is not UTF-8 text ({error})") from None
