"""Chooses the precision that trains faster on this machine, by measuring if necessary."""

import functools
import json
import platform
import time
from pathlib import Path

import torch
from torch import nn

from editgan.runtime.environment import home_project
from editgan.weights import write_json


@functools.cache
def choose_precision(device: torch.device, wanted: str = "auto") -> str:
    """ "float32" or "bfloat16" for forward and backward passes of training.

    With "auto": bfloat16 on GPUs that support it and on CPUs with AMX, float32 on CPUs without AVX512-BF16. CPUs with
    AVX512-BF16 but no AMX are measured for a second, because bfloat16 is slower on some; it must be 1.2 times as fast.
    The result is stored in .cache/precision.json, so that all runs on a machine use the same precision.
    """
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    if torch.cpu._is_amx_tile_supported() or not torch.cpu._is_avx512_bf16_supported():
        return "bfloat16" if torch.cpu._is_amx_tile_supported() else "float32"
    path, machine = home_project() / ".cache" / "precision.json", f"{_processor()}, torch {torch.__version__}"
    try:
        known = json.loads(path.read_text())
    except (OSError, ValueError):
        known = {}
    if machine not in known:
        known[machine] = "bfloat16" if _relative_time_of_bfloat16() * 1.2 < 1 else "float32"
        write_json(path, known)
    return known[machine]


def _processor() -> str:
    """The processor's name in Linux."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _relative_time_of_bfloat16() -> float:
    """Time of a forward and backward pass, relative to float32: the mean of two layers, each of which stands for about
    half of a training step: a 3x3 convolution of the generator, and a depthwise one of the projected discriminator."""
    ratios = []
    for layer, side in ((nn.Conv2d(64, 64, 3, padding=1), 32), (nn.Conv2d(240, 240, 5, padding=2, groups=240), 8)):
        seconds = {name: min(_seconds(layer, side, name) for _ in range(5)) for name in ("float32", "bfloat16")}
        ratios.append(seconds["bfloat16"] / seconds["float32"])
    return sum(ratios) / len(ratios)


def _seconds(layer: nn.Conv2d, side: int, precision: str) -> float:
    layer = layer.to(memory_format=torch.channels_last)
    x = torch.ones(16, layer.in_channels, side, side).contiguous(memory_format=torch.channels_last).requires_grad_(True)
    start = time.perf_counter()
    with autocast(torch.device("cpu"), precision):
        layer(x).square().mean().backward()
    return time.perf_counter() - start


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Context in which convolutions compute in `precision`."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")
