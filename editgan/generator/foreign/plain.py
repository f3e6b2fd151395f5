"""Plain data in place of the objects that a pickled network holds, and the functions that build it.

BUILDERS lists every class and function that a file may name. None of them is imported by name from the file.
"""

import argparse
import io
import math
import pickle
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
PERSISTENT = "torch_utils.persistence._reconstruct_persistent_obj"  # builds every module of stylegan2-ada-pytorch
NUMPY_KINDS = "biuf"  # bool, integers, floats; never objects


class Refused(Exception):
    """Why a pickle is not read; the caller adds the file's name."""


@dataclass
class Instance:
    """An object of a foreign class: the arguments it was made from and the state it was given, as plain data."""

    kind: str  # full name of the class
    args: tuple = ()
    state: Any = None


class Pairs(dict):
    """A dictionary of a class of its own (OrderedDict, EasyDict)."""


@dataclass(frozen=True)
class Name:
    """A class or function that the file names."""

    full: str


@dataclass
class Dtype:
    """`numpy.dtype` of a file."""

    code: str
    order: str = "="

    def numpy(self) -> np.dtype:
        """Raises Refused: not a number."""
        try:
            found = np.dtype(self.code)
        except (TypeError, ValueError):
            raise Refused(f"numpy dtype {self.code!r}") from None
        if found.kind not in NUMPY_KINDS:
            raise Refused(f"arrays of {self.code!r} instead of numbers")
        return found.newbyteorder(self.order if self.order in "<>=" else "=")


@dataclass
class Array:
    """`numpy.ndarray` of a file before it has a content."""

    value: np.ndarray = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True)
class Storage:
    """The numbers behind tensors, one-dimensional."""

    values: Tensor


def one_line(error: object, most: int = 160) -> str:
    """The start of a message, without line breaks and what else controls a terminal."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(str(error).split())[:most])


def weights_only(file: Path | BinaryIO) -> Any:
    """Tensors and plain containers; training files also hold their command line. Raises Refused: anything else."""
    try:
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings(action="ignore"):
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        text = str(error)
        name = text.partition("GLOBAL ")[2].split(" ")[0]
        if not name:
            raise Refused(f"damaged file ({one_line(text.rpartition('error: ')[2])}); fetch the file again") from None
        if name == PERSISTENT:
            raise Refused("is a network in torch's format before 1.6; save it with a newer torch") from None
        raise Refused(f"the file asks for {name!r}, which a network does not need; nothing was run") from None
    except Exception as error:  # a damaged file may raise anything
        raise Refused(f"damaged file ({type(error).__name__}: {one_line(error)}); fetch the file again") from None


def checked_keys(keys: Iterable[Any]) -> list[Any]:
    """The keys of a dictionary or set. Raises Refused for others than text, numbers and None.

    Python has no limit of depth when it hashes tuples in tuples: a deep one would end the program.
    """
    found = list(keys)
    if not all(isinstance(key, str | bytes | int | float | None) for key in found):
        raise Refused("damaged pickle (a key that is not text or a number)")
    return found


def numbers(data: bytes, dtype: torch.dtype, count: int) -> Tensor:
    """Little-endian numbers of a storage. Raises Refused: another number of bytes than its count says."""
    size = torch.empty(0, dtype=dtype).element_size()
    if not isinstance(count, int) or len(data) != count * size:
        raise Refused(f"damaged file (a storage of {count} numbers has {len(data)} bytes)")
    return torch.frombuffer(bytearray(data), dtype=dtype) if count else torch.empty(0, dtype=dtype)


def array_of(version: int, shape: tuple, dtype: Any, fortran: bool, data: Any) -> np.ndarray:
    """The state of an ndarray: data are the bytes of its numbers."""
    if isinstance(data, str):  # a pickle of Python 2
        data = data.encode("latin-1")
    if not isinstance(dtype, Dtype) or not isinstance(data, bytes):
        raise Refused("an array that does not hold numbers")
    return np.frombuffer(data, dtype.numpy()).reshape(shape, order="F" if fortran else "C")


def _tensor(_, storage: Any, offset: int, size: tuple, stride: tuple, *rest: Any) -> Tensor:
    if not isinstance(storage, Storage) or min((offset, *size, *stride), default=0) < 0:
        raise Refused("damaged file (a tensor without numbers)")
    last = offset + sum((one - 1) * step for one, step in zip(size, stride, strict=True))
    if 0 in size:
        return torch.empty(size, dtype=storage.values.dtype)
    if max(last + 1, math.prod(size)) > len(storage.values):
        raise Refused("damaged file (a tensor is larger than its storage)")
    return torch.as_strided(storage.values, size, stride, offset)


def _parameter(_, data: Any, *rest: Any) -> Any:
    return data


def _storage(_, data: Any) -> Storage:
    """`torch.storage._load_from_bytes`: the bytes are a file of `torch.save` that holds a storage."""
    if not isinstance(data, bytes):
        raise Refused("damaged pickle (a storage without bytes)")
    loaded = weights_only(io.BytesIO(data))
    if not isinstance(loaded, torch.storage.TypedStorage):
        raise Refused("damaged pickle (a storage of another kind)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TypedStorage is what the file holds
        return Storage(torch.empty(0, dtype=loaded.dtype).set_(loaded.untyped()))


def _dtype(_, code: Any, *rest: Any) -> Dtype:
    return Dtype(code.decode("latin-1") if isinstance(code, bytes) else str(code))


def _scalar(_, dtype: Any, data: Any = b"") -> Any:
    if isinstance(data, str):
        data = data.encode("latin-1")
    if not isinstance(dtype, Dtype) or not isinstance(data, bytes):
        raise Refused("a numpy scalar that is not a number")
    return np.frombuffer(data, dtype.numpy(), 1)[0].item()


def _pairs(_, items: Any = ()) -> Pairs:
    pairs = [(key, value) for key, value in items]
    checked_keys(key for key, _ in pairs)
    return Pairs(pairs)


def _set(_, items: Any = ()) -> set:
    return set(checked_keys(items))


def _encoded(_, text: str, encoding: str = "latin1") -> bytes:
    """`_codecs.encode`: bytes in pickles of protocol 2."""
    if encoding not in ("latin1", "latin-1") or not isinstance(text, str):
        raise Refused(f"text in the encoding {encoding!r}")
    return text.encode("latin-1")


def _not_called(full: str, *args: Any) -> Any:
    raise Refused(f"damaged pickle (it calls {full})")


BUILDERS: dict[str, Callable[..., Any]] = {
    PERSISTENT: lambda full, meta: Instance(full, (meta,)),
    "dnnlib.tflib.network.Network": lambda full, *args: Instance(full, args),
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch.storage._load_from_bytes": _storage,
    "collections.OrderedDict": _pairs,
    "dnnlib.util.EasyDict": _pairs,
    "numpy.dtype": _dtype,
    "numpy.ndarray": _not_called,
    "builtins.set": _set,
    "__builtin__.set": _set,
    "_codecs.encode": _encoded,
    **{f"torch.{name}": _not_called for name in STORAGES},
    **{f"{module}.scalar": _scalar for module in ("numpy.core.multiarray", "numpy._core.multiarray")},
    **{
        f"{module}._reconstruct": lambda full, *args: Array()
        for module in ("numpy.core.multiarray", "numpy._core.multiarray")
    },
}
