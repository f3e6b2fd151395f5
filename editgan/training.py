"""Shared by all trainings: the resumable loop, seeding, data order, state on disk, curves, EMA, optimisers."""

import hashlib
import io
import json
import math
import pickle
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from editgan.errors import UserError
from editgan.weights import load_tensors, save_tensors, write_bytes, write_json

DIGITS = 6  # digits written to files; coarser than rounding differences between runs
STATE_FILE, CURVE_FILE = "state.pt", "stats.jsonl"
SNAPSHOTS = 20  # most snapshots of a training
EXPLODED = 1e5  # a loss beyond this counts as diverged
ADAM_BETAS = (0.0, 0.99)
MOMENTUM = 0.9
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # coefficients of the quintic iteration (Jordan et al. 2024)
NEWTON_SCHULZ_STEPS = 5
ADAM_RMS = 0.2  # RMS of an update relative to the learning rate, about Adam's (Liu et al. 2025, section 2.2)
SMALLEST_SIDE = 4
BESIDE_MUON_BETAS = (0.9, 0.99)  # of Adam, for the parameters that Muon does not handle
BESIDE_MUON_LR = 0.1  # learning rate of this Adam relative to Muon's


def device_named(name: str) -> torch.device:
    """The device to compute on: "auto" (CUDA if available), "cpu" or "cuda"; UserError without such a device."""
    if name not in ("auto", "cpu", "cuda"):
        raise UserError(f"unknown device {name!r}; give auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("cuda is requested, but torch finds no GPU; use auto or cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def seed_for(seed: int, *keys: object) -> int:
    """A 63-bit seed for one purpose, e.g. `seed_for(params.seed, "generator", "batch", cur_nimg)`.

    Steps are seeded by their position, as in edm2: a resumed run repeats an uninterrupted one without saved RNG state.
    """
    text = "/".join(str(key) for key in (seed, *keys))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def seed_everything(seed: int, *keys: object) -> None:
    """Seed torch's global generators (CPU and GPU) for one purpose."""
    torch.manual_seed(seed_for(seed, *keys))


def generator_for(seed: int, *keys: object) -> torch.Generator:
    """A separate CPU generator for one purpose."""
    return torch.Generator().manual_seed(seed_for(seed, *keys))


def batch_indices(seed: int, cur_nimg: int, batch: int, dataset_size: int) -> Tensor:
    """Indices of images cur_nimg .. cur_nimg + batch of endless seeded shuffles, one an epoch.  # [batch]"""
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
    """Decay per step for a half-life of `ema_kimg`, limited to `rampup` times the images seen (StyleGAN2-ADA)."""
    half_life = ema_kimg * 1000
    if rampup is not None:
        half_life = min(half_life, cur_nimg * rampup)
    return 0.5 ** (batch / max(half_life, 1e-8))


def due(cur_nimg: int, batch: int, kimg: float) -> bool:
    """True if the batch that ended at image `cur_nimg` crossed a multiple of `kimg` thousand images."""
    interval = kimg * 1000
    return int(cur_nimg / interval + 1e-9) > int((cur_nimg - batch) / interval + 1e-9)


class Averages:
    """Means of named values since the last `take`; `sums` belongs to the state of a training."""

    def __init__(self, sums: dict[str, tuple[float, int]] | None = None) -> None:
        self.sums = sums or {}

    def add(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            total, count = self.sums.get(name, (0.0, 0))
            self.sums[name] = (total + float(value), count + 1)

    def take(self) -> dict[str, float]:
        """Return the means and reset."""
        means = {name: total / count for name, (total, count) in self.sums.items()}
        self.sums = {}
        return means


@dataclass(frozen=True)
class Training:
    """Input of `train`. Resumes bit-identically if all random numbers of a step depend only on (seed, images seen)."""

    name: str  # of the trained network, for messages
    step: Callable[[int], dict[str, Tensor]]  # images seen -> losses; updates the networks
    parts: dict[str, nn.Module | torch.optim.Optimizer]  # modules and optimisers that a step changes, by name
    total_nimg: int
    batch: int  # images per step
    status_kimg: float  # thousands of images between two lines of the curve
    state_kimg: float  # ... between two complete states on disk
    snapshot_kimg: float = math.inf  # ... between two calls of `on_snapshot`; more in a long training


def train(
    training: Training,
    run: Any,
    work: Path,
    *,
    prefix: str = "",
    on_snapshot: Callable[[int], dict[str, float]] | None = None,
) -> list[dict[str, float]]:
    """Train to the end and return the rows of the curve. The complete state and the curve are kept in `work`.

    Args:
        run: of `runtime.tracking`; gets the progress and, with `prefix`, the mean losses of every status
        on_snapshot: called with the images seen, without gradients; its result is added to the next status
    Raises:
        UserError: a loss is not finite, or the state belongs to another version of this training.
    """
    name, step, parts = training.name, training.step, training.parts
    batch, total_nimg = training.batch, training.total_nimg
    cur_nimg, averages, state = 0, Averages(), load_state(work)
    if state is not None:
        if state.keys() != {"cur_nimg", "sums", *parts}:
            remedy = f"delete the folder {work} to train from scratch"
            raise UserError(f"{work / STATE_FILE}: saved by another version of this training; {remedy}")
        cur_nimg, averages = state["cur_nimg"], Averages(state["sums"])
        for key, part in parts.items():
            part.load_state_dict(state[key])
    snapshot_kimg = max(training.snapshot_kimg, total_nimg / 1000 / SNAPSHOTS)
    started, timed_from = time.monotonic(), cur_nimg

    while cur_nimg < total_nimg:
        values = {key: value.item() for key, value in step(cur_nimg).items()}
        check_finite(values, f"{cur_nimg / 1000:.1f} kimg of {name}", work / STATE_FILE)
        averages.add(values)
        cur_nimg += batch
        kimg, finished = cur_nimg / 1000, cur_nimg >= total_nimg
        if on_snapshot is not None and (finished or due(cur_nimg, batch, snapshot_kimg)):
            with torch.no_grad():
                averages.add(on_snapshot(cur_nimg))
        if finished or due(cur_nimg, batch, training.status_kimg):
            means, speed = averages.take(), (cur_nimg - timed_from) / (time.monotonic() - started)
            run.log_metrics({f"{prefix}{key}": mean for key, mean in (means | {"img_per_s": speed}).items()}, step=kimg)
            run.progress(min(cur_nimg, total_nimg), total_nimg, "img", f"training {name}, {speed:.1f} img/s")
            append_row(work / CURVE_FILE, {"kimg": kimg} | {key: round(mean, DIGITS) for key, mean in means.items()})
            started, timed_from = time.monotonic(), cur_nimg
        if finished or due(cur_nimg, batch, training.state_kimg):
            states = {key: part.state_dict() for key, part in parts.items()}
            save_state(work, {"cur_nimg": cur_nimg, "sums": averages.sums, **states})
    return read_rows(work / CURVE_FILE)


def read_rows(curve: Path) -> list[dict[str, float]]:
    """The rows of a stats.jsonl, one per status; none if there is no file."""
    return [json.loads(line) for line in curve.read_text().splitlines()] if curve.exists() else []


def append_row(curve: Path, row: dict[str, float]) -> None:
    """Append to a stats.jsonl and drop rows at the same or a later position, which a resumed run repeats."""
    rows = [*(old for old in read_rows(curve) if old["kimg"] < row["kimg"]), row]
    write_bytes(curve, "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows).encode())


def write_curve(path: Path, rows: Sequence[dict[str, float]], names: Iterable[str]) -> None:
    """Write the columns kimg and `names` as a plot table, from the rows that have all of them; no file without rows."""
    names = ("kimg", *names)
    table = [{name: row[name] for name in names} for row in rows if all(name in row for name in names)]
    if table:
        write_json(path, table)


def once(path: Path, compute: Callable[[], Tensor]) -> Tensor:
    """Load a tensor from `path`, or compute it and save it there: finished parts of a stage are not computed again."""
    if not path.exists():
        save_tensors(path, {"w_plus": compute()})
    return load_tensors(path)[0]["w_plus"]


@torch.no_grad()
def in_batches(function: Callable[..., Tensor], *inputs: Tensor, batch: int, device: torch.device) -> Tensor:
    """Apply a function to inputs [N, ...], `batch` rows at a time on `device`, without gradients; on the CPU."""
    parts = zip(*(rows.split(batch) for rows in inputs), strict=True)
    return torch.cat([function(*(rows.to(device) for rows in part)).cpu() for part in parts])


def save_state(folder: str | Path, state: Mapping[str, Any]) -> Path:
    """Write the complete training state atomically: a full disk or a kill leaves the previous state intact."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    return write_bytes(Path(folder) / STATE_FILE, buffer.getvalue())


def load_state(folder: str | Path) -> dict[str, Any] | None:
    """The last saved state, or None if there is none; UserError if the file is damaged."""
    path = Path(folder) / STATE_FILE
    if not path.exists():
        return None
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
        remedy = "to train from scratch, run `editgan doctor --fix`, which moves it aside, or delete this folder"
        raise UserError(f"{path}: damaged training state ({error}); {remedy}") from error


def check_finite(losses: Mapping[str, float], where: str, last_good: str | Path | None = None) -> None:
    """Raise UserError if a loss is NaN, infinite or larger than EXPLODED in magnitude.

    The message gives the losses, the position and `last_good`, the file of the last state, which may not exist yet.
    """
    bad = {name: value for name, value in losses.items() if not abs(value) <= EXPLODED}
    if bad:
        kept = ""
        if last_good is not None:
            kept = f"; last good state: {last_good}" if Path(last_good).exists() else "; no state was saved yet"
        raise UserError(f"training diverged at {where}: {bad}{kept}. Lower the learning rate or change the seed")


def sanitize_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """NaN -> 0, +-inf -> +-1e5 in every gradient (StyleGAN2-ADA)."""
    for parameter in parameters:
        if parameter.grad is not None:
            torch.nan_to_num(parameter.grad, nan=0.0, posinf=1e5, neginf=-1e5, out=parameter.grad)


def count_parameters(module: nn.Module) -> int:
    """Number of parameters in `module`, trainable and frozen."""
    return sum(parameter.numel() for parameter in module.parameters())


class Muon(torch.optim.Optimizer):
    """Momentum SGD with orthogonalised update matrices (Jordan et al. 2024); weights [out, ...] are [out, fan_in].

    All directions of a matrix get updates of similar size, not only the few that dominate the gradient.
    torch.optim.Muon does not support convolutions and computes in bfloat16, which some processors emulate slowly.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is None:
                    continue
                gradient = param.grad.reshape(len(param), -1)  # [out, fan_in]
                state = self.state[param]
                if not state:
                    state["momentum"] = torch.zeros_like(gradient)
                momentum = state["momentum"].lerp_(gradient, 1 - MOMENTUM)
                update = orthogonalize(gradient.lerp(momentum, MOMENTUM))
                scale = group["lr"] * ADAM_RMS * max(update.shape) ** 0.5
                param.sub_(update.view_as(param), alpha=scale)


def orthogonalize(matrix: Tensor) -> Tensor:
    """Push all singular values of a matrix towards 1 (0.7 to 1.2) by Newton-Schulz iteration.  # [m, n]

    The polynomials of x x^T commute, so the iterations run on the small Gram matrix.
    """
    a, b, c = NEWTON_SCHULZ
    x = matrix.t() if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / (x.norm() + 1e-7)
    gram = x @ x.t()
    unit = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    product = unit
    for _ in range(NEWTON_SCHULZ_STEPS):
        factor = a * unit + b * gram + c * gram @ gram
        product = factor @ product
        gram = factor @ gram @ factor
    x = product @ x
    return x.t() if matrix.shape[0] > matrix.shape[1] else x


def split_matrices(params: Iterable[nn.Parameter]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Split parameters: (matrices for Muon, all others: biases, scalars, the narrow matrices to and from RGB)."""
    matrices, others = [], []
    for param in params:
        large = param.ndim >= 2 and min(len(param), param[0].numel()) >= SMALLEST_SIDE
        (matrices if large else others).append(param)
    return matrices, others


def muon_and_adam(params: Iterable[nn.Parameter]) -> tuple[Muon, torch.optim.Adam]:
    """Muon for the matrices among the parameters, Adam for the rest; `set_muon_lr` sets both learning rates."""
    matrices, others = split_matrices(params)
    return Muon(matrices, lr=0.0), torch.optim.Adam(others, lr=0.0, betas=BESIDE_MUON_BETAS)


def set_muon_lr(muon: Muon, adam: torch.optim.Adam, lr: float) -> None:
    """Set Muon's learning rate, and a tenth of it for Adam."""
    set_lr(muon, lr)
    set_lr(adam, BESIDE_MUON_LR * lr)


def lazy_adam(params: Iterable[nn.Parameter], interval: int | None) -> torch.optim.Adam:
    """Adam, corrected for an extra regularisation step every `interval` steps (StyleGAN2, appendix B).

    With c = interval / (interval + 1), the learning rate is multiplied by c and the betas are raised to the power c.
    """
    correction = 1.0 if interval is None else interval / (interval + 1)
    betas = tuple(beta**correction for beta in ADAM_BETAS)
    return torch.optim.Adam([{"params": list(params), "lr_scale": correction}], betas=betas, fused=True)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate, times the correction for lazy regularisation."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)


def cosine_decay(progress: float) -> float:
    """Relative learning rate: half cosine from 1 at progress 0 to 0 at progress 1."""
    return 0.5 * (1 + math.cos(math.pi * progress))
