"""Optimisers of the training loops and the courses of their rates."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from editgan.training import sanitize_gradients

ADAM_BETAS = (0.0, 0.99)
FINAL_LR = 0.1  # of the rates, at the end of their linear decay
MOMENTUM = 0.9
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # coefficients of the quintic iteration, from the publication
NEWTON_SCHULZ_STEPS = 5
ADAM_RMS = 0.2  # size of an update, as a part of the rate: about that of Adam's (Liu et al. 2025, section 2.2)
SMALLEST_SIDE = 4
BESIDE_MUON_BETAS = (0.9, 0.99)  # of Adam for what Muon leaves
BESIDE_MUON_RATE = 0.1  # ... and its rate, as a part of Muon's


class Muon(torch.optim.Optimizer):
    """Momentum whose matrix is orthogonalised before each step (Jordan et al. 2024); [out, ...] is [out, fan_in].

    All directions of a weight matrix then move alike, not only the few that dominate its gradient: the warm start
    learns two to three times as fast as with Adam. torch.optim.Muon computes in bfloat16, which processors without it
    emulate slowly, and takes no convolutions.
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
    """The matrix with all singular values brought near 1 (0.7 to 1.2), by Newton-Schulz iteration.  # [m, n]

    Each iteration multiplies x by a polynomial of x x^T, and these commute. So all run on the small Gram matrix, and
    the wide one is touched twice, not ten times.
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
    """(weights that Muon can take, all others: biases, scalars, the few rows to and from RGB)."""
    matrices, others = [], []
    for param in params:
        large = param.ndim >= 2 and min(len(param), param[0].numel()) >= SMALLEST_SIDE
        (matrices if large else others).append(param)
    return matrices, others


def muon_and_adam(params: Iterable[nn.Parameter]) -> tuple[Muon, torch.optim.Adam]:
    """Muon for the matrices among the parameters, Adam for the rest; `set_muon_lr` gives both their rates."""
    matrices, others = split_matrices(params)
    return Muon(matrices, lr=0.0), torch.optim.Adam(others, lr=0.0, betas=BESIDE_MUON_BETAS)


def set_muon_lr(muon: Muon, adam: torch.optim.Adam, rate: float) -> None:
    """Set Muon's rate, and Adam's beside it to a tenth."""
    set_lr(muon, rate)
    set_lr(adam, BESIDE_MUON_RATE * rate)


def lazy_adam(groups: list[list[nn.Parameter]], interval: int | None) -> torch.optim.Adam:
    """Adam, corrected for an extra regularisation step every `interval` steps (StyleGAN2, appendix B).

    The learning rate is multiplied by c = interval / (interval + 1) and the betas are raised to it.
    """
    correction = 1.0 if interval is None else interval / (interval + 1)
    betas = tuple(beta**correction for beta in ADAM_BETAS)
    return torch.optim.Adam([{"params": group, "lr_scale": correction} for group in groups], betas=betas, fused=True)


def set_lr(optimizer: torch.optim.Optimizer, *rates: float) -> None:
    """Set the rate of each parameter group, times the group's correction for lazy regularisation."""
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate * group.get("lr_scale", 1.0)


def linear_decay(progress: float, start: float) -> float:
    """1 until `start`, then linearly down to FINAL_LR at progress 1."""
    if progress <= start:
        return 1.0
    return 1 - (1 - FINAL_LR) * (progress - start) / (1 - start)


def optimizer_step(loss: Tensor, *optimizers: torch.optim.Optimizer) -> None:
    """Zero the gradients, differentiate, replace gradients that are no numbers, step."""
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    loss.backward()
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            sanitize_gradients(group["params"])
        optimizer.step()


def cosine_decay(progress: float) -> float:
    """1 at progress 0, 0 at progress 1."""
    return 0.5 * (1 + math.cos(math.pi * progress))
