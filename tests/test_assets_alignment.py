"""Face crops: the four points land where the template has them, at any size, and gradients come back."""

import pytest
import torch

from editgan.assets.alignment import HEADS, align, fit_similarity, heads_points
from editgan.assets.networks.mobilefacenet import TEMPLATE
from editgan.images import EYE_CENTRE, EYE_DISTANCE


def blob(size: int, centre: tuple[float, float], width: float) -> torch.Tensor:
    """A Gaussian at `centre` (pixels) in [1, 3, size, size]."""
    axis = torch.arange(size) + 0.5
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * width**2)).expand(1, 3, size, size)


def centre_of_mass(image: torch.Tensor) -> tuple[float, float]:
    axis = torch.arange(image.shape[-1]) + 0.5
    weights = image[0, 0] / image[0, 0].sum()
    return (weights.sum(0) * axis).sum().item(), (weights.sum(1) * axis).sum().item()


def test_fit_recovers_a_similarity_and_beats_any_other():
    target = torch.rand(4, 2, dtype=torch.float64)
    angle, scale, shift = 0.3, 1.7, torch.tensor([5.0, -2.0], dtype=torch.float64)
    turn = scale * torch.tensor([[0.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    turn[0, 0] = turn[1, 1] = scale * torch.tensor(angle).cos()
    turn[1, 0] = scale * torch.tensor(angle).sin()
    turn[0, 1] = -turn[1, 0]
    source = target @ turn.T + shift
    found = fit_similarity(source[None], target)[0]
    torch.testing.assert_close(found, torch.cat([turn, shift[:, None]], dim=1))

    noisy = source + torch.randn(4, 2, dtype=torch.float64)
    best = fit_similarity(noisy[None], target)[0]

    def error(matrix):
        return (target @ matrix[:, :2].T + matrix[:, 2] - noisy).square().sum()

    for _ in range(20):
        a, b, x, y = torch.randn(4, dtype=torch.float64) * 0.05
        other = best + torch.stack([torch.stack([a, -b, x]), torch.stack([b, a, y])])
        assert error(best) <= error(other)


@pytest.mark.parametrize("size", [64, 256, 700])
def test_points_land_on_the_template(size):
    """Four points in the shape of the template, moved, turned and scaled: each is found at its place in the crop."""
    template = torch.tensor(TEMPLATE)
    turn = torch.tensor([[0.96, -0.28], [0.28, 0.96]]) * 0.55 * size
    points = template @ turn.T + torch.tensor([0.35, 0.12]) * size
    for k in range(4):
        crop = align(blob(size, tuple(points[k].tolist()), size / 40), TEMPLATE, 112, points[None])
        expected = (template[k] * 112).tolist()
        assert centre_of_mass(crop) == pytest.approx(expected, abs=0.25)


def test_default_points_are_the_framing_of_the_heads():
    points = heads_points(torch.zeros(2, 3, 64, 64))
    assert points.shape == (2, 4, 2)
    middle = points[0, :2].mean(0) / 64
    assert middle.tolist() == pytest.approx(EYE_CENTRE) and HEADS[1][0] - HEADS[0][0] == pytest.approx(EYE_DISTANCE)
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(align(images, TEMPLATE, 112), align(images, TEMPLATE, 112, points))


def test_large_pictures_are_smoothed_before_sampling():
    """A one-pixel chequerboard at 4 times the crop's density becomes grey, not stripes."""
    size = 600
    board = ((torch.arange(size)[:, None] + torch.arange(size)) % 2).float().expand(1, 3, size, size)
    crop = align(board, TEMPLATE, 112)
    assert (crop - 0.5).abs().max() < 0.1


def test_gradient_reaches_every_image():
    images = torch.rand(2, 3, 64, 64, requires_grad=True)
    align(images, TEMPLATE, 112).square().sum().backward()
    assert (images.grad.flatten(1).abs().sum(1) > 0).all()
