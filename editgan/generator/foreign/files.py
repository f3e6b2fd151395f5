"""Read a generator that another program trained, whatever its format, and write it in this project's format."""

import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from editgan.errors import UserError
from editgan.generator.foreign import nvidia, rosinality, tensorflow
from editgan.generator.foreign.networks import Networks
from editgan.generator.foreign.pickles import ZIP_START, check_zip, read_pickle, read_torch_zip, torch_zip_program
from editgan.generator.foreign.plain import PERSISTENT, Refused, one_line, weights_only
from editgan.weights import load_tensors, save_tensors, sha256, tensors_equal

OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # start of files of `torch.save` before torch 1.6
MODULES = PERSISTENT.partition(".")[0].encode()  # in every pickle of NVIDIA's modules, whatever its protocol
LONGEST = 500  # characters of a message, which may contain names from the file
NOT_NETWORKS = {
    b"<": "is a web page, not a network: the download failed; fetch the file again",
    b"version https://git-lfs": "is a pointer of Git LFS, not the network itself; run `git lfs pull`",
    b"\x89PNG": "is a picture, not a network",
    b"\x1f\x8b": "is compressed with gzip; unpack it first",
}
LICENCE = (
    "The licence of these weights is that of {name}, not of this project. NVIDIA's weights, also converted ones, are"
    " for non-commercial use only. Whoever passes the weights on must pass on their licence."
)


@dataclass(frozen=True)
class Imported:
    """What was written, for the user."""

    G_ema: Path
    D: Path | None
    lines: list[str]


def read_networks(path: Path) -> Networks:
    """The networks of a file. No code in the file is run.

    Supported: NVIDIA's .pkl (PyTorch and TensorFlow), `torch.save` of NVIDIA's Generator, and rosinality's .pt with its
    relatives (`editgan.generator.foreign.rosinality`).

    Raises:
        UserError: the file is missing, damaged, of another kind, or has a network that cannot be represented exactly.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; give a .pkl of NVIDIA or a .pt of rosinality's layout")
    try:
        with path.open("rb") as file:
            start = file.read(32)
        if not start:
            raise Refused("is empty: the download failed; fetch the file again")
        for magic, fault in NOT_NETWORKS.items():
            if start.lstrip().startswith(magic):
                raise Refused(fault)
        if start[8:9] == b"{":
            raise Refused("is a safetensors file; generators of this project need no import")
        if start.startswith(ZIP_START):
            program = torch_zip_program(path)
            check_zip(path)
            if MODULES in program:
                return nvidia.networks_of(read_torch_zip(path))
        if start.startswith((ZIP_START, OLD_TORCH)):
            return rosinality.networks_of(weights_only(path))
        return _of_pickle(path)
    except Refused as reason:
        raise UserError(f"{path}: {one_line(reason, LONGEST)}") from None
    except (
        RuntimeError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, MemoryError, OSError,
    ) as error:  # fmt: skip
        raise UserError(f"{path}: damaged or of an unknown kind ({one_line(error)}); fetch the file again") from None


def _of_pickle(path: Path) -> Networks:
    """Networks of a pickle that is not in a zip. It is mapped: a damaged length cannot request more than the file."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        data = read_pickle(content)
    if tensorflow.holds_networks(data):
        return tensorflow.networks_of(data)
    return nvidia.networks_of(data)


def weights_of(path: Path) -> Any:
    """The content of a file of `torch.save`: tensors and plain containers; nothing else is read.

    Raises:
        UserError: missing, damaged, or it asks for a class or function.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        with path.open("rb") as file:
            if file.read(len(ZIP_START)) == ZIP_START:
                check_zip(path)
        return weights_only(path)
    except Refused as reason:
        raise UserError(f"{path}: {one_line(reason, LONGEST)}") from None


def source_of(path: Path, networks: Networks) -> dict[str, Any]:
    """The entry `imported` of the metadata: file name, hash, format, licence note and notes of the conversion."""
    return {
        "file": path.name,
        "sha256": sha256(path),
        "format": networks.format,
        "licence": LICENCE.format(name=path.name),
        "notes": networks.notes,
    }


def save_networks(networks: Networks, source: Mapping[str, Any], folder: Path) -> tuple[Path, Path | None]:
    """Write G_ema.safetensors, and D.safetensors if there is one, in float32: imported weights are kept exactly.

    Raises:
        UserError: the folder has other networks, which are kept.
    """
    written: list[Path | None] = []
    pairs = [("G_ema", networks.G_ema), ("D", networks.D)]
    for name, network in pairs:
        path = folder / f"{name}.safetensors"
        if path.exists() and not _holds(path, network):
            raise UserError(f"{path}: exists and is another network; give another folder, or remove it first")
    for name, network in pairs:
        if network is None:
            written.append(None)
            continue
        metadata = {"class": type(network).__name__, "config": network.config, "imported": dict(source)}
        written.append(save_tensors(folder / f"{name}.safetensors", network.state_dict(), metadata))
    return written[0], written[1]


def _holds(path: Path, network: torch.nn.Module | None) -> bool:
    """Whether a file has this network: the same weights, and the same settings (conv_clamp, mbstd_group)."""
    if network is None:
        return False
    tensors, metadata = load_tensors(path)
    return metadata.get("config") == network.config and tensors_equal(tensors, network.state_dict())


def import_generator(path: Path, folder: Path) -> Imported:
    """Read a file and write its networks to a folder of outputs, FOLDER/generator.

    Raises:
        UserError: as `read_networks` and `save_networks`.
    """
    networks = read_networks(path)
    source = source_of(path, networks)
    G_ema, D = save_networks(networks, source, folder / "generator")
    return Imported(G_ema, D, [*described(networks), *networks.notes, source["licence"]])


def described(networks: Networks) -> list[str]:
    """Resolution, widths, parameters and w_avg, one line each."""
    G = networks.G_ema
    sides, widths = G.synthesis.block_resolutions, G.feature_channels[::2]
    lines = [
        f"{networks.format}, {G.img_resolution} px, {G.num_ws} rows of W+ with {G.w_dim} entries",
        "widths of G: " + ", ".join(f"{width} at {side}" for side, width in zip(sides, widths, strict=True)),
        f"parameters: G {_parameters(G):,}" + (f", D {_parameters(networks.D):,}" if networks.D else ", no D"),
        f"w_avg: mean {float(G.w_avg.mean()):.4f}, standard deviation {float(G.w_avg.std()):.4f}",
    ]
    if "conv_clamp" in G.config:
        lines.append(f"conv_clamp: {G.config['conv_clamp']:g}")
    return lines


def _parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
