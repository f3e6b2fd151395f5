"""Accuracy against identity over a sweep of strengths: what a method reaches at all, whatever its strengths mean.

A method's upper envelope at identity x is the best accuracy among its strengths, and among mixtures of two of them,
that keep a mean identity of at least x. A mixture, one strength for some of the heads and another for the rest, has
the means in between, so that the envelope is the concave hull and methods with fewer strengths lose little. Its area
between two identities, divided by their distance, is one number for a whole sweep, which no choice of a strength
decides. Nothing is extrapolated: where no strength keeps that much, the envelope is 0. The reconstruction is strength 0
of every method.
"""

import torch
from torch import Tensor

from editgan.training import generator_for

POINTS = 200  # identities at which the envelope is looked up


def envelope_at(accuracy: Tensor, identity: Tensor, x: Tensor) -> Tensor:
    """The upper envelope.

    Args:
        accuracy, identity: of each strength, means over heads  # [..., S]
        x: [...]
    Returns:
        [...], in the unit of accuracy
    """
    x = x[..., None]
    keeps = identity >= x  # [..., S]
    alone = torch.where(keeps, accuracy, 0.0).amax(-1)
    # Of the heads, a share t at strength j, which keeps too little, and the rest at i: x = (1 - t) x_i + t x_j
    gap = identity[..., :, None] - identity[..., None, :]  # [..., S, S]
    share = (identity - x)[..., :, None] / gap.clamp(min=1e-12)
    mixed = accuracy[..., :, None] + share * (accuracy[..., None, :] - accuracy[..., :, None])
    pairs = keeps[..., :, None] & ~keeps[..., None, :]
    return torch.maximum(alone, torch.where(pairs, mixed, 0.0).flatten(-2).amax(-1))


def envelope_area(accuracy: Tensor, identity: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Mean of the upper envelope over low..high, by the midpoints of equal steps.

    Args:
        accuracy, identity: of each strength, means over heads  # [..., S]
        low, high: the ends  # [...]
    Returns:
        [...], in the unit of accuracy
    """
    steps = ((torch.arange(POINTS, dtype=torch.float64) + 0.5) / POINTS).tolist()
    return sum(envelope_at(accuracy, identity, low + step * (high - low)) for step in steps) / POINTS


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
