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

from editgan.metrics import resampled

POINTS = 200  # identities at which the envelope is looked up
RESAMPLES = 200  # whose envelopes are computed at once, which is a matter of memory


def envelope_at(accuracy: Tensor, identity: Tensor, x: Tensor) -> Tensor:
    """The upper envelope.

    A concave hull lies below each of its supporting lines and touches one of them everywhere: the least of the lines
    through pairs of strengths that have no strength above them.

    Args:
        accuracy, identity: of each strength, means over heads  # [..., S]
        x: identities to look it up at  # [..., X]
    Returns:
        [..., X], in the unit of accuracy
    """
    first, second = torch.combinations(torch.arange(accuracy.shape[-1]), 2).T if accuracy.shape[-1] > 1 else ([], [])
    rise = accuracy[..., first] - accuracy[..., second]
    run = identity[..., first] - identity[..., second]
    slopes = torch.where(run.abs() > 1e-12, rise / run.where(run != 0, 1.0), 0.0).clamp(max=0)  # [..., pairs]
    slopes = torch.cat([torch.zeros_like(accuracy[..., :1]), slopes], -1)  # fewer smiles never cost identity
    heights = (accuracy[..., None, :] - slopes[..., None] * identity[..., None, :]).amax(-1)  # [..., lines]
    hull = (heights[..., None] + slopes[..., None] * x[..., None, :]).amin(-2)  # [..., X]
    return torch.where(x <= identity.amax(-1, keepdim=True), hull, 0.0)


def envelope_area(accuracy: Tensor, identity: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Mean of the upper envelope over low..high, by the midpoints of equal steps.

    Args:
        accuracy, identity: of each strength, means over heads  # [..., S]
        low, high: the ends  # [...]
    Returns:
        [...], in the unit of accuracy
    """
    steps = (torch.arange(POINTS, dtype=torch.float64) + 0.5) / POINTS  # [X]
    return envelope_at(accuracy, identity, low[..., None] + steps * (high - low)[..., None]).mean(-1)


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
    times = torch.cat([torch.ones(1, len(kept), dtype=torch.float64), resampled(len(kept), resamples, seed)])
    times = times / len(kept)  # [R, N]
    high = times @ kept.double()  # [R]
    low = torch.full_like(high, stranger)
    areas = {}
    for name in smiling:
        accuracy, cosine = times @ smiling[name].double().T, times @ identity[name].double().T  # [R, S]
        parts = zip(*(values.split(RESAMPLES) for values in (accuracy, cosine, low, high)), strict=True)
        areas[name] = 100 * torch.cat([envelope_area(*part) for part in parts])
    return areas
