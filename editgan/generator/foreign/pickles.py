"""Read a pickle as plain data. Nothing in the file is called: no class is imported, no function runs.

A pickle is a program for a small stack machine. `pickletools.genops` of the standard library decodes its instructions
without executing them. This module executes the instructions that build containers, numbers, text and bytes. Where the
program names a class or function, only the names in `plain.BUILDERS` are accepted, and each stands for a function
that builds plain data. Any other name is refused.
"""

import io
import pickletools
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from editgan.generator.foreign.plain import (
    BUILDERS,
    STORAGES,
    Array,
    Dtype,
    Instance,
    Name,
    Pairs,
    Refused,
    Storage,
    array_of,
    checked_keys,
    numbers,
    one_line,
)

ZIP_START = b"PK\x03\x04"
COMPRESSED = "damaged file (its entries are compressed)"


def read_pickle(stream: BinaryIO, storages: Callable[[str, torch.dtype, int], Tensor] | None = None) -> Any:
    """The content of a pickle as plain data.

    Args:
        storages: content of a storage by key, dtype and count, for the pickle inside a file of `torch.save`
    Raises:
        Refused: the file asks for a class or function that is not needed for networks, or it is damaged.
    """
    with _damage():
        return _Machine(storages).run(stream)


def read_torch_zip(path: Path) -> Any:
    """The content of a file of `torch.save` as plain data. Raises Refused as `read_pickle`."""
    with _damage(), zipfile.ZipFile(path) as archive:
        folder = pickle_in(archive).removesuffix("data.pkl")

        def content(key: str, dtype: torch.dtype, count: int) -> Tensor:
            return numbers(_stored(archive, f"{folder}data/{key}"), dtype, count)

        return read_pickle(io.BytesIO(_stored(archive, f"{folder}data.pkl")), content)


def torch_zip_program(path: Path) -> bytes:
    """The pickle in a file of `torch.save`. Raises Refused: it is damaged."""
    with _damage(), zipfile.ZipFile(path) as archive:
        return _stored(archive, pickle_in(archive))


def check_zip(path: Path) -> None:
    """Raise Refused if an entry of a file of `torch.save` is compressed or damaged; torch does not look."""
    with _damage(), zipfile.ZipFile(path) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise Refused(COMPRESSED)
        if bad := archive.testzip():
            raise Refused(f"damaged file (entry {bad}); fetch the file again")


def pickle_in(archive: zipfile.ZipFile) -> str:
    """Name of the pickle in a file of `torch.save`. Raises Refused: it has none."""
    names = archive.namelist()
    if any("/code/" in name for name in names):
        raise Refused("is a TorchScript program; give the file of weights that it was made from")
    found = [name for name in names if name.rpartition("/")[2] == "data.pkl"]
    if len(found) != 1:
        raise Refused("is a zip file, but not one of `torch.save`")
    return found[0]


def _stored(archive: zipfile.ZipFile, name: str) -> bytes:
    """An entry, whose CRC is checked. `torch.save` does not compress, so an entry cannot expand beyond the file."""
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        raise Refused(COMPRESSED)
    return archive.read(name)


@contextmanager
def _damage() -> Iterator[None]:
    """What a damaged file makes the standard library or torch raise, as one line."""
    try:
        yield
    except (
        ValueError, LookupError, TypeError, AttributeError, OverflowError, RuntimeError, MemoryError, EOFError, OSError,
        NotImplementedError, zipfile.BadZipFile, struct.error,
    ) as error:  # fmt: skip
        raise Refused(f"damaged file ({type(error).__name__}: {one_line(error)})") from None


class _Machine:
    """The stack machine. `mark` delimits a variable number of arguments."""

    def __init__(self, storages: Callable[[str, torch.dtype, int], Tensor] | None) -> None:
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.storages = storages
        self.loaded: dict[str, Storage] = {}

    def run(self, stream: BinaryIO) -> Any:
        for opcode, argument, _ in pickletools.genops(stream):
            name = opcode.name
            if name == "STOP":
                return self.stack.pop()
            if name in VALUES:
                self.stack.append(argument)
            elif name in CONSTANTS:
                self.stack.append(CONSTANTS[name]())
            elif name in GETS:
                self.stack.append(self.memo[argument])
            elif name in PUTS:
                self.memo[len(self.memo) if name == "MEMOIZE" else argument] = self.stack[-1]
            elif name in ("PROTO", "FRAME"):
                continue
            else:
                step = getattr(self, f"_{name.lower()}", None)
                if step is None:
                    raise Refused(f"uses the pickle instruction {name}, which a network does not need; nothing was run")
                step(argument)
        raise Refused("damaged pickle (it has no end)")

    def _marked(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def _mark(self, _) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def _pop(self, _) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self._marked()

    def _pop_mark(self, _) -> None:
        self._marked()

    def _dup(self, _) -> None:
        self.stack.append(self.stack[-1])

    def _tuple(self, _) -> None:
        items = self._marked()
        self.stack.append(tuple(items))

    def _tuple1(self, _) -> None:
        self.stack[-1:] = [(self.stack[-1],)]

    def _tuple2(self, _) -> None:
        self.stack[-2:] = [(self.stack[-2], self.stack[-1])]

    def _tuple3(self, _) -> None:
        self.stack[-3:] = [(self.stack[-3], self.stack[-2], self.stack[-1])]

    def _list(self, _) -> None:
        items = self._marked()
        self.stack.append(items)

    def _dict(self, _) -> None:
        items = self._marked()
        self.stack.append(dict(zip(checked_keys(items[::2]), items[1::2], strict=True)))

    def _frozenset(self, _) -> None:
        items = self._marked()
        self.stack.append(frozenset(checked_keys(items)))

    def _append(self, _) -> None:
        item = self.stack.pop()
        _list_of(self.stack[-1]).append(item)

    def _appends(self, _) -> None:
        items = self._marked()
        _list_of(self.stack[-1]).extend(items)

    def _additems(self, _) -> None:
        items = self._marked()
        self.stack[-1].update(checked_keys(items))

    def _setitem(self, _) -> None:
        key, value = self.stack[-2:]
        del self.stack[-2:]
        _dict_of(self.stack[-1]).update(zip(checked_keys([key]), [value], strict=True))

    def _setitems(self, _) -> None:
        items = self._marked()
        _dict_of(self.stack[-1]).update(zip(checked_keys(items[::2]), items[1::2], strict=True))

    def _global(self, argument: str) -> None:
        self.stack.append(_allowed(argument.replace(" ", ".", 1)))

    def _stack_global(self, _) -> None:
        module, name = self.stack[-2:]
        del self.stack[-2:]
        self.stack.append(_allowed(f"{module}.{name}"))

    def _reduce(self, _) -> None:
        args, called = self.stack.pop(), self.stack.pop()
        self.stack.append(self._built(called, args))

    _newobj = _reduce

    def _built(self, called: Any, args: Any) -> Any:
        if not isinstance(called, Name) or not isinstance(args, tuple):
            raise Refused("damaged pickle (it calls what is not a function)")
        return BUILDERS[called.full](called.full, *args)

    def _build(self, _) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, Instance):
            target.state = state
        elif isinstance(target, Dtype):
            target.order = state[1]
        elif isinstance(target, Array):
            target.value = array_of(*state)
        elif not isinstance(target, Pairs):  # attributes of a dictionary (`_metadata` of a state dict) are not needed
            raise Refused("damaged pickle (it gives a state to what has none)")

    def _binpersid(self, _) -> None:
        kind, storage, key, _, count = self.stack.pop()
        if self.storages is None or kind != "storage" or not isinstance(storage, Name):
            raise Refused("damaged pickle (a reference to what is not in the file)")
        if key not in self.loaded:
            dtype = STORAGES[storage.full.rpartition(".")[2]]
            self.loaded[key] = Storage(self.storages(key, dtype, count))
        self.stack.append(self.loaded[key])


def _allowed(full: str) -> Name:
    if full not in BUILDERS:
        raise Refused(f"the file asks for {full[:120]!r}, which a network does not need; nothing was run")
    return Name(full)


def _list_of(value: Any) -> list:
    if not isinstance(value, list):
        raise Refused("damaged pickle (it appends to what is not a list)")
    return value


def _dict_of(value: Any) -> dict:
    if not isinstance(value, dict):
        raise Refused("damaged pickle (it sets items of what is not a dictionary)")
    return value


VALUES = {
    "INT", "LONG", "LONG1", "LONG4", "BININT", "BININT1", "BININT2", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE",
    "BINUNICODE8",
}  # fmt: skip
CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}
GETS, PUTS = ("GET", "BINGET", "LONG_BINGET"), ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE")
