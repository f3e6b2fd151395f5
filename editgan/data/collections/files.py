"""The files of a collection, read where they lie: in a folder, a .zip or a .tar (also compressed); nothing is unpacked.

They are not trusted: what is no regular file, has a name that leads out, or is larger than a picture may be is refused
by name, and an archive that swells without end is given up.
"""

from __future__ import annotations

import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from editgan.data.sources.listing import MAX_BYTES, Rejected, files_below, refusal
from editgan.errors import UserError

MAX_FILES = 2_000_000
MAX_ALL_BYTES = 2**38  # of all files of an archive, unpacked


@dataclass(frozen=True)
class Files:
    """Names with forward slashes, in the order in which they are read fastest, and what reads one."""

    names: list[str]
    rejected: list[Rejected]
    read: Callable[[str], bytes]


@dataclass(frozen=True)
class Found:
    """A photo of a collection, before it is opened."""

    file: str
    person: str
    attributes: dict  # JSON values by name; `smile` 0 to 1 if known
    labels: Callable[[], np.ndarray] | None = None  # class numbers at the photo's size, uint8 [H, W]


@contextmanager
def opened(path: Path) -> Iterator[Files]:
    """The files of a folder or an archive.

    Raises:
        UserError: there is nothing, it is no such archive, or it holds more than any collection does.
    """
    if path.is_dir():
        yield _folder(path)
    elif not path.exists():
        raise UserError(f"{path}: no such file or folder")
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield _zip(path, archive)
    else:
        try:
            archive = tarfile.open(path)
        except (tarfile.TarError, EOFError, OSError) as error:
            raise UserError(f"{path}: is neither a folder nor a .zip or .tar archive ({error})") from None
        with archive:
            yield _tar(path, archive)


def leads_out(name: str) -> bool:
    """Whether a name is no plain relative path."""
    return not name or name.startswith("/") or "\\" in name or "\0" in name or ".." in PurePosixPath(name).parts


def _folder(root: Path) -> Files:
    names, rejected = files_below(root, ".")
    names = [name.removeprefix("./") for name in names]

    def read(name: str) -> bytes:
        reason = refusal(root, name)
        if reason is not None:
            raise ValueError(reason)
        return (root / name).read_bytes()

    return Files(names, [Rejected(file.removeprefix("./"), reason) for file, reason in rejected], read)


def _zip(path: Path, archive: zipfile.ZipFile) -> Files:
    names, rejected, total = [], [], 0
    for entry in archive.infolist():
        if entry.is_dir():
            continue
        kind = stat.S_IFMT(entry.external_attr >> 16)
        reason = _reason(entry.filename, entry.file_size, regular=kind in (0, stat.S_IFREG))
        if entry.flag_bits & 1:
            reason = reason or "is encrypted"
        total = _counted(path, total, entry.file_size, len(names))
        if reason is None:
            names.append(entry.filename)
        else:
            rejected.append(Rejected(entry.filename, reason))

    def read(name: str) -> bytes:
        with archive.open(name) as file:
            return _limited(file)

    return Files(names, rejected, read)


def _tar(path: Path, archive: tarfile.TarFile) -> Files:
    members, rejected, total = {}, [], 0
    try:
        for member in archive:
            if member.isdir():
                continue
            reason = _reason(member.name, member.size, regular=member.isreg())
            total = _counted(path, total, member.size, len(members))
            if reason is None:
                members[member.name] = member
            else:
                rejected.append(Rejected(member.name, reason))
    except (tarfile.TarError, EOFError, OSError) as error:
        raise UserError(f"{path}: damaged ({error}); fetch it again") from None

    def read(name: str) -> bytes:
        with archive.extractfile(members[name]) as file:
            return _limited(file)

    return Files(list(members), rejected, read)


def _reason(name: str, size: int, *, regular: bool) -> str | None:
    if leads_out(name):
        return "its path leads out of the archive"
    if not regular:
        return "is a link or a device, no file"
    if size > MAX_BYTES:
        return f"has {size / 2**20:.0f} MiB, at most {MAX_BYTES // 2**20} are read"
    return None


def _counted(path: Path, total: int, size: int, files: int) -> int:
    if total + size > MAX_ALL_BYTES or files >= MAX_FILES:
        raise UserError(
            f"{path}: holds more than {MAX_ALL_BYTES // 2**30} GiB or {MAX_FILES:,} files; no collection does"
        )
    return total + size


def _limited(file) -> bytes:
    """The content, whatever size its header gives."""
    content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"unpacks to more than {MAX_BYTES // 2**20} MiB")
    return content
