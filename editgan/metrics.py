"""Metrics on features (features -> statistics -> metric), and bootstrap intervals of means over heads.

FID (Heusel et al., NeurIPS 2017, equation 6) and KID (Binkowski et al., ICLR 2018, section 4) are implemented as
matrix products, so a table with many rows takes seconds. `check_packages` compares them with clean-fid and
torchmetrics on the same features and subsets; stages call it for their first row.
"""

import functools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from editgan.training import generator_for

KID_TOLERANCE = 1e-8  # relative to the largest kernel value; only the order of the float64 sums differs
FID_TOLERANCE = 1e-4  # relative; clean-fid takes the square root of a nearly singular matrix
KID_SUBSET = 1000  # maximum rows per side of a subset
KID_SUBSETS = 100  # random subsets that KID is averaged over
NEIGHBOURS = 3  # k of precision and recall, as in their paper
RESAMPLES = 2000  # bootstrap resamples for each 95 % interval
KERNEL_ROWS = 2000  # rows of the kernel matrix computed at a time
CHECKED_SUBSETS = 3
SMALLEST_VARIANCE = 1e-13  # relative to the total variance; smaller eigenvalues are rounding errors
CONFIDENCE = 0.95
ROWS = 500  # rows of a distance matrix at a time


class MetricDisagreement(RuntimeError):
    """Two libraries computed different values for the same metric on the same features."""


@dataclass(frozen=True)
class FeatureStatistics:
    """Mean [D] and covariance [D, D] (unbiased) of features, float64."""

    mean: np.ndarray
    covariance: np.ndarray
    rows: np.ndarray  # the features themselves  # [N, D]


def features_to_statistics(features: Tensor) -> FeatureStatistics:
    """Features [N, D] with N >= 2 -> mean and covariance."""
    if features.ndim != 2 or len(features) < 2:
        raise ValueError(f"statistics need at least two feature rows [N, D], got {list(features.shape)}")
    rows = features.to(torch.float64).numpy()
    return FeatureStatistics(mean=rows.mean(0), covariance=np.cov(rows, rowvar=False), rows=rows)


def frechet_distance(first: FeatureStatistics, second: FeatureStatistics) -> float:
    """FID: |mu1 - mu2|^2 + Tr(C1 + C2 - 2 (C1 C2)^(1/2)). Biased upwards for few samples.

    With C1 = R R^T, Tr (C1 C2)^(1/2) is the sum of the square roots of the eigenvalues of R^T C2 R. This matrix is
    symmetric and has the rank of C1, while the product C1 C2 is neither symmetric nor of full rank.
    """
    total = np.trace(first.covariance) + np.trace(second.covariance)
    count, width = first.rows.shape
    if count < width:  # the centred features are such a root themselves
        root = (first.rows - first.mean).T / np.sqrt(count - 1)  # [D, N]
    else:
        variances, directions = np.linalg.eigh(first.covariance)
        kept = variances > SMALLEST_VARIANCE * total
        root = directions[:, kept] * np.sqrt(variances[kept])  # [D, rank]
    eigenvalues = np.linalg.eigvalsh(root.T @ second.covariance @ root)
    shift = np.square(first.mean - second.mean).sum()
    return float(shift + total - 2 * np.sqrt(eigenvalues.clip(min=0)).sum())


def kernel_distance(
    features: Tensor, reference: Tensor, *, subsets: int = KID_SUBSETS, seed: int = 0, among: Tensor | None = None
) -> float:
    """KID of [N, D] and [M, D], symmetric: unbiased MMD^2 with the kernel (x.y / D + 1)^3, mean over random subsets.

    The subsets, of at most 1,000 rows per side, are the ones that clean-fid draws. Each kernel matrix is computed once;
    a subset is a 0/1 vector that is multiplied with it. `among`: precomputed `reference_sums`.
    """
    if min(len(features), len(reference)) < 2:
        raise ValueError(f"KID needs at least two rows per side, got {len(features)} and {len(reference)}")
    of_reference, of_features = subset_choices(len(reference), len(features), subsets, seed)
    x, y = features.to(torch.float64), reference.to(torch.float64)
    if among is None:
        among = kernel_sums(y, y, of_reference, of_reference)
    size = of_features[0].sum()
    own = among + kernel_sums(x, x, of_features, of_features)  # [subsets]
    across = kernel_sums(x, y, of_features, of_reference)
    own = own - of_features @ _kernel_with_itself(x) - of_reference @ _kernel_with_itself(y)
    return float((own / (size * (size - 1)) - 2 * across / size**2).mean())


def reference_sums(reference: Tensor, count: int, *, subsets: int, seed: int) -> Tensor:
    """Kernel sums over the pairs of each reference subset, for comparison with `count` features.  # [subsets]"""
    chosen = subset_choices(len(reference), count, subsets, seed)[0]
    rows = reference.to(torch.float64)
    return kernel_sums(rows, rows, chosen, chosen)


@dataclass(frozen=True)
class Reference:
    """Features [M, D] of reference images by one network, and the values precomputed from them."""

    features: Tensor
    statistics: FeatureStatistics
    among: Tensor  # `reference_sums` of KID, for one size of the compared sets

    @classmethod
    def of(cls, features: Tensor, *, count: int, seed: int) -> "Reference":
        """Precompute for comparison with sets of `count` images."""
        among = reference_sums(features, count, subsets=KID_SUBSETS, seed=seed)
        return cls(features, features_to_statistics(features), among)

    def fid(self, features: Tensor) -> float:
        """FID of features [N, D]."""
        return frechet_distance(features_to_statistics(features), self.statistics)

    def kid(self, features: Tensor, *, seed: int) -> float:
        """KID of features [N, D], where N is the `count` given to `of`."""
        return kernel_distance(features, self.features, subsets=KID_SUBSETS, seed=seed, among=self.among)


def subset_choices(first: int, second: int, subsets: int, seed: int) -> tuple[Tensor, Tensor]:
    """Membership of the rows of both sides in each subset, 0 or 1: float64 [subsets, first], [subsets, second]."""
    rng, size = np.random.RandomState(seed), min(first, second, KID_SUBSET)
    chosen = torch.zeros(subsets, first, dtype=torch.float64), torch.zeros(subsets, second, dtype=torch.float64)
    for index in range(subsets):
        for side, count in zip(chosen, (first, second), strict=True):
            side[index, rng.choice(count, size, replace=False)] = 1
    return chosen


def kernel_sums(x: Tensor, y: Tensor, of_x: Tensor, of_y: Tensor) -> Tensor:
    """Sum of (x.y / D + 1)^3 over the pairs of each subset; x [N, D], y [M, D], subsets [S, N], [S, M].  # [S]"""
    total = torch.zeros(len(of_x), dtype=torch.float64)
    for rows, chosen in zip(x.split(KERNEL_ROWS), of_x.split(KERNEL_ROWS, dim=1), strict=True):
        kernel = torch.addmm(torch.ones((), dtype=torch.float64), rows, y.T, alpha=1 / x.shape[1]) ** 3
        total += ((chosen @ kernel) * of_y).sum(1)
    return total


def _kernel_with_itself(x: Tensor) -> Tensor:
    """The kernel of each row with itself.  # [N]"""
    return (x.square().sum(1) / x.shape[1] + 1) ** 3


def kernel_distance_spread(features: Tensor, reference: Tensor, *, resamples: int, seed: int) -> tuple[float, float]:
    """Ends of the 95 % percentile interval of KID, minus the KID of all rows, by bootstrap over the rows of `features`.

    The kernel is computed once. A resample weights its entries by how often each row was drawn. Pairs of a row with
    itself are excluded, because rows drawn twice would bias KID. The reference is not resampled.
    """
    x, y = features.to(torch.float64), reference.to(torch.float64)
    among = (x @ x.T / x.shape[1] + 1) ** 3  # [N, N]
    among.fill_diagonal_(0)
    across = ((x @ y.T / x.shape[1] + 1) ** 3).mean(1)  # [N]
    times = resampled(len(x), resamples, seed)  # [R, N]
    pairs = times.sum(1) ** 2 - times.square().sum(1)
    values = ((times @ among) * times).sum(1) / pairs - 2 * (times @ across) / len(x)
    values = values[pairs > 0]  # with few rows, a resample may consist of a single one
    whole = among.sum() / (len(x) * (len(x) - 1)) - 2 * across.mean()
    return percentile_interval(values - whole)


def precision_and_recall(fake: Tensor, real: Tensor, k: int) -> tuple[float, float]:
    """Improved precision and recall (Kynkaanniemi et al., NeurIPS 2019, section 2) of features [N, D] and [M, D].

    Precision is the share of fakes inside the manifold of the real ones: the union of balls around each real point
    whose radius is the distance to its k-th neighbour. Recall swaps the two sets.
    """
    if min(len(fake), len(real)) <= k:
        raise ValueError(
            f"precision and recall with k = {k} need more than k rows a side, got {len(fake)}, {len(real)}"
        )
    return _share_inside(fake, real, k), _share_inside(real, fake, k)


def _share_inside(points: Tensor, manifold: Tensor, k: int) -> float:
    """Share of points [N, D] within the ball of any manifold point [M, D]."""
    # k + 1, because the nearest neighbour of a point in its own set is the point itself
    radii = torch.cat([torch.cdist(part, manifold).kthvalue(k + 1, dim=1).values for part in manifold.split(ROWS)])
    inside = [(torch.cdist(part, manifold) <= radii).any(dim=1) for part in points.split(ROWS)]
    return float(torch.cat(inside).double().mean())


def check_packages(features: Tensor, reference: Tensor, *, seed: int = 0) -> None:
    """Raise MetricDisagreement where clean-fid (FID, KID) or torchmetrics (KID) computes another value."""
    from cleanfid import fid as cleanfid  # these import torchvision: seconds
    from torchmetrics.image.kid import poly_mmd

    x, y = features.to(torch.float64), reference.to(torch.float64)
    first, second = features_to_statistics(x), features_to_statistics(y)
    fid = frechet_distance(first, second)
    if (first.covariance.shape[0]) < min(len(x), len(y)):  # clean-fid cannot take the root of a singular matrix
        theirs = cleanfid.frechet_distance(first.mean, first.covariance, second.mean, second.covariance)
        _agree("FID", fid, theirs, "clean-fid", FID_TOLERANCE * max(abs(fid), 1.0))
    kid = kernel_distance(x, y, subsets=CHECKED_SUBSETS, seed=seed)
    largest = (max(float(x.square().sum(1).max()), float(y.square().sum(1).max())) / x.shape[1] + 1) ** 3
    state = np.random.get_state()
    np.random.seed(seed)  # clean-fid draws its subsets from the global generator
    theirs = cleanfid.kernel_distance(x.numpy(), y.numpy(), num_subsets=CHECKED_SUBSETS)
    np.random.set_state(state)
    _agree("KID", kid, theirs, "clean-fid", KID_TOLERANCE * largest)
    of_y, of_x = subset_choices(len(y), len(x), CHECKED_SUBSETS, seed)
    values = [float(poly_mmd(y[b.bool()], x[a.bool()])) for a, b in zip(of_x, of_y, strict=True)]
    _agree("KID", kid, sum(values) / len(values), "torchmetrics", KID_TOLERANCE * largest)


def _agree(metric: str, ours: float, theirs: float, package: str, tolerance: float) -> None:
    if not abs(ours - theirs) <= tolerance:
        raise MetricDisagreement(
            f"{metric} is {ours!r} here but {theirs!r} by {package} on the same features; the tolerance is"
            f" {tolerance:.3g}. Check the installed versions against constraints.txt"
        )


@functools.lru_cache(maxsize=4)
def resampled(count: int, resamples: int, seed: int) -> Tensor:
    """How often each of N heads occurs in each bootstrap resample: `[R, N] @ values / N` are the means, float64."""
    draws = torch.randint(count, (resamples, count), generator=generator_for(seed, "bootstrap"))
    times = torch.zeros(resamples, count, dtype=torch.float64)
    return times.scatter_add_(1, draws, torch.ones_like(draws, dtype=torch.float64))


def bootstrap_interval(values: Tensor, *, resamples: int, seed: int) -> tuple[float, float]:
    """95 % percentile interval of the mean of `values` [N] over heads (Efron & Tibshirani 1993, chapter 13)."""
    return percentile_interval(resampled(len(values), resamples, seed) @ values.to(torch.float64) / len(values))


def percentile_interval(resampled: Tensor) -> tuple[float, float]:
    """The central 95 % interval of a statistic on resamples [R]."""
    tail = (1 - CONFIDENCE) / 2
    ends = torch.tensor([tail, 1 - tail], dtype=torch.float64)
    low, high = torch.quantile(resampled.to(torch.float64), ends).tolist()
    return low, high


def outside_error(first: Tensor, second: Tensor, region: Tensor) -> Tensor:
    """Mean squared error over the pixels outside a bool region [N, H, W], images in [-1, 1] -> [N]."""
    outside = ~region
    error = (first - second).square().mean(1)  # [N, H, W]
    return (error * outside).sum((1, 2)) / outside.sum((1, 2)).clamp(min=1)
