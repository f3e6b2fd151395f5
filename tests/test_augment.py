"""Adaptive augmentation against exact transforms, scipy and finite differences."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform, gaussian_filter

from editgan.generator import augment as augment_module
from editgan.generator.augment import (
    SYM6,
    adapted,
    augment,
    colour_matrices,
    geometry_matrices,
    rotation,
    scaling,
    sym6_downsample,
    sym6_upsample,
    translation,
    warp,
)

TURN = math.pi / 2


def images(count: int = 3, side: int = 16) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


def smooth_images(count: int = 3, side: int = 48) -> torch.Tensor:
    noise = np.random.default_rng(0).normal(size=(count, 3, side, side))
    return torch.tensor(gaussian_filter(noise, (0, 0, 3, 3)), dtype=torch.float32)


def one(value: float, count: int = 3) -> torch.Tensor:
    return torch.full((count,), value)


def test_even_shifts_of_the_filter_are_orthonormal():
    taps = np.array(SYM6)
    assert sum(taps) == pytest.approx(math.sqrt(2))
    for shift in range(0, len(taps), 2):
        assert taps[shift:] @ taps[: len(taps) - shift] == pytest.approx(float(shift == 0), abs=1e-12)


def test_enlarging_and_making_smaller_gives_the_image_back_away_from_the_edge():
    img = images(side=24)
    torch.testing.assert_close(sym6_downsample(sym6_upsample(img))[..., 6:-6, 6:-6], img[..., 6:-6, 6:-6])


@pytest.mark.parametrize("side", [8, 16, 32])
def test_unit_matrix_gives_the_image_back(side):
    img = images(side=side)
    torch.testing.assert_close(warp(img, torch.eye(3).repeat(3, 1, 1)), img, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "matrix, expected",
    [
        (scaling(one(-1.0), one(1.0)), lambda x: x.flip(3)),
        (rotation(one(TURN)), lambda x: torch.rot90(x, 1, (2, 3))),
        (rotation(one(3 * TURN)), lambda x: torch.rot90(x, 3, (2, 3))),
        (translation(torch.tensor([[2.0, -1.0]] * 3)), lambda x: shifted(x, right=2, down=-1)),
    ],
)
def test_transforms_that_keep_the_pixel_grid_move_a_smooth_image_so(matrix, expected):
    """Nearly: the filter is not quite symmetric, as in the paper."""
    img = smooth_images()
    assert (warp(img, matrix) - expected(img)).abs().max() < 0.04 * img.abs().max()


def shifted(x: torch.Tensor, right: int, down: int) -> torch.Tensor:
    """Moved by whole pixels, continued by reflection."""
    side, width = x.shape[-1], 4
    padded = torch.nn.functional.pad(x, [width] * 4, mode="reflect")
    return padded[..., width - down : width - down + side, width - right : width - right + side]


def test_rotation_agrees_with_scipy_on_a_smooth_image():
    angle, img = 0.4, smooth_images(1)
    ours, smooth = warp(img, rotation(torch.tensor([angle])))[0, 0].numpy(), img[0, 0].numpy()
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])  # rows are y, x
    centre = np.full(2, 23.5)
    theirs = affine_transform(smooth, turn, centre - turn @ centre, order=5, mode="mirror")
    middle = slice(8, -8)
    assert np.abs(ours - theirs)[middle, middle].max() < 0.04 * np.abs(theirs).max()


def test_gradients_are_right_twice():
    """R1 differentiates the gradient; a step of a penalty on it must agree with finite differences."""
    img = images(2, 8).double().requires_grad_()
    torch.manual_seed(3)
    matrices = geometry_matrices(2, 8, 1.0)
    assert torch.autograd.gradcheck(lambda x: warp(x, matrices).sum((1, 2)), img, atol=1e-5)
    assert torch.autograd.gradgradcheck(lambda x: warp(x, matrices).square().sum((1, 2)), img, atol=1e-5)


def test_probability_zero_draws_nothing_and_changes_nothing():
    torch.manual_seed(0)
    img = images()
    assert augment(img, 0.0) is img
    after = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(after, torch.rand(1))


def test_each_transform_is_chosen_with_the_probability():
    torch.manual_seed(0)
    count, p = 20_000, 0.3
    colour = colour_matrices(count, p)
    untouched = (colour - torch.eye(4)).abs().amax((1, 2)) < 1e-6
    # the luma flip does nothing in half of its cases
    expected = (1 - p) ** 4 * (1 - p / 2)
    assert untouched.float().mean().item() == pytest.approx(expected, abs=4 * math.sqrt(expected / count))
    geometry = geometry_matrices(count, 64, p)
    still = (geometry - torch.eye(3)).abs().amax((1, 2)) < 1e-6
    # mirror nothing in 1/2, turns in 1/4; whole-pixel shifts may round to 0 along both axes
    nothing = (1 / 16) ** 2
    expected = (1 - p / 2) * (1 - 3 * p / 4) * (1 - p * (1 - nothing)) * (1 - p) ** 4
    assert still.float().mean().item() == pytest.approx(expected, abs=4 * math.sqrt(expected / count))


def test_strengths_are_those_of_the_paper():
    torch.manual_seed(0)
    count = 20_000
    geometry = geometry_matrices(count, 64, 1.0)
    area = torch.linalg.det(geometry[:, :2, :2]).abs().log2()  # of two equal isotropic scales; the stretch keeps it
    assert area.mean().item() == pytest.approx(0, abs=0.02)
    assert area.std().item() == pytest.approx(2 * 0.2, rel=0.05)
    colour = colour_matrices(count, 1.0)
    gain = torch.linalg.det(colour[:, :3, :3]).abs().log2()  # contrast^3 * saturation^2
    assert gain.std().item() == pytest.approx(math.hypot(3 * 0.5, 2 * 1.0), rel=0.05)


def alone(monkeypatch, matrices, place, **sizes):
    """`matrices` of 20,000 images with the transform at `place` of the paper's order chosen always, others never."""
    calls = []

    def chosen(values, p, neutral=0.0):
        calls.append(p)
        return values if len(calls) - 1 == place else torch.full_like(values, neutral)

    monkeypatch.setattr(augment_module, "gated", chosen)
    return matrices(20_000, p=0.5, **sizes)


@pytest.mark.parametrize(
    ("place", "spread"),
    [(2, 64 * 0.125 * 2 / math.sqrt(12)), (7, 64 * 0.125)],
    ids=["whole pixels, evenly up to 1/8 of the side", "fractions, normal, 1/8 of the side"],
)
def test_shifts_are_those_of_the_paper(monkeypatch, place, spread):
    shifts = alone(monkeypatch, geometry_matrices, place, side=64)[:, :2, 2]
    assert shifts.std().item() == pytest.approx(spread, rel=0.03) and shifts.mean().item() == pytest.approx(0, abs=0.2)
    whole = torch.equal(shifts, shifts.round())
    assert whole == (place == 2) and (shifts.abs().max().item() == 8 if whole else shifts.abs().max().item() > 24)


def test_brightness_and_hue_are_those_of_the_paper(monkeypatch):
    brightness = alone(monkeypatch, colour_matrices, 0)
    assert torch.equal(brightness[:, :3, :3], torch.eye(3).expand(20_000, 3, 3))
    assert torch.equal(brightness[:, 0, 3], brightness[:, 1, 3])
    assert brightness[:, 0, 3].std().item() == pytest.approx(0.2, rel=0.03)
    hue = alone(monkeypatch, colour_matrices, 3)[:, :3, :3]
    cosine = (hue.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2  # of a rotation by an angle even in [-pi, pi]
    turned = cosine.clamp(-1, 1).acos() / math.pi
    assert turned.mean().item() == pytest.approx(0.5, abs=0.01)
    assert turned.std().item() == pytest.approx(1 / math.sqrt(12), rel=0.03)
    torch.testing.assert_close(hue @ hue.transpose(1, 2), torch.eye(3).expand(20_000, 3, 3), atol=1e-5, rtol=0)
    both_ways = (hue[:, 1, 0] - hue[:, 0, 1]).sign().mean().item()
    assert both_ways == pytest.approx(0, abs=0.03)


def test_colours_keep_grey_on_its_axis():
    torch.manual_seed(0)
    grey = torch.full((3,), 0.4)
    moved = colour_matrices(500, 1.0)
    result = moved[:, :3, :3] @ grey + moved[:, :3, 3]  # [N, 3]
    assert (result - result.mean(1, keepdim=True)).abs().max() < 1e-4


def test_images_of_a_batch_do_not_depend_on_the_others_size_of_move():
    """The margin follows the furthest image; a still one beside it comes out the same."""
    img = images(2, 16)
    far = torch.stack([torch.eye(3), translation(torch.tensor([[9.0, 9.0]]))[0]])
    torch.testing.assert_close(warp(img, far)[0], warp(img[:1], torch.eye(3)[None])[0], atol=1e-4, rtol=0)


def test_probability_moves_towards_the_target_and_stays_in_range():
    assert adapted(0.5, 0.7, target=0.6, images=64, kimg=500) == pytest.approx(0.5 + 64 / 500_000)
    assert adapted(0.5, 0.5, target=0.6, images=64, kimg=500) == pytest.approx(0.5 - 64 / 500_000)
    assert adapted(0.0, -1.0, target=0.6, images=64, kimg=500) == 0.0
    assert adapted(0.9999, 1.0, target=0.6, images=64, kimg=500) == 1.0


def test_bfloat16_changes_nothing():
    """Processors that compute in bfloat16 train under autocast: matrices and images stay in full precision."""
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    results = []
    for enabled in (False, True):
        torch.manual_seed(1)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            results.append(augment(images, 0.9))
    assert results[1].dtype == torch.float32 and torch.equal(*results)
    assert not torch.equal(results[0], images)
