"""Area under accuracy over identity: by hand, and what must not change it."""

import pytest
import torch

from editgan.metrics import percentile_interval
from editgan.scoring.envelope import bootstrap_areas, envelope_area, envelope_at


def area(points: list[tuple[float, float]], low: float, high: float) -> float:
    identity, accuracy = torch.tensor(points, dtype=torch.float64).T
    ends = torch.tensor([low, high], dtype=torch.float64)
    return float(envelope_area(accuracy, identity, *ends))


def test_area_by_hand():
    """A single strength is worth its accuracy down to the lower end; two are worth the straight line between them."""
    assert area([(0.8, 0.3)], low=0.4, high=0.8) == pytest.approx(0.3)
    assert area([(0.8, 0.1), (0.4, 0.9)], low=0.4, high=0.8) == pytest.approx(0.5, abs=1e-3)
    corner = 0.5 * (0.5 + 0.9) / 2 + 0.5 * (0.1 + 0.5) / 2 + 0.5 * 0.2  # (0.6, 0.7) lies above the line: a hull
    assert area([(0.8, 0.1), (0.6, 0.7), (0.4, 0.9)], low=0.4, high=0.8) == pytest.approx(corner, abs=1e-3)


def test_nothing_is_extrapolated_and_nothing_outside_the_ends_counts():
    assert area([(0.6, 1.0)], low=0.4, high=0.8) == pytest.approx(0.5), "nothing keeps more than 0.6"
    assert area([(0.9, 1.0)], low=0.4, high=0.8) == pytest.approx(1.0)
    assert area([(0.3, 1.0)], low=0.4, high=0.8) == 0


def written_out(accuracy: torch.Tensor, identity: torch.Tensor, x: float) -> float:
    """The best strength that keeps x, or the best mixture of one that does and one that does not."""
    best = max((float(a) for a, i in zip(accuracy, identity, strict=True) if i >= x), default=0.0)
    for a, i in zip(accuracy, identity, strict=True):
        for b, j in zip(accuracy, identity, strict=True):
            if i >= x > j:
                best = max(best, float(a + (i - x) / (i - j) * (b - a)))
    return best


@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_envelope_is_the_best_strength_or_mixture_of_two(count):
    accuracy, identity = torch.rand(2, 20, count, dtype=torch.float64)
    x = torch.rand(20, 7, dtype=torch.float64)
    found = envelope_at(accuracy, identity, x)
    for row in range(20):
        for place in range(7):
            expected = written_out(accuracy[row], identity[row], float(x[row, place]))
            assert float(found[row, place]) == pytest.approx(expected, abs=1e-9)


def test_order_and_dominated_strengths_change_nothing():
    points = [(0.8, 0.1), (0.7, 0.4), (0.5, 0.9)]
    expected = area(points, 0.4, 0.8)
    assert area(points[::-1], 0.4, 0.8) == pytest.approx(expected)
    assert area([*points, (0.6, 0.3), (0.45, 0.8), (0.6, 0.65)], 0.4, 0.8) == pytest.approx(expected)
    assert area([*points, (0.6, 0.75)], 0.4, 0.8) > expected + 0.01


def test_bootstrap_begins_with_the_heads_themselves_and_pairs_methods():
    generator = torch.Generator().manual_seed(0)
    kept = 0.7 + 0.05 * torch.randn(200, generator=generator)
    identity = torch.stack([kept, kept - 0.1])
    smiling = torch.rand(2, 200, generator=generator) < torch.tensor([[0.1], [0.8]])
    better = smiling | (torch.rand(2, 200, generator=generator) < 0.1)
    found = bootstrap_areas(
        {"a": smiling, "b": better}, {"a": identity, "b": identity}, stranger=0.3, kept=kept, resamples=300, seed=0
    )
    means = smiling.double().mean(1), identity.double().mean(1)
    direct = envelope_area(*means, torch.tensor(0.3, dtype=torch.float64), kept.double().mean())
    assert float(found["a"][0]) == pytest.approx(100 * float(direct)) and len(found["a"]) == 301
    low, high = percentile_interval(found["a"][1:])
    assert low < float(found["a"][0]) < high
    assert percentile_interval(found["b"][1:] - found["a"][1:])[0] >= 0, "b smiles wherever a does, on every resample"
