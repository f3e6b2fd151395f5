"""Accuracy against identity over a sweep of strengths: compares methods whose strengths have different meanings.

A method's upper envelope at identity x is the best accuracy among its strengths, and among mixtures of two of them,
with a mean identity of at least x. A mixture uses one strength for some heads and another for the rest. Its means are
interpolated, so the envelope is the concave hull, and methods with fewer strengths lose little. The area of the
envelope between two identities, divided by their distance, summarises a whole sweep without choosing a strength.
Nothing is extrapolated: where no strength keeps that identity, the envelope is 0. The reconstruction is strength 0 of
every method.
"""

import torch
from torch import Tensor

from editgan.metrics import resampled

POINTS = 200  # number of identities at which the envelope is evaluated
RESAMPLES = 200  # resamples computed at once; limits memory


def envelope_at(accuracy: Tensor, identity: Tensor, x: Tensor) -> Tensor:
    """The upper envelope.

    A concave hull is the minimum of its supporting lines: the lines through pairs of strengths with no strength above
    them.

    Args:
        accuracy, identity: of each strength, means over heads  # [..., S]
        x: identities at which to evaluate it  # [..., X]
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
    """Mean of the upper envelope over low..high, by the midpoint rule.

    Args:
        accuracy, identity: of each strength, means over heads  # [..., S]
        low, high: bounds of the interval  # [...]
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
    """Areas of all methods on the same bootstrap resamples of heads; the first entry uses the heads themselves.

    Args:
        smiling, identity: by method: smiling (0 or 1), and cosine to the photo  # [S, N]
        stranger: mean cosine of different people, the lower bound
        kept: cosine of the reconstructions to the photos; its mean is the upper bound  # [N]
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
