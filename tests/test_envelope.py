"""Area under accuracy over identity: by hand, and what must not change it."""

import pytest
import torch

from editgan.benchmark.envelope import bootstrap_areas, envelope_area, interval


def area(points: list[tuple[float, float]], low: float, high: float) -> float:
    identity, accuracy = torch.tensor(points, dtype=torch.float64).T
    ends = torch.tensor([low, high], dtype=torch.float64)
    return float(envelope_area(accuracy, identity, *ends))


def test_area_by_hand():
    """0.1 from 0.8 to 0.6, then 0.5 to 0.5, then 0.9 to 0.4."""
    expected = (0.2 * 0.1 + 0.1 * 0.5 + 0.1 * 0.9) / 0.4
    assert area([(0.8, 0.1), (0.6, 0.5), (0.5, 0.9)], low=0.4, high=0.8) == pytest.approx(expected)


def test_nothing_is_extrapolated_and_nothing_outside_the_ends_counts():
    assert area([(0.6, 1.0)], low=0.4, high=0.8) == pytest.approx(0.5), "nothing keeps more than 0.6"
    assert area([(0.9, 1.0)], low=0.4, high=0.8) == pytest.approx(1.0)
    assert area([(0.3, 1.0)], low=0.4, high=0.8) == 0


def test_order_and_dominated_strengths_change_nothing():
    points = [(0.8, 0.1), (0.7, 0.4), (0.5, 0.9)]
    expected = area(points, 0.4, 0.8)
    assert area(points[::-1], 0.4, 0.8) == pytest.approx(expected)
    assert area([*points, (0.6, 0.3), (0.45, 0.8)], 0.4, 0.8) == pytest.approx(expected)
    assert area([*points, (0.6, 0.5)], 0.4, 0.8) > expected


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
    low, high = interval(found["a"][1:])
    assert low < float(found["a"][0]) < high
    assert interval(found["b"][1:] - found["a"][1:])[0] >= 0, "b smiles wherever a does, on every resample"
