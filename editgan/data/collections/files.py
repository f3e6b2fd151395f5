"""Read the files of a collection in place: from a folder, a .zip or a .tar (also compressed); nothing is unpacked.

Files are not trusted. Non-regular files, names that lead outside or are not valid file names, and files above the size
limit are rejected by name. An archive that unpacks to an excessive size raises an error.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np

from editgan.data.sources.listing import MAX_BYTES, Rejected, files_below, printable, refusal
from editgan.errors import UserError

MAX_FILES = 2_000_000
MAX_ALL_BYTES = 2**38  # limit for all files of an archive, unpacked
MAX_HEADER = 2**20  # limit in bytes for a header of a .tar, which holds a name
MAX_NAME, MAX_PATH = 200, 1000  # limits in bytes of a file name and of a path; output files get the same names
COMPRESSED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}  # by first bytes of the file
DAMAGED = (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, OSError, ValueError)


@dataclass(frozen=True)
class Files:
    """File names with forward slashes, in the order of fastest access, and a function that reads one file."""

    names: list[str]
    rejected: list[Rejected]
    read: Callable[[str], bytes]


@dataclass(frozen=True)
class Found:
    """A photo of a collection, not yet opened."""

    file: str
    person: str
    attributes: dict  # JSON values by name; `smile` 0 to 1 if known
    labels: Callable[[], np.ndarray] | None = None  # class numbers at the photo's size, uint8 [H, W]


@contextmanager
def opened(path: Path) -> Iterator[Files]:
    """The files of a folder or an archive.

    Raises:
        UserError: the path does not exist, is not a supported archive, or exceeds the limits.
    """
    if path.is_dir():
        yield _folder(path)
    elif not path.exists():
        raise UserError(f"{path}: no such file or folder")
    elif zipfile.is_zipfile(path):
        try:
            archive = zipfile.ZipFile(path)
        except DAMAGED as error:
            raise UserError(f"{path}: damaged ({error}); fetch it again") from None
        with archive:
            yield _zip(path, archive)
    else:
        with path.open("rb") as file, decompressed(file) as content:
            yield _tar(path, Headers(content))


def decompressed(file: BinaryIO) -> BinaryIO:
    """The content of a file, decompressed if it is gzip, bzip2 or xz."""
    start = file.read(8)
    file.seek(0)
    return next((unpack(file) for magic, unpack in COMPRESSED.items() if start.startswith(magic)), file)


class Headers:
    """A file object for tarfile; limits each read while `most` is set, since tarfile reads whole headers at once."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.most = file, MAX_HEADER
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        if self.most is not None and size > self.most:
            raise tarfile.ReadError(f"a header of {size / 2**20:.0f} MiB")
        return self.file.read(size)


def leads_out(name: str) -> bool:
    """Whether a name is not a plain relative path."""
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
    members, rejected, total = {}, [], 0
    for entry in archive.infolist():
        if entry.is_dir():
            continue
        kind = stat.S_IFMT(entry.external_attr >> 16)
        name, reason = _named(entry.filename, entry.file_size, members, regular=kind in (0, stat.S_IFREG))
        if entry.flag_bits & 1:
            reason = reason or "is encrypted"
        total = _counted(path, total, entry.file_size, len(members))
        if reason is None:
            members[name] = entry
        else:
            rejected.append(Rejected(name, reason))

    def read(name: str) -> bytes:
        with archive.open(members[name]) as file:
            return _limited(file)

    return Files(list(members), rejected, read)


def _tar(path: Path, content: Headers) -> Files:
    members, rejected, total, archive = {}, [], 0, None
    try:
        archive = tarfile.open(fileobj=content, mode="r:")
        for member in archive:
            if member.isdir():
                continue
            name, reason = _named(member.name, member.size, members, regular=member.isreg())
            total = _counted(path, total, member.size, len(members))
            if reason is None:
                members[name] = member
            else:
                rejected.append(Rejected(name, reason))
    except DAMAGED as error:
        fault = "is neither a folder nor a .zip or .tar archive" if archive is None else "damaged"
        raise UserError(f"{path}: {fault} ({error}); fetch it again") from None
    content.most = None

    def read(name: str) -> bytes:
        with archive.extractfile(members[name]) as file:
            return _limited(file)

    return Files(list(members), rejected, read)


def _named(name: str, size: int, members: dict, *, regular: bool) -> tuple[str, str | None]:
    """The output name of a file, without `./`, and the reason for its rejection, if any."""
    if leads_out(name):
        return printable(name), "its path leads out of the archive"
    if printable(name) != name:
        return printable(name), "its name is not valid UTF-8"
    name = PurePosixPath(name).as_posix()
    if len(name.encode()) > MAX_PATH or any(len(part.encode()) > MAX_NAME for part in name.split("/")):
        return name, f"has a name of more than {MAX_NAME} bytes, or a path of more than {MAX_PATH}"
    if name in members:
        return name, "a second file with this name"
    return name, _reason(size, regular=regular)


def _reason(size: int, *, regular: bool) -> str | None:
    if not regular:
        return "is a link or a device, not a regular file"
    if size > MAX_BYTES:
        return f"has {size / 2**20:.0f} MiB, the limit is {MAX_BYTES // 2**20} MiB"
    return None


def _counted(path: Path, total: int, size: int, files: int) -> int:
    if total + size > MAX_ALL_BYTES or files >= MAX_FILES:
        raise UserError(
            f"{path}: holds more than {MAX_ALL_BYTES // 2**30} GiB or {MAX_FILES:,} files, the limits for a collection"
        )
    return total + size


def _limited(file) -> bytes:
    """The content of a file, limited in size whatever its header says."""
    content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"unpacks to more than {MAX_BYTES // 2**20} MiB")
    return content
