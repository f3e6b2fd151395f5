"""The parts of the recipe: relativistic and hinge losses, penalties as finite differences, both discriminators."""

import math

import pytest
import torch
from tiny_generator import Backbone
from torch import nn

from editgan.generator import losses
from editgan.generator.pixel_discriminator import PixelDiscriminator
from editgan.generator.projected_discriminator import ProjectedDiscriminator, diffaugment

SIZE = 16
DIRECTIONS = 10_000


def test_relativistic_losses_are_each_other_mirrored():
    real, fake = torch.randn(2, 6, 1, dtype=torch.float64)
    written = torch.stack([torch.log1p(torch.exp(f - r)) for r, f in zip(real, fake, strict=True)]).mean()
    torch.testing.assert_close(losses.relativistic_discriminator_loss(real, fake), written)
    mirrored = losses.relativistic_discriminator_loss(fake, real)
    torch.testing.assert_close(losses.relativistic_generator_loss(real, fake), mirrored)
    shifted = losses.relativistic_generator_loss(real + 7, fake + 7)
    torch.testing.assert_close(shifted, mirrored, msg="only the difference of the logits counts")


def test_hinge_losses_stop_at_the_margin():
    real, fake = torch.tensor([[2.0, 0.5], [-1.0, 1.0]]), torch.tensor([[-3.0, 0.0], [-1.0, 1.0]])
    assert losses.hinge_discriminator_loss(real, fake) == pytest.approx((0 + 0.5 + 2 + 0) / 4 + (0 + 1 + 0 + 2) / 4)
    assert losses.hinge_generator_loss(fake) == pytest.approx(3 / 4)


class Wavy(nn.Module):
    """A discriminator with curvature everywhere, so that a finite step shows its bias: mean |grad|^2 = |a|^2 cos^2."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("a", torch.randn(3 * 8 * 8, dtype=torch.float64) / 4)

    def forward(self, x):
        return torch.sin(x.flatten(1) @ self.a)[:, None]


def mean_penalty(discriminator: nn.Module, x: torch.Tensor, step: float) -> float:
    """Over DIRECTIONS directions for every image."""
    logits, found = discriminator(x), []
    for _ in range(DIRECTIONS // 500):
        e = torch.randn(len(x), 500, *x.shape[1:], dtype=x.dtype)
        moved = discriminator((x[:, None] + step * e).flatten(0, 1))  # a group is one direction of all images
        found.append(losses.finite_difference_penalty(moved.view(len(x), 500), logits, step))
    return float(torch.stack(found).mean())


@torch.no_grad()
def test_finite_difference_is_the_exact_penalty_on_average():
    discriminator = PixelDiscriminator(img_resolution=8, channel_base=32, channel_max=8, mbstd_group=1).double()
    x = torch.randn(8, 3, 8, 8, dtype=torch.float64)
    with torch.enable_grad():
        exact = losses.r1_penalty(discriminator, x).item()
    assert mean_penalty(discriminator, x, 1e-4) == pytest.approx(exact, rel=0.02)


@torch.no_grad()
def test_finite_difference_includes_the_other_images_of_a_minibatch_group():
    """With minibatch standard deviation a logit depends on all images of its group: then the mean is that of the
    squared gradients of each logit with respect to all of them."""
    discriminator = PixelDiscriminator(img_resolution=8, channel_base=32, channel_max=8, mbstd_group=4).double()
    x = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    with torch.enable_grad():
        jacobian = torch.autograd.functional.jacobian(lambda images: discriminator(images)[:, 0], x)  # [4, 4, 3, 8, 8]
    exact = jacobian.square().sum((1, 2, 3, 4)).mean().item()
    assert mean_penalty(discriminator, x, 1e-4) == pytest.approx(exact, rel=0.02)


@torch.no_grad()
def test_bias_of_the_finite_difference_falls_with_the_square_of_the_step():
    """For sin(a x): E[(sin(u + s |a| g) - sin u)^2] / s^2, known in closed form; at s = .05 it is 1 % here."""
    discriminator, x = Wavy(), torch.randn(8, 3, 8, 8, dtype=torch.float64)
    size, u = float(discriminator.a.norm()), x.flatten(1) @ discriminator.a
    exact = float((size * u.cos()).square().mean())

    def expected(step: float) -> float:
        t = (step * size) ** 2
        moved_squared = (1 - math.exp(-2 * t) * (2 * u).cos()) / 2
        return float((moved_squared - 2 * u.sin().square() * math.exp(-t / 2) + u.sin().square()).mean()) / step**2

    bias = {step: expected(step) / exact - 1 for step in (0.05, 0.1, 0.2)}
    for step, known in bias.items():
        assert mean_penalty(discriminator, x, step) == pytest.approx(exact * (1 + known), rel=0.02)
    assert bias[0.1] == pytest.approx(4 * bias[0.05], rel=0.25) and abs(bias[0.05]) < 0.05


def test_pixel_discriminator_never_convolves_at_the_full_resolution():
    discriminator = PixelDiscriminator(img_resolution=64, channel_base=256, channel_max=16)
    sides = []
    for module in discriminator.modules():
        if type(module).__name__ == "EqualizedConv2d":
            module.register_forward_pre_hook(lambda _, inputs: sides.append(inputs[0].shape[-1]))
    logits = discriminator(torch.randn(4, 3, 64, 64))
    assert logits.shape == (4, 1) and max(sides) == 32 and min(sides) == 4
    again = PixelDiscriminator(**discriminator.config)
    again.load_state_dict(discriminator.state_dict())
    images = torch.randn(4, 3, 64, 64)
    torch.testing.assert_close(again(images), discriminator(images))


def test_pixel_discriminator_sees_whether_images_of_a_group_are_alike():
    discriminator = PixelDiscriminator(img_resolution=SIZE, channel_base=64, channel_max=8, mbstd_group=2)
    first, second = torch.randn(2, 1, 3, SIZE, SIZE)
    alone = discriminator(torch.cat([first, first]))[0]
    beside = discriminator(torch.cat([first, second]))[0]
    assert (alone - beside).abs() > 1e-4


@pytest.fixture
def projected():
    return ProjectedDiscriminator(backbone=Backbone(), size=SIZE, width=4, seed=1)


def test_only_the_scale_discriminators_are_trained(projected):
    images = torch.randn(3, 3, SIZE, SIZE, requires_grad=True)
    logits = projected(images)
    assert logits.shape == (3, 4)
    logits.sum().backward()
    assert images.grad.abs().sum() > 0
    trained = {name.split(".")[0] for name, parameter in projected.named_parameters() if parameter.grad is not None}
    assert trained == {"heads"}
    assert not any("backbone" in name for name in projected.state_dict())
    same = ProjectedDiscriminator(backbone=Backbone(), size=SIZE, width=4, seed=1)
    other = ProjectedDiscriminator(backbone=Backbone(), size=SIZE, width=4, seed=2)
    for mine, equal, different in zip(
        projected.across_channels, same.across_channels, other.across_channels, strict=True
    ):
        assert torch.equal(mine.weight, equal.weight) and not torch.equal(mine.weight, different.weight)


def test_features_are_standardised_by_the_reals(projected):
    reals = 3 + 2 * torch.randn(64, 3, SIZE, SIZE)
    projected.standardise(reals)
    for index, features in enumerate(Backbone()(reals)):
        scaled = (features - getattr(projected, f"mean{index}")) / getattr(projected, f"std{index}")
        torch.testing.assert_close(scaled.mean((0, 2, 3)), torch.zeros(features.shape[1]), atol=1e-4, rtol=0)
        torch.testing.assert_close(scaled.std((0, 2, 3)), torch.ones(features.shape[1]), atol=1e-3, rtol=0)


def test_diffaugment_in_the_middle_is_the_image_itself():
    images = torch.randn(2, 3, SIZE, SIZE)
    torch.testing.assert_close(diffaugment(images, torch.full((2, 5), 0.5)), images)


def test_diffaugment_does_what_its_draws_say():
    images = torch.rand(1, 3, SIZE, SIZE) - 0.5
    neutral = [0.5] * 5

    def drawn(place: int, value: float) -> torch.Tensor:
        return diffaugment(images, torch.tensor([neutral[:place] + [value] + neutral[place + 1 :]]))

    torch.testing.assert_close(drawn(0, 0.9), images + 0.4)
    torch.testing.assert_close(drawn(1, 0.0), images.mean(1, keepdim=True).expand_as(images))
    contrasted = (images - images.mean()) * 1.25 + images.mean()
    torch.testing.assert_close(drawn(2, 0.75), contrasted)
    torch.testing.assert_close(drawn(3, 0.99)[..., :-2], images[..., 2:])
    torch.testing.assert_close(drawn(4, 0.0)[..., 2:, :], images[..., :-2, :])
