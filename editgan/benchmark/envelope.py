"""Accuracy against identity over a sweep of strengths: what a method reaches at all, whatever its strengths mean.

A method's upper envelope at identity x is the best accuracy among its strengths that keep an identity of at least x.
Its area between two identities, divided by their distance, is one number for a whole sweep, which no choice of a
strength decides. Nothing is extrapolated: where no strength keeps that much, the envelope is 0. The reconstruction is
strength 0 of every method.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from editgan.metrics import CONFIDENCE
from editgan.training import generator_for


def envelope_area(accuracy: Tensor, identity: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Mean of the upper envelope over low..high.

    Args:
        accuracy, identity: of each strength, means over heads  # [..., S]
        low, high: the ends  # [...]
    Returns:
        [...], in the unit of accuracy
    """
    order = identity.argsort(-1, descending=True)
    x = identity.gather(-1, order)  # falling
    best = accuracy.gather(-1, order).cummax(-1).values  # at identities from the next x up to this one
    ends = torch.cat([x[..., 1:], torch.full_like(x[..., :1], -torch.inf)], -1)
    low, high = low[..., None], high[..., None]
    widths = (x.clamp(max=high) - ends.clamp(min=low)).clamp(min=0)
    return (best * widths).sum(-1) / (high - low)[..., 0]


def bootstrap_areas(
    smiling: dict[str, Tensor],
    identity: dict[str, Tensor],
    *,
    stranger: float,
    kept: Tensor,
    resamples: int,
    seed: int,
) -> dict[str, Tensor]:
    """Areas of every method on the same resamples of heads, the first being the heads themselves.

    Args:
        smiling, identity: by method: called smiling, 0 or 1, and cosine to the photo  # [S, N]
        stranger: mean cosine of different people, the lower end
        kept: cosine of the reconstructions to the photos, whose mean is the upper end  # [N]
    Returns:
        by method, in percent  # [1 + resamples]
    """
    count = len(kept)
    draws = torch.randint(count, (resamples, count), generator=generator_for(seed, "bootstrap"))
    draws = torch.cat([torch.arange(count)[None], draws])  # [R, N]
    high = kept.double()[draws].mean(1)  # [R]
    low = torch.full_like(high, stranger)
    areas = {}
    for name in smiling:
        accuracy, cosine = (
            torch.stack([row.double()[draws].mean(1) for row in values[name]], -1) for values in (smiling, identity)
        )  # [R, S]
        areas[name] = 100 * envelope_area(accuracy, cosine, low, high)
    return areas


def interval(values: Tensor | Sequence[float]) -> tuple[float, float]:
    """95 % percentile interval of resampled values [R]."""
    tail = (1 - CONFIDENCE) / 2
    ends = torch.tensor([tail, 1 - tail], dtype=torch.float64)
    low, high = torch.quantile(torch.as_tensor(values, dtype=torch.float64), ends).tolist()
    return low, high
