"""Metrics in three steps, features -> statistics -> metric, and the intervals of means over heads.

FID (Heusel et al., NeurIPS 2017, eq. 6) and KID (Binkowski et al., ICLR 2018, section 4) are computed by package
clean-fid from features that its caller chose; each KID is computed a second time by torchmetrics.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from cleanfid import fid as cleanfid
from torch import Tensor
from torchmetrics.image.kid import poly_mmd

from editgan.training import generator_for

KID_TOLERANCE = 1e-8  # of the largest value of the kernel: both packages do the same sums in float64, in another order
SMALLEST_VARIANCE = 1e-13  # of all: what is below is a rounding error of zero
CONFIDENCE = 0.95
ROWS = 500  # rows of a distance matrix at a time


class MetricDisagreement(RuntimeError):
    """Two libraries computed the same metric from the same features and got different numbers."""


@dataclass(frozen=True)
class FeatureStatistics:
    """Mean [D] and covariance [D, D] (unbiased) of features, float64."""

    mean: np.ndarray
    covariance: np.ndarray


def features_to_statistics(features: Tensor) -> FeatureStatistics:
    """Features [N, D] with N >= 2 -> their Gaussian."""
    if features.ndim != 2 or len(features) < 2:
        raise ValueError(f"statistics need at least two feature rows [N, D], got {list(features.shape)}")
    rows = features.to(torch.float64).numpy()
    return FeatureStatistics(mean=rows.mean(0), covariance=np.cov(rows, rowvar=False))


def frechet_distance(first: FeatureStatistics, second: FeatureStatistics) -> float:
    """FID: |mu1 - mu2|^2 + Tr(C1 + C2 - 2 (C1 C2)^(1/2)). Biased upwards where there are few samples.

    Fewer samples than features leave C1 directions without any variance. These add nothing to the root, so clean-fid
    gets the others alone: the same value without the root of a large singular matrix, which takes a minute.
    """
    variances, directions = np.linalg.eigh(first.covariance)
    smallest = SMALLEST_VARIANCE * (np.trace(first.covariance) + np.trace(second.covariance))
    directions = directions[:, variances > smallest]  # [D, rank]
    means = [statistics.mean @ directions for statistics in (first, second)]
    covariances = [directions.T @ statistics.covariance @ directions for statistics in (first, second)]
    within = 0.0  # of rows that are all the same
    if directions.size:
        within = cleanfid.frechet_distance(means[0], covariances[0], means[1], covariances[1])
    shift = np.square(first.mean - second.mean).sum() - np.square(means[0] - means[1]).sum()
    return float(within + shift + np.trace(second.covariance) - np.trace(covariances[1]))


def kernel_distance(features: Tensor, reference: Tensor, *, subsets: int = 100, seed: int = 0) -> float:
    """KID: unbiased MMD^2 with the kernel (x.y / D + 1)^3, mean over random subsets of at most 1,000 rows a side.

    Args:
        features, reference: [N, D] and [M, D], M and N at least 2; the order of the two does not matter.

    Raises:
        MetricDisagreement: torchmetrics gets another value on the same subsets.
    """
    if min(len(features), len(reference)) < 2:
        raise ValueError(f"KID needs two rows a side, got {len(features)} and {len(reference)}")
    x, y = features.to(torch.float64).numpy(), reference.to(torch.float64).numpy()
    with _numpy_seeded(seed):
        value = cleanfid.kernel_distance(x, y, num_subsets=subsets)
    _check_kernel_distance(value, x, y, subsets, seed)
    return value


def kernel_distance_spread(features: Tensor, reference: Tensor, *, resamples: int, seed: int) -> tuple[float, float]:
    """How far the 95 % percentile interval of KID reaches to either side, by a bootstrap over the rows of `features`.

    The kernel is computed once; a resample weights its entries by how often each row was drawn, without the pairs of a
    row with itself, so that rows drawn twice do not count as alike. The reference rows stay as they are.

    Args:
        features, reference: [N, D] and [M, D]
    Returns:
        lower and upper end less KID of all rows
    """
    x, y = features.to(torch.float64), reference.to(torch.float64)
    among = (x @ x.T / x.shape[1] + 1) ** 3  # [N, N]
    among.fill_diagonal_(0)
    across = ((x @ y.T / x.shape[1] + 1) ** 3).mean(1)  # [N]
    draws = torch.randint(len(x), (resamples, len(x)), generator=generator_for(seed, "bootstrap"))
    times = torch.zeros(resamples, len(x), dtype=torch.float64)
    times.scatter_add_(1, draws, torch.ones_like(draws, dtype=torch.float64))  # [R, N]
    pairs = times.sum(1) ** 2 - times.square().sum(1)
    resampled = ((times @ among) * times).sum(1) / pairs - 2 * (times @ across) / len(x)
    whole = among.sum() / (len(x) * (len(x) - 1)) - 2 * across.mean()
    return percentile_interval(resampled - whole)


def precision_and_recall(fake: Tensor, real: Tensor, k: int) -> tuple[float, float]:
    """Improved precision and recall (Kynkaanniemi et al., NeurIPS 2019, section 2) of features [N, D] and [M, D].

    Precision is the share of fakes that lie in the manifold of the real ones, the union of balls around each that
    reach to its k-th neighbour; recall is the same with the two sets exchanged.

    Raises:
        ValueError: a side has no k neighbours.
    """
    if min(len(fake), len(real)) <= k:
        raise ValueError(
            f"precision and recall with k = {k} need more than k rows a side, got {len(fake)}, {len(real)}"
        )
    return _share_inside(fake, real, k), _share_inside(real, fake, k)


def _share_inside(points: Tensor, manifold: Tensor, k: int) -> float:
    """Share of points [N, D] within the ball of any manifold point [M, D]."""
    # the nearest of a point to its own set is itself
    radii = torch.cat([torch.cdist(part, manifold).kthvalue(k + 1, dim=1).values for part in manifold.split(ROWS)])
    inside = [(torch.cdist(part, manifold) <= radii).any(dim=1) for part in points.split(ROWS)]
    return float(torch.cat(inside).double().mean())


def _check_kernel_distance(value: float, x: np.ndarray, y: np.ndarray, subsets: int, seed: int) -> None:
    """Compute KID with torchmetrics on the subsets that clean-fid draws: first rows of `y`, then rows of `x`."""
    size = min(len(x), len(y), 1000)
    total, largest = 0.0, 0.0
    with _numpy_seeded(seed):
        for _ in range(subsets):
            rows_y = torch.from_numpy(y[np.random.choice(len(y), size, replace=False)])
            rows_x = torch.from_numpy(x[np.random.choice(len(x), size, replace=False)])
            total += float(poly_mmd(rows_y, rows_x))
            norm = max(float(rows_x.square().sum(1).max()), float(rows_y.square().sum(1).max()))
            largest = max(largest, (norm / x.shape[1] + 1) ** 3)
    if not abs(total / subsets - value) <= KID_TOLERANCE * largest:
        raise MetricDisagreement(
            f"KID is {value!r} by clean-fid and {total / subsets!r} by torchmetrics on the same features;"
            f" they may differ by {KID_TOLERANCE * largest:.3g}. Check the installed versions against constraints.txt"
        )


@contextlib.contextmanager
def _numpy_seeded(seed: int) -> Iterator[None]:
    """clean-fid draws from numpy's global generator: seed it, and give it back as it was."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)


def bootstrap_interval(values: Tensor, *, resamples: int, seed: int) -> tuple[float, float]:
    """95 % percentile interval of the mean of `values` [N] over heads (Efron & Tibshirani 1993, chapter 13)."""
    draws = torch.randint(len(values), (resamples, len(values)), generator=generator_for(seed, "bootstrap"))
    return percentile_interval(values.to(torch.float64)[draws].mean(1))


def percentile_interval(resampled: Tensor) -> tuple[float, float]:
    """The middle 95 % of a statistic on resamples [R]."""
    tail = (1 - CONFIDENCE) / 2
    ends = torch.tensor([tail, 1 - tail], dtype=torch.float64)
    low, high = torch.quantile(resampled.to(torch.float64), ends).tolist()
    return low, high


def outside_error(first: Tensor, second: Tensor, region: Tensor) -> Tensor:
    """Mean squared error over the pixels outside a bool region [N, H, W], images in [-1, 1] -> [N]."""
    outside = ~region
    error = (first - second).square().mean(1)  # [N, H, W]
    return (error * outside).sum((1, 2)) / outside.sum((1, 2)).clamp(min=1)
