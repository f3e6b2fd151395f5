"""What every training loop shares: seeding, EMA, complete state on disk, data order, checks on losses."""

import functools
import hashlib
import io
import json
import pickle
import platform
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from editgan.environment import home_project
from editgan.errors import UserError
from editgan.weights import write_bytes, write_json

STATE_FILE = "state.pt"
EXPLODED = 1e5  # losses beyond this are no longer training


def device_named(name: str) -> torch.device:
    """The device to compute on: "auto" (CUDA where there is one), "cpu" or "cuda".

    Raises:
        UserError: CUDA is asked for and not there, or no such name.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise UserError(f"{name!r} is no device; give auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("cuda is asked for, but torch finds no GPU; set it to auto or cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def seed_for(seed: int, *keys: object) -> int:
    """A 63-bit seed for one purpose, e.g. `seed_for(params.seed, "generator", "batch", cur_nimg)`.

    Seeding each step from (seed, purpose, position) makes a resumed run follow the unbroken one with no RNG state
    to carry (edm2's habit), and keeps purposes independent of each other.
    """
    text = "/".join(str(key) for key in (seed, *keys))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def seed_everything(seed: int, *keys: object) -> None:
    """Seed torch's global generators (CPU and GPU) for one purpose."""
    torch.manual_seed(seed_for(seed, *keys))


def generator_for(seed: int, *keys: object) -> torch.Generator:
    """A CPU generator of its own for one purpose."""
    return torch.Generator().manual_seed(seed_for(seed, *keys))


def batch_indices(seed: int, cur_nimg: int, batch: int, dataset_size: int) -> Tensor:
    """Indices of images cur_nimg .. cur_nimg + batch of an endless sequence of seeded shuffles.  # [batch]

    A function of the position alone, so that resuming needs no sampler state; every image is seen once an epoch.
    """
    parts, position = [], cur_nimg
    while position < cur_nimg + batch:
        epoch, offset = divmod(position, dataset_size)
        order = torch.randperm(dataset_size, generator=generator_for(seed, "epoch", epoch))
        take = min(cur_nimg + batch - position, dataset_size - offset)
        parts.append(order[offset : offset + take])
        position += take
    return torch.cat(parts)


@torch.no_grad()
def ema_update(ema: nn.Module, net: nn.Module, beta: float) -> None:
    """ema <- beta * ema + (1 - beta) * net for parameters; buffers are copied."""
    for slow, fast in zip(ema.parameters(), net.parameters(), strict=True):
        slow.lerp_(fast, 1 - beta)
    for slow, fast in zip(ema.buffers(), net.buffers(), strict=True):
        slow.copy_(fast)


def ema_beta(batch: int, ema_kimg: float, cur_nimg: int, rampup: float | None = 0.05) -> float:
    """Decay per step with a half-life of `ema_kimg`, at most `rampup` of the images seen (StyleGAN2-ADA)."""
    half_life = ema_kimg * 1000
    if rampup is not None:
        half_life = min(half_life, cur_nimg * rampup)
    return 0.5 ** (batch / max(half_life, 1e-8))


def due(cur_nimg: int, batch: int, kimg: float) -> bool:
    """True if the batch that ended at image `cur_nimg` crossed a multiple of `kimg` thousand images."""
    interval = kimg * 1000
    return int(cur_nimg / interval + 1e-9) > int((cur_nimg - batch) / interval + 1e-9)


class Averages:
    """Running means of named losses between two ticks."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def add(self, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value)
            self._counts[name] = self._counts.get(name, 0) + 1

    def take(self) -> dict[str, float]:
        """The means so far; starts anew."""
        means = {name: self._sums[name] / self._counts[name] for name in self._sums}
        self.__init__()
        return means


def append_row(curve: Path, row: dict[str, float]) -> None:
    """Append to a stats.jsonl; rows of an interrupted run that a resumed one repeats are replaced."""
    lines = curve.read_text().splitlines() if curve.exists() else []
    kept = [line for line in lines if json.loads(line)["kimg"] < row["kimg"]]
    write_bytes(curve, "".join(line + "\n" for line in [*kept, json.dumps(row, sort_keys=True)]).encode())


def save_state(folder: str | Path, state: Mapping[str, Any]) -> Path:
    """Write the complete training state atomically: a full disk or a kill leaves the previous one whole."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    return write_bytes(Path(folder) / STATE_FILE, buffer.getvalue())


def load_state(folder: str | Path) -> dict[str, Any] | None:
    """The state written last, or None where training starts afresh.

    Raises:
        UserError: the file is damaged.
    """
    path = Path(folder) / STATE_FILE
    if not path.exists():
        return None
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
        remedy = "`editgan doctor --fix` sets it aside, or delete this folder, to train from the start"
        raise UserError(f"{path}: damaged training state ({error}); {remedy}") from error


def check_finite(losses: Mapping[str, float], where: str, last_good: str | Path | None = None) -> None:
    """Stop a run whose losses are no numbers any more, or so large that it learns nothing more.

    Args:
        last_good: the file of the last state, which may not exist yet
    Raises:
        UserError: names the losses, the position and the last good state.
    """
    bad = {name: value for name, value in losses.items() if not abs(value) <= EXPLODED}
    if bad:
        kept = ""
        if last_good is not None:
            kept = f"; last good state: {last_good}" if Path(last_good).exists() else "; no state was saved before"
        raise UserError(f"training diverged at {where}: {bad}{kept}. Lower the learning rate or change the seed")


def sanitize_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """NaN -> 0, +-inf -> +-1e5 in every gradient (StyleGAN2-ADA)."""
    for parameter in parameters:
        if parameter.grad is not None:
            torch.nan_to_num(parameter.grad, nan=0.0, posinf=1e5, neginf=-1e5, out=parameter.grad)


def count_parameters(module: nn.Module) -> int:
    """Number of trainable and frozen scalars in `module`."""
    return sum(parameter.numel() for parameter in module.parameters())


@functools.cache
def choose_precision(device: torch.device, wanted: str = "auto") -> str:
    """ "float32" or "bfloat16" for forward and backward passes of training.

    With "auto": bfloat16 on GPUs that compute in it and on CPUs with AMX, float32 on CPUs without AVX512-BF16. CPUs
    with the latter alone are measured (a second), since on some of them bfloat16 is slower: it must win by a fifth.
    What was measured is kept in .cache/precision.json, so that all runs on a machine compute alike.
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
        seconds = {name: min(_seconds_of_convolutions(name) for _ in range(5)) for name in ("float32", "bfloat16")}
        known[machine] = "bfloat16" if seconds["bfloat16"] * 1.2 < seconds["float32"] else "float32"
        write_json(path, known)
    return known[machine]


def _processor() -> str:
    """Its name, as Linux tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _seconds_of_convolutions(precision: str) -> float:
    """Forward and backward pass of what a training step is made of: a 3x3 convolution as in the generator, a depthwise
    one as in the network behind the projected discriminator."""
    layers = [nn.Conv2d(64, 64, 3, padding=1), nn.Conv2d(96, 96, 5, padding=2, groups=96)]
    images = [torch.ones(16, layer.in_channels, 32, 32).requires_grad_(True) for layer in layers]
    start = time.perf_counter()
    with autocast(torch.device("cpu"), precision):
        for layer, x in zip(layers, images, strict=True):
            layer.to(memory_format=torch.channels_last)(
                x.contiguous(memory_format=torch.channels_last)
            ).square().mean().backward()
    return time.perf_counter() - start


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context in which convolutions compute in `precision`."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


def mixed_precision(device: torch.device) -> torch.autocast:
    """bfloat16 for convolutions where that is faster. The steps that differentiate twice stay outside."""
    return autocast(device, choose_precision(device))
