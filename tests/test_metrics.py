"""FID, KID, intervals and errors against independent libraries and float64 formulas on the same features."""

import numpy as np
import pytest
import torch

from editgan import metrics
from editgan.images import mean_squared_error
from editgan.metrics import (
    MetricDisagreement,
    bootstrap_interval,
    features_to_statistics,
    frechet_distance,
    kernel_distance,
    kernel_distance_spread,
    outside_error,
    percentile_interval,
)
from editgan.training import generator_for


def features(count: int, seed: int, shift: float = 0.0, dims: int = 48) -> torch.Tensor:
    """Correlated non-negative rows, like pooled activations; the mixing is the same for every seed."""
    mixing = torch.randn(dims, dims, generator=torch.Generator().manual_seed(99), dtype=torch.float64)
    rows = torch.randn(count, dims, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) @ mixing
    return (0.3 * rows + shift).clamp(min=0)


def fid(x: torch.Tensor, y: torch.Tensor) -> float:
    return frechet_distance(features_to_statistics(x), features_to_statistics(y))


def exact_fid(x: torch.Tensor, y: torch.Tensor) -> float:
    """Tr (C1 C2)^(1/2) is the nuclear norm of X Y^T for centred rows scaled by 1 / sqrt(N - 1): no matrix root."""
    centred = [(rows - rows.mean(0)) / (len(rows) - 1) ** 0.5 for rows in (x, y)]
    cross = torch.linalg.svdvals(centred[0] @ centred[1].T).sum()
    spread = sum(rows.square().sum() for rows in centred)
    return float((x.mean(0) - y.mean(0)).square().sum() + spread - 2 * cross)


@pytest.mark.parametrize("counts", [(300, 500), (20, 500), (20, 30)], ids=["full", "one singular", "both singular"])
def test_fid_against_the_exact_formula(counts):
    x, y = features(counts[0], 1), features(counts[1], 2, shift=0.2)
    assert fid(x, y) == pytest.approx(exact_fid(x, y), rel=1e-7)


def test_fid_of_features_that_never_differ():
    same, other = features(20, 1)[:1].expand(9, -1), features(30, 2)
    assert fid(same, other) == pytest.approx(exact_fid(same, other), rel=1e-3)
    assert fid(other, same) == pytest.approx(exact_fid(other, same), rel=1e-3)


def test_fid_against_torchmetrics_and_torch_fidelity():
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torchmetrics.image.fid import _compute_fid

    x, y = features(300, 1), features(500, 2, shift=0.2)
    fidelity = fid_statistics_to_metric(fid_features_to_statistics(x), fid_features_to_statistics(y), verbose=False)
    assert fid(x, y) == pytest.approx(fidelity["frechet_inception_distance"], rel=1e-6)
    assert fid(x, y) == pytest.approx(float(_compute_fid(x.mean(0), x.T.cov(), y.mean(0), y.T.cov())), rel=1e-6)


def test_fid_notices_a_shift_and_a_wrong_covariance():
    same, shifted = fid(features(400, 1), features(400, 2)), fid(features(400, 1), features(400, 2, shift=1))
    wider = fid(features(400, 1), 1.5 * features(400, 2))
    assert shifted > 2 * same and wider > 2 * same
    assert fid(features(400, 1), features(400, 1)) == pytest.approx(0, abs=1e-6)


def test_fid_is_biased_by_few_samples_and_kid_is_not():
    reference = features(2000, 0)
    few = [(fid(x, reference), kernel_distance(x, reference, subsets=5)) for x in (features(60, s) for s in range(8))]
    many = fid(features(2000, 100), reference)
    fids, kids = (np.array(column) for column in zip(*few, strict=True))
    assert fids.mean() > 3 * many  # the small sample alone
    assert abs(kids.mean()) < 3 * kids.std() / 8**0.5 + 1e-12


def test_kid_against_torch_fidelity_and_the_metric_class_of_torchmetrics():
    from torch_fidelity.metric_kid import kid_features_to_metric
    from torchmetrics.image.kid import KernelInceptionDistance

    x, y = features(120, 1), features(120, 2, shift=0.3)  # subsets of 120 of 120: nothing is left to chance
    ours = kernel_distance(x, y, subsets=3)
    theirs = kid_features_to_metric(x, y, kid_subsets=3, kid_subset_size=120, verbose=False)
    assert ours == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-9)
    metric = KernelInceptionDistance(feature=torch.nn.Identity(), subsets=3, subset_size=120)
    metric.update(x, real=True)
    metric.update(y, real=False)
    assert ours == pytest.approx(float(metric.compute()[0]), rel=1e-9)


def test_kid_of_subsets_is_seeded_and_leaves_numpy_alone():
    x, y = features(50, 1), features(300, 2, shift=0.1)
    np.random.seed(5)
    expected = np.random.RandomState(5).random()
    first = kernel_distance(x, y, subsets=10, seed=1)
    assert np.random.random() == expected
    assert first == kernel_distance(x, y, subsets=10, seed=1) != kernel_distance(x, y, subsets=10, seed=2)


def test_spread_of_kid_is_that_of_resampled_heads():
    """Against unbiased MMD^2 written out for each resample, pairs of a head with itself left out."""
    x, y = features(12, 1), features(20, 2, shift=0.2)
    draws = torch.randint(12, (50, 12), generator=generator_for(3, "bootstrap"))

    def mmd(rows: list[int]) -> float:
        kernel = lambda a, b: float((a.double() @ b.double() / a.shape[0] + 1) ** 3)  # noqa: E731
        among = [kernel(x[i], x[j]) for a, i in enumerate(rows) for b, j in enumerate(rows) if a != b and i != j]
        return np.mean(among) - 2 * np.mean([kernel(x[i], other) for i in rows for other in y])

    whole = mmd(list(range(12)))
    expected = percentile_interval(torch.tensor([mmd(draw.tolist()) - whole for draw in draws]))
    assert kernel_distance_spread(x, y, resamples=50, seed=3) == pytest.approx(expected, rel=1e-9)
    low, high = kernel_distance_spread(features(400, 1), features(500, 2), resamples=300, seed=0)
    fewer = kernel_distance_spread(features(100, 1), features(500, 2), resamples=300, seed=0)
    assert low < 0 < high and fewer[1] - fewer[0] > 1.5 * (high - low), "fewer heads, a wider interval"


def test_kid_notices_a_shift():
    reference = features(500, 0)
    assert kernel_distance(features(100, 1, shift=0.3), reference) > 10 * abs(
        kernel_distance(features(100, 1), reference)
    )


def test_kid_is_that_of_clean_fid_on_the_same_subsets(monkeypatch):
    """Also where the kernel is computed a few rows at a time, and where the reference's part is known before."""
    from cleanfid import fid as cleanfid

    x, y = features(60, 1), features(150, 2, shift=0.1)
    np.random.seed(4)
    theirs = cleanfid.kernel_distance(x.numpy(), y.numpy(), num_subsets=8)
    assert kernel_distance(x, y, subsets=8, seed=4) == pytest.approx(theirs, rel=1e-9)
    monkeypatch.setattr(metrics, "KERNEL_ROWS", 7)
    among = metrics.reference_sums(y, len(x), subsets=8, seed=4)
    assert kernel_distance(x, y, subsets=8, seed=4, among=among) == pytest.approx(theirs, rel=1e-9)


def test_packages_that_disagree_stop_the_stage(monkeypatch):
    from cleanfid import fid as cleanfid
    from torchmetrics.image import kid

    x, y = features(70, 1), features(80, 2)
    metrics.check_packages(x, y, seed=2)
    real = kid.poly_mmd
    with monkeypatch.context() as patch:
        patch.setattr(kid, "poly_mmd", lambda a, b: real(a, b) * 1.001 + 1e-3)
        with pytest.raises(MetricDisagreement, match="KID is .* by torchmetrics"):
            metrics.check_packages(x, y)
    monkeypatch.setattr(cleanfid, "frechet_distance", lambda *_: 1.0)
    with pytest.raises(MetricDisagreement, match="FID is .* by clean-fid"):
        metrics.check_packages(x, y)


def test_statistics_are_those_of_float64_even_from_float32():
    x = (features(500, 1) + 100).float()  # a large mean: float32 sums would lose the covariance
    statistics = features_to_statistics(x)
    expected = x.double().T.cov().numpy()
    np.testing.assert_allclose(statistics.covariance, expected, rtol=1e-9, atol=1e-12)
    assert statistics.mean.dtype == np.float64


def test_too_few_rows_are_refused():
    with pytest.raises(ValueError, match="two feature rows"):
        features_to_statistics(features(1, 0))
    with pytest.raises(ValueError, match="two rows"):
        kernel_distance(features(1, 0), features(10, 1))


def test_bootstrap_interval_covers_the_mean_as_often_as_it_says():
    generator = torch.Generator().manual_seed(0)
    covered = 0
    for trial in range(400):
        sample = torch.rand(100, generator=generator, dtype=torch.float64) ** 2  # skewed, mean 1/3
        low, high = bootstrap_interval(sample, resamples=300, seed=trial)
        covered += low <= 1 / 3 <= high
    assert 0.90 <= covered / 400 <= 0.98


def test_bootstrap_interval_is_seeded_and_shrinks_with_the_sample():
    values = torch.randn(1600, generator=torch.Generator().manual_seed(1))
    low, high = bootstrap_interval(values, resamples=1000, seed=0)
    assert (low, high) == bootstrap_interval(values, resamples=1000, seed=0)
    few_low, few_high = bootstrap_interval(values[:100], resamples=1000, seed=0)
    assert low < float(values.mean()) < high
    assert (few_high - few_low) / (high - low) == pytest.approx(4, rel=0.25)


def test_errors_outside_a_region_ignore_the_inside():
    x, y = torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 8, 8)
    region = torch.zeros(2, 8, 8, dtype=torch.bool)
    region[:, 2:4, 2:4] = True
    y[:, :, 2:4, 2:4] = 5
    assert outside_error(x, y, region).tolist() == [0, 0]
    y[1, 0, 0, 0] = 0.6  # one channel of one of 60 pixels outside
    assert outside_error(x, y, region).tolist() == pytest.approx([0, 0.6**2 / 3 / 60])
    assert mean_squared_error(x, y)[0] == pytest.approx(25 * 4 / 64)
    assert outside_error(x, y, torch.ones_like(region)).tolist() == [0, 0]  # nothing outside, nothing leaks
