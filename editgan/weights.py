"""Tensors on disk: safetensors with constructor arguments in the metadata; equal content gives equal bytes.

Networks are stored in half precision, which halves the size of a clone, and compute in float32.
"""

import hashlib
import itertools
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from editgan.errors import UserError

ModuleT = TypeVar("ModuleT", bound=nn.Module)

# safetensors writes metadata keys in random order; a single key with sorted JSON keeps files byte-identical.
METADATA_KEY = "editgan"
PICKLES = (b"PK\x03\x04", b"\x80")  # how files of torch.save and pickles start


def write_bytes(path: str | Path, data: bytes) -> Path:
    """Write atomically (temporary file, fsync, rename): readers see the old or the new file, never a partial one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(part, 0o644)
        os.replace(part, path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
    return path


def places(path: Path) -> Iterator[Path]:
    """The path, then NAME-2.ext, NAME-3.ext, ... beside it."""
    yield path
    yield from (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(2))


def unused(path: Path) -> Path:
    """The first of its `places` where nothing is."""
    return next(place for place in places(path) if not os.path.lexists(place))


def write_beside(path: Path, content: bytes) -> Path:
    """Write a file and replace none: if there is another one, to NAME-2.ext, ... A file of equal content is kept.

    Prints a line if the name is another one. Returns the path of the file.
    """
    for place in places(path):
        if not os.path.lexists(place):
            write_bytes(place, content)
            break
        if place.is_file() and place.read_bytes() == content:
            break
    if place != path:
        print(f"{path} exists and is kept; this one is {place}", flush=True)
    return place


def write_json(path: str | Path, content: Any) -> Path:
    """Sorted keys, two-space indent, trailing newline. NaN raises ValueError: it is not JSON and hides a failure."""
    return write_bytes(path, (json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n").encode())


def sha256(path: str | Path) -> str:
    """SHA-256 of a file's content, as hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any] | None = None) -> Path:
    """Write named tensors and JSON-serialisable metadata; equal content gives equal bytes."""
    return write_bytes(path, tensor_bytes(tensors, metadata))


def tensor_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any] | None = None) -> bytes:
    """The content of the file that `save_tensors` writes."""
    content = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())}
    return save(content, metadata={METADATA_KEY: json.dumps(dict(metadata or {}), sort_keys=True)})


def read_metadata(path: str | Path) -> dict[str, Any]:
    """The metadata that `save_tensors` wrote; empty for a file without them, or one that is not of this kind."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {}).get(METADATA_KEY, "{}"))
    except (SafetensorError, json.JSONDecodeError, OSError):
        return {}
    return metadata if isinstance(metadata, dict) else {}


def load_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote: (tensors, metadata).

    Raises:
        UserError: the file is missing, truncated or not a safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {}).get(METADATA_KEY, "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118
    except FileNotFoundError as error:
        raise UserError(f"{path}: missing; run the stage that writes it (`dvc repro`) or `dvc pull`") from error
    except (SafetensorError, json.JSONDecodeError, OSError) as error:
        if Path(path).is_file() and read_start(path).startswith(PICKLES):
            fault = "is a pickle or a file of torch.save"
            raise UserError(f"{path}: {fault}; `editgan import generator` converts those of StyleGAN2") from error
        remedy = "if a stage wrote it, delete it and run `dvc checkout` or `dvc repro`; recreate a file of your own"
        raise UserError(f"{path}: damaged ({error}); {remedy}") from error


def read_start(path: str | Path) -> bytes:
    """The first bytes of a file, which tell its kind."""
    with open(path, "rb") as file:
        return file.read(32)


def load_metadata(path: str | Path) -> dict[str, Any]:
    """The metadata that `save_tensors` wrote, without reading the tensors; UserError as `load_tensors`."""
    try:
        with safe_open(path, framework="pt") as file:
            return json.loads((file.metadata() or {}).get(METADATA_KEY, "{}"))
    except (SafetensorError, json.JSONDecodeError, OSError):
        return load_tensors(path)[1]  # which says what is wrong


def save_module(
    path: str | Path,
    module: nn.Module,
    config: Mapping[str, Any],
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Write a network's parameters and buffers in float16, with the constructor arguments `config` to rebuild it.

    After training, stages load the file again and measure the loaded network, so metrics describe the file.

    Raises:
        UserError: a value is NaN, infinite or too large for float16.
    """
    metadata = {**(extra or {}), "class": type(module).__name__, "config": dict(config)}
    return save_halves(path, module.state_dict(), metadata, remedy="lower the learning rate and train again")


def save_halves(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], *, remedy: str) -> Path:
    """`save_tensors` with floating-point tensors in float16, others unchanged.

    Raises:
        UserError: a value is NaN, infinite or beyond 65504; the old file is kept. The message ends with `remedy`.
    """
    halves = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    for name, tensor in halves.items():
        if not tensor.isfinite().all():
            raise UserError(f"{path}: not written, because {name} contains NaN or values beyond 65504; {remedy}")
    return save_tensors(path, halves, metadata)


def load_module(path: str | Path, cls: type[ModuleT]) -> ModuleT:
    """Rebuild a network written by `save_module`: float32, eval mode, frozen, on the CPU.

    Raises:
        UserError: missing or damaged file, another class, or tensors that do not match the class.
    """
    tensors, metadata = load_tensors(path)
    if metadata.get("class") != cls.__name__ or "config" not in metadata:
        raise UserError(
            f"{path}: contains {metadata.get('class', 'no network')!r}, expected {cls.__name__!r}; give a file of that "
            "class, or run the stage that writes this file again"
        )
    try:
        module = cls(**metadata["config"])
        module.load_state_dict(tensors)
    except (TypeError, RuntimeError) as error:
        raise UserError(f"{path}: does not match this version of {cls.__name__} ({error}); train it again") from error
    return module.eval().requires_grad_(False)


def tensors_equal(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    """True if both have the same names and bit-identical tensors."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
