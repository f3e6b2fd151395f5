"""What every reader returns, and the checks that all formats share."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from editgan.generator.discriminator import Discriminator
from editgan.generator.foreign.plain import Refused, one_line
from editgan.generator.generator import Generator, channels_at, resolutions_of
from editgan.generator.layers import FIR_TAPS, fir_kernel

FILTER = "resample_filter"


@dataclass
class Networks:
    """The networks of a file, with their weights in float32."""

    G_ema: Generator
    D: Discriminator | None
    format: str  # e.g. "stylegan2-ada-pytorch .pkl"
    notes: list[str] = field(default_factory=list)  # what a user should know about the conversion

    def __post_init__(self) -> None:
        sides = [network.config["img_resolution"] for network in (self.G_ema, self.D) if network is not None]
        if len(set(sides)) > 1:
            raise Refused("G is of {} px, but D of {} px".format(*sides))


@dataclass
class Described:
    """A network of a file before it is built: constructor arguments, and tensors by our names."""

    config: dict[str, Any]
    tensors: dict[str, Tensor]


def built(kind: type[nn.Module], described: Described) -> Any:
    """The network, in eval mode, frozen.

    Raises:
        Refused: names or shapes of the tensors are not those of the network, or a weight is not finite.
    """
    letter = "G" if kind is Generator else "D"
    try:
        if not 0 < described.config.get("num_mapping_layers", 1) <= len(described.tensors):  # many take long to build
            raise ValueError("no mapping layers, or more layers than weights")
        with torch.device("meta"):  # no random initialisation
            network = kind(**described.config)
        expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    except (ValueError, TypeError, RuntimeError, ArithmeticError) as error:
        raise Refused(f"{letter} has impossible sizes {described.config} ({one_line(error)})") from None
    found = {name: tuple(tensor.shape) for name, tensor in described.tensors.items()}
    for fault, names in (
        ("lacks", expected.keys() - found.keys()),
        ("has the unknown weights", found.keys() - expected.keys()),
        ("has other shapes than its sizes say:", {name for name in expected if found.get(name) != expected[name]}),
    ):
        if names:
            listed = sorted(names)
            more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
            shapes = [f"{name} {list(found.get(name, expected.get(name)))}" for name in listed[:3]]
            raise Refused(f"{letter} {fault} {', '.join(shapes)}{more}; its sizes are {described.config}")
    for name, tensor in described.tensors.items():
        if tensor.is_complex():
            raise Refused(f"{letter}: {name} has complex values")
    tensors = {name: tensor.float() for name, tensor in described.tensors.items()}
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise Refused(f"{letter}: {name} has values that are NaN or infinite")
    network.load_state_dict(tensors, assign=True)
    return network.eval().requires_grad_(False)


def without_filters(tensors: Mapping[str, Tensor], suffix: str, *, gain: float = 1.0) -> dict:
    """The tensors without the low-pass filters, which are constants here.

    Args:
        suffix: last part of their names
        gain: factor that the format has applied to the filter
    Raises:
        Refused: the filter is not the outer product of [1, 3, 3, 1].
    """
    kept = {}
    for name, tensor in tensors.items():
        if name.rpartition(".")[2] != suffix:
            kept[name] = tensor
            continue
        ours = fir_kernel(gain=gain, like=torch.empty(1, 1))[0, 0]  # [4, 4]
        if tensor.shape != ours.shape or not torch.allclose(tensor.float(), ours, atol=1e-6):
            taps = [int(tap) for tap in FIR_TAPS]
            raise Refused(f"{name} is not the low-pass filter of the taps {taps} with the gain {gain:g}")
    return kept


def only(what: str, found: Any, allowed: Any) -> None:
    """Raise Refused unless a setting has the one value that this project's networks implement."""
    if found != allowed:
        raise Refused(f"{what} is {found!r}; only {allowed!r} is supported")


def limit(clamp: Any, letter: str) -> dict[str, float]:
    """The argument `conv_clamp`, if the file has one. Raises Refused: it is not a positive number."""
    if clamp is None:
        return {}
    if isinstance(clamp, bool) or not isinstance(clamp, int | float) or not 0 < clamp < math.inf:
        raise Refused(f"{letter}: conv_clamp is {clamp!r}; only a positive number or None is supported")
    return {"conv_clamp": float(clamp)}


def group_size(group: Any) -> int | None:
    """The argument `mbstd_group`; None: the whole batch. Raises Refused: it is not a positive number."""
    if group is not None and (not isinstance(group, int) or group < 1):
        raise Refused(f"D: mbstd_group_size is {group!r}; only a positive number or None is supported")
    return group


def channels_from(widths: Mapping[int, int], letter: str) -> dict[str, int]:
    """`channel_base` and `channel_max` of the widths by resolution. Raises Refused: no such pair gives them."""
    largest = max(widths)
    base, most = widths[largest] * largest, max(widths.values())
    if any(width != channels_at(resolution, base, most) for resolution, width in widths.items()):
        raise Refused(f"{letter} has the widths {dict(widths)}, not min(channel_base / resolution, channel_max)")
    return {"channel_base": base, "channel_max": most}


def resolutions(highest: int, letter: str) -> list[int]:
    """4, 8, ... highest. Raises Refused: not a power of two."""
    try:
        return resolutions_of(highest)
    except ValueError as error:
        raise Refused(f"{letter}: {error}") from None
