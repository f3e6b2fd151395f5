"""Shared by all training loops: seeding, EMA, training state on disk, data order, divergence checks, optimisers."""

import hashlib
import io
import json
import math
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from editgan.errors import UserError
from editgan.weights import write_bytes

STATE_FILE = "state.pt"
EXPLODED = 1e5  # a loss beyond this counts as diverged
ADAM_BETAS = (0.0, 0.99)
FINAL_LR = 0.1  # final learning rate after decay, relative to the initial one
MOMENTUM = 0.9
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # coefficients of the quintic iteration (Jordan et al. 2024)
NEWTON_SCHULZ_STEPS = 5
ADAM_RMS = 0.2  # RMS of an update relative to the learning rate, about Adam's (Liu et al. 2025, section 2.2)
SMALLEST_SIDE = 4
BESIDE_MUON_BETAS = (0.9, 0.99)  # of Adam, for the parameters that Muon does not handle
BESIDE_MUON_RATE = 0.1  # learning rate of this Adam relative to Muon's


def device_named(name: str) -> torch.device:
    """The device to compute on: "auto" (CUDA if available), "cpu" or "cuda".

    Raises:
        UserError: CUDA is requested but not available, or an unknown name.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise UserError(f"unknown device {name!r}; give auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("cuda is requested, but torch finds no GPU; use auto or cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def seed_for(seed: int, *keys: object) -> int:
    """A 63-bit seed for one purpose, e.g. `seed_for(params.seed, "generator", "batch", cur_nimg)`.

    Each step is seeded from (seed, purpose, position), as in edm2. A resumed run then repeats an uninterrupted one
    without saved RNG state, and the purposes are independent of each other.
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
    """Indices of images cur_nimg .. cur_nimg + batch of an endless sequence of seeded shuffles.  # [batch]

    Depends only on the position, so resuming needs no sampler state. Every image is seen once per epoch.
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
    """Means of named losses between two ticks."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def add(self, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value)
            self._counts[name] = self._counts.get(name, 0) + 1

    def take(self) -> dict[str, float]:
        """Return the means and reset."""
        means = {name: self._sums[name] / self._counts[name] for name in self._sums}
        self.__init__()
        return means


def append_row(curve: Path, row: dict[str, float]) -> None:
    """Append to a stats.jsonl and drop rows at the same or a later position, which a resumed run repeats."""
    lines = curve.read_text().splitlines() if curve.exists() else []
    kept = [line for line in lines if json.loads(line)["kimg"] < row["kimg"]]
    write_bytes(curve, "".join(line + "\n" for line in [*kept, json.dumps(row, sort_keys=True)]).encode())


def save_state(folder: str | Path, state: Mapping[str, Any]) -> Path:
    """Write the complete training state atomically: a full disk or a kill leaves the previous state intact."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    return write_bytes(Path(folder) / STATE_FILE, buffer.getvalue())


def load_state(folder: str | Path) -> dict[str, Any] | None:
    """The last saved state, or None if there is none.

    Raises:
        UserError: the file is damaged.
    """
    path = Path(folder) / STATE_FILE
    if not path.exists():
        return None
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
        remedy = "to train from scratch, run `editgan doctor --fix`, which moves it aside, or delete this folder"
        raise UserError(f"{path}: damaged training state ({error}); {remedy}") from error


def check_finite(losses: Mapping[str, float], where: str, last_good: str | Path | None = None) -> None:
    """Stop a diverged run: a loss is NaN, infinite or larger than EXPLODED in magnitude.

    Args:
        last_good: the file of the last saved state, which may not exist yet
    Raises:
        UserError: diverged; the message gives the losses, the position and the last good state.
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

    All directions of a weight matrix get updates of similar size, not only the few that dominate the gradient. The
    warm start trains two to three times as fast as with Adam. torch.optim.Muon does not support convolutions and
    computes in bfloat16, which is slow on processors that emulate it.
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

    Each iteration multiplies x by a polynomial of x x^T, and these polynomials commute. So the iterations run on the
    small Gram matrix, and the wide matrix is multiplied twice, not ten times.
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


def set_muon_lr(muon: Muon, adam: torch.optim.Adam, rate: float) -> None:
    """Set Muon's learning rate, and a tenth of it for Adam."""
    set_lr(muon, rate)
    set_lr(adam, BESIDE_MUON_RATE * rate)


def lazy_adam(groups: list[list[nn.Parameter]], interval: int | None) -> torch.optim.Adam:
    """Adam, corrected for an extra regularisation step every `interval` steps (StyleGAN2, appendix B).

    With c = interval / (interval + 1), the learning rate is multiplied by c and the betas are raised to the power c.
    """
    correction = 1.0 if interval is None else interval / (interval + 1)
    betas = tuple(beta**correction for beta in ADAM_BETAS)
    return torch.optim.Adam([{"params": group, "lr_scale": correction} for group in groups], betas=betas, fused=True)


def set_lr(optimizer: torch.optim.Optimizer, *rates: float) -> None:
    """Set the learning rate of each parameter group, times the group's correction for lazy regularisation."""
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate * group.get("lr_scale", 1.0)


def linear_decay(progress: float, start: float) -> float:
    """Relative learning rate: 1 until `start`, then linear down to FINAL_LR at progress 1."""
    if progress <= start:
        return 1.0
    return 1 - (1 - FINAL_LR) * (progress - start) / (1 - start)


def optimizer_step(loss: Tensor, *optimizers: torch.optim.Optimizer) -> None:
    """Zero the gradients, backpropagate, replace gradients that are not finite, step."""
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    loss.backward()
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            sanitize_gradients(group["params"])
        optimizer.step()


def cosine_decay(progress: float) -> float:
    """Relative learning rate: half cosine from 1 at progress 0 to 0 at progress 1."""
    return 0.5 * (1 + math.cos(math.pi * progress))
