"""Read the files of a collection in place: from a folder, a .zip or a .tar (also compressed); nothing is unpacked.

Files are not trusted. Non-regular files, names that lead outside or are not valid file names, and files above the size
limit are rejected by name. An archive that unpacks to an excessive size raises an error.
"""

import bz2
import gzip
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np

from editgan.data.sources.listing import (
    MAX_BYTES,
    Rejected,
    Unusable,
    files_below,
    leads_out,
    left_by_tools,
    printable,
    read_file,
    size_fault,
)
from editgan.errors import UserError

MAX_FILES = 2_000_000
MAX_ALL_BYTES = 2**38  # limit for all files of an archive, unpacked
MAX_HEADER = 2**20  # limit in bytes for a header of a .tar, which holds a name
MAX_NAME, MAX_PATH = 200, 1000  # limits in bytes of a file name and of a path; output files get the same names
COMPRESSED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}  # by first bytes of the file
NOT_REGULAR = "is a link or a device, not a regular file"
ENCRYPTED = "is encrypted"
DAMAGED = (
    tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, struct.error, EOFError, OSError, ValueError,
    NotImplementedError, OverflowError,
)  # fmt: skip


@dataclass(frozen=True)
class Files:
    """File names with forward slashes, in the order of fastest access, and a function that reads one file.

    `ignored` are hidden files and files of other programs. `read` raises Unusable if a file cannot be read.
    """

    path: Path  # of the folder or archive
    names: list[str]
    rejected: list[Rejected]
    ignored: list[str]
    read: Callable[[str], bytes]

    def read_needed(self, name: str) -> bytes:
        """A file that the import cannot do without. Raises UserError, which names it, if it cannot be read."""
        try:
            return self.read(name)
        except Unusable as reason:
            raise UserError(f"{self.path}: its file {name} {reason}") from None

    def text(self, name: str) -> str:
        """The text of such a file, without a byte-order mark. Raises UserError if it is not UTF-8."""
        try:
            return self.read_needed(name).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise UserError(f"{self.path}: its file {name} is not UTF-8 text ({error}); save it in UTF-8") from None


@dataclass(frozen=True)
class Found:
    """A photo of a collection, not yet opened."""

    file: str
    person: str
    attributes: dict  # JSON values by name; `smile` 0 to 1 if known
    labels: Callable[[], np.ndarray] | None = None  # class numbers at the photo's size, uint8 [H, W]
    remarks: list[str] = field(default_factory=list)  # on how its files were read


@contextmanager
def opened(path: Path) -> Iterator[Files]:
    """The files of a folder or an archive.

    Raises:
        UserError: the path does not exist, is not a supported archive, or exceeds the limits.
    """
    if path.is_dir():
        names, rejected, ignored = files_below(path, ".")
        yield Files(path, names, rejected, ignored, partial(read_file, path))
        return
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    with path.open("rb") as file:
        try:
            if zipfile.is_zipfile(path):
                files = _zip(path, zipfile.ZipFile(file))
            else:
                files = _tar(path, Headers(decompressed(file)))
        except DAMAGED as error:
            raise UserError(f"{path}: damaged ({error}); fetch it again") from None
        yield files


def decompressed(file: BinaryIO) -> BinaryIO:
    """The content of a file, decompressed if it is gzip, bzip2 or xz."""
    start = file.read(8)
    file.seek(0)
    return next((unpack(file) for magic, unpack in COMPRESSED.items() if start.startswith(magic)), file)


def content_of(path: Path) -> bytes:
    """A table that was given beside a collection. Raises UserError if it cannot be read, or is too large."""
    try:
        if fault := size_fault(path.stat().st_size):
            raise UserError(f"{path}: {fault}")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


class Headers:
    """A file object for tarfile; limits each read while `most` is set, since tarfile reads whole headers at once."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.most = file, MAX_HEADER
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        if self.most is not None and size > self.most:
            raise tarfile.ReadError(f"a header of {size / 2**20:.0f} MiB")
        return self.file.read(size)


def _zip(path: Path, archive: zipfile.ZipFile) -> Files:
    entries = []
    for entry in archive.infolist():
        regular = stat.S_IFMT(entry.external_attr >> 16) in (0, stat.S_IFREG)
        fault = NOT_REGULAR if not regular else ENCRYPTED if entry.flag_bits & 1 else None
        name = utf8_name(entry).replace("\\", "/")  # which programs for Windows write, against the format
        if not name.endswith("/"):
            entries.append((name, entry.file_size, fault, entry))
    if entries and all(fault == ENCRYPTED for _, _, fault, _ in entries):
        raise UserError(f"{path}: is encrypted; unpack it with its password and give the folder")
    return _archive(path, entries, archive.open)


def utf8_name(entry: zipfile.ZipInfo) -> str:
    """The name of an entry; programs that write UTF-8 without marking it so are understood."""
    if not entry.flag_bits & 0x800:
        with suppress(UnicodeError):
            return entry.filename.encode("cp437").decode()
    return entry.filename


def _tar(path: Path, content: Headers) -> Files:
    try:
        archive = tarfile.open(fileobj=content, mode="r:")
    except DAMAGED as error:
        fault = "is neither a folder nor a .zip or .tar archive"
        raise UserError(f"{path}: {fault} ({error}); fetch it again, or unpack it and give the folder") from None
    entries = (
        (member.name, member.size, None if member.isreg() else NOT_REGULAR, member)
        for member in archive
        if not member.isdir()
    )
    files = _archive(path, entries, archive.extractfile)
    content.most = None
    return files


def _archive(
    path: Path, entries: Iterable[tuple[str, int, str | None, Any]], open_entry: Callable[[Any], BinaryIO]
) -> Files:
    """Files of an archive; an entry is a name, a size, a fault or None, and what `open_entry` takes."""
    members, rejected, ignored, total = {}, [], [], 0
    for name, size, fault, entry in entries:
        total += size
        if total > MAX_ALL_BYTES or len(members) >= MAX_FILES:
            limits = f"{MAX_ALL_BYTES // 2**30} GiB or {MAX_FILES:,} files"
            raise UserError(f"{path}: holds more than {limits}, the limits for a collection")
        reason = name_fault(name)
        name = PurePosixPath(name).as_posix() if reason is None else printable(name)
        if reason is None and left_by_tools(name):
            ignored.append(name)
            continue
        if reason is None and name in members:
            reason = "a second file with this name"
        reason = reason or fault or size_fault(size)
        if reason is None:
            members[name] = entry
        else:
            rejected.append(Rejected(name, reason))

    def read(name: str) -> bytes:
        try:
            with open_entry(members[name]) as file:
                content = file.read(MAX_BYTES + 1)  # whatever its header says
        except (*DAMAGED, RuntimeError) as error:  # zipfile raises RuntimeError for ciphers that it does not know
            raise Unusable(f"cannot be read ({error})") from None
        if len(content) > MAX_BYTES:
            raise Unusable(f"unpacks to more than {MAX_BYTES // 2**20} MiB")
        return content

    return Files(path, list(members), rejected, ignored, read)


def name_fault(name: str) -> str | None:
    """Why no file may have this name; None if it may."""
    if not name or leads_out(name):
        return "its path leads out of the archive"
    if printable(name) != name:
        return "its name is not valid UTF-8"
    if len(name.encode()) > MAX_PATH or any(len(part.encode()) > MAX_NAME for part in name.split("/")):
        return f"has a name of more than {MAX_NAME} bytes, or a path of more than {MAX_PATH}"
    return None
