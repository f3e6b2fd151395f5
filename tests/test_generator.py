"""The networks: shapes, W+ rows, published parameter names, minibatch statistics, losses."""

import math

import pytest
import torch

from editgan.generator.discriminator import Discriminator, minibatch_stddev
from editgan.generator.generator import Generator, load_generator
from editgan.generator.losses import (
    discriminator_loss,
    draw_latents,
    generator_loss,
    mixed_ws,
    path_lengths,
    r1_penalty,
)
from editgan.weights import save_module


def small_generator(**changes):
    sizes = dict(
        z_dim=16, w_dim=16, img_resolution=32, channel_base=256, channel_max=32, num_mapping_layers=2, **changes
    )
    return Generator(**sizes)


def with_noise(generator):
    with torch.no_grad():
        for name, parameter in generator.named_parameters():
            if name.endswith("noise_strength"):
                parameter.fill_(0.5)
    return generator


def test_shapes_of_image_latents_and_features():
    generator = small_generator()
    ws = generator.mapping(torch.randn(3, 16))
    assert ws.shape == (3, 8, 16) and generator.num_ws == 8
    img, maps = generator.synthesis_features(ws)
    assert img.shape == (3, 3, 32, 32)
    assert [m.shape[2] for m in maps] == [4, 4, 8, 8, 16, 16, 32, 32]
    assert [m.shape[1] for m in maps] == generator.feature_channels == [32, 32, 32, 32, 16, 16, 8, 8]
    torch.testing.assert_close(maps[0][1], generator.synthesis.b4.const)
    torch.testing.assert_close(img, generator.synthesis(ws))


def test_each_row_of_w_plus_feeds_the_layers_it_should():
    """Row 0 the 4x4 convolution, row 1 its RGB and the next block's first convolution, and so on."""
    generator = small_generator()
    ws = generator.mapping(torch.randn(1, 16))
    _, before = generator.synthesis_features(ws)
    for row in range(generator.num_ws):
        changed = ws.clone()
        changed[:, row] += 1
        img, after = generator.synthesis_features(changed)
        first = next((k for k, (a, b) in enumerate(zip(before, after, strict=True)) if not torch.equal(a, b)), None)
        assert first == (row + 1 if row < generator.num_ws - 1 else None)  # the last row is for RGB alone
        assert not torch.equal(img, generator.synthesis(ws))


def test_parameters_carry_the_published_names_and_shapes():
    shapes = {name: tuple(t.shape) for name, t in small_generator().state_dict().items()}
    assert shapes["mapping.fc0.weight"] == (16, 16) and shapes["mapping.w_avg"] == (16,)
    assert shapes["synthesis.b4.const"] == (32, 4, 4)
    assert "synthesis.b4.conv0.weight" not in shapes
    assert shapes["synthesis.b16.conv0.weight"] == (16, 32, 3, 3)
    assert shapes["synthesis.b16.conv0.affine.weight"] == (32, 16)
    assert shapes["synthesis.b16.conv1.noise_const"] == (16, 16) and shapes["synthesis.b16.conv1.noise_strength"] == ()
    assert shapes["synthesis.b32.torgb.weight"] == (3, 8, 1, 1)
    shapes = {name: tuple(t.shape) for name, t in small_discriminator().state_dict().items()}
    assert shapes["b32.fromrgb.weight"] == (8, 3, 1, 1) and "b16.fromrgb.weight" not in shapes
    assert shapes["b32.skip.weight"] == (16, 8, 1, 1) and "b32.skip.bias" not in shapes
    assert shapes["b4.conv.weight"] == (32, 33, 3, 3) and shapes["b4.out.weight"] == (1, 32)


def test_published_state_dicts_hold_exactly_our_names_beside_their_constant_filters():
    """The names that stylegan2-ada-pytorch writes for its default networks (G: skip, D: resnet) at 32 px."""

    def named(prefix, *names):
        return {f"{prefix}.{name}" for name in names}

    layer = ("weight", "bias", "affine.weight", "affine.bias", "noise_const", "noise_strength", "resample_filter")
    published = {"mapping.w_avg", "synthesis.b4.const"}
    for index in range(2):
        published |= named(f"mapping.fc{index}", "weight", "bias")
    for resolution in (4, 8, 16, 32):
        block = f"synthesis.b{resolution}"
        published |= {f"{block}.resample_filter"} | named(f"{block}.conv1", *layer)
        published |= named(f"{block}.torgb", "weight", "bias", "affine.weight", "affine.bias")
        if resolution > 4:
            published |= named(f"{block}.conv0", *layer)
    assert {name for name in published if "resample_filter" not in name} == set(small_generator().state_dict())

    convolution = ("weight", "bias", "resample_filter")
    published = named("b32.fromrgb", *convolution) | named("b4.conv", *convolution)
    published |= named("b4.fc", "weight", "bias") | named("b4.out", "weight", "bias")
    for resolution in (8, 16, 32):
        block = f"b{resolution}"
        published |= {f"{block}.resample_filter"} | named(f"{block}.skip", "weight", "resample_filter")
        published |= named(f"{block}.conv0", *convolution) | named(f"{block}.conv1", *convolution)
    assert {name for name in published if "resample_filter" not in name} == set(small_discriminator().state_dict())


def test_noise_modes():
    generator = with_noise(small_generator())
    z = torch.randn(2, 16)
    assert torch.equal(generator(z), generator(z))
    assert not torch.equal(generator(z, noise_mode="random"), generator(z, noise_mode="random"))
    assert not torch.equal(generator(z), generator(z, noise_mode="none"))
    with pytest.raises(ValueError, match="noise_mode must be one of const, random, none"):
        generator(z, noise_mode="constant")


def test_truncation_moves_towards_w_avg():
    generator = small_generator()
    z = torch.randn(4, 16)
    ws = generator.mapping(z)
    generator.w_avg.copy_(torch.randn(16))
    torch.testing.assert_close(generator.mapping(z, truncation_psi=0.0), generator.w_avg.expand(4, 8, 16))
    half = generator.w_avg + 0.7 * (ws - generator.w_avg)
    torch.testing.assert_close(generator.mapping(z, truncation_psi=0.7), half)


def test_images_do_not_depend_on_the_batch_they_are_made_in():
    generator = with_noise(small_generator())
    z = torch.randn(5, 16)
    torch.testing.assert_close(generator(z)[2:3], generator(z[2:3]), rtol=1e-4, atol=1e-4)


def test_saved_generator_makes_the_same_images(tmp_path):
    generator = with_noise(small_generator())
    z = torch.randn(2, 16)
    save_module(tmp_path / "G_ema.safetensors", generator, generator.config)
    loaded = load_generator(tmp_path / "G_ema.safetensors")
    images, expected = loaded(z), generator(z)
    assert (images - expected).abs().max() < 2e-3 * expected.abs().max(), "kept in float16"
    assert not any(p.requires_grad for p in loaded.parameters()) and not loaded.training


@pytest.mark.parametrize("resolution", [4, 48])
def test_impossible_resolutions_are_refused(resolution):
    with pytest.raises(ValueError, match=f"power of two of at least 8, got {resolution}"):
        Generator(z_dim=8, w_dim=8, img_resolution=resolution, channel_base=64, channel_max=8, num_mapping_layers=2)


def small_discriminator():
    return Discriminator(img_resolution=32, channel_base=256, channel_max=32)


def test_discriminator_gives_one_logit_an_image():
    assert small_discriminator()(torch.randn(8, 3, 32, 32)).shape == (8, 1)


def test_minibatch_stddev_by_hand():
    x = torch.randn(8, 3, 4, 4)
    y = minibatch_stddev(x, 4)
    assert y.shape == (8, 4, 4, 4) and torch.equal(y[:, :3], x)
    for group in range(2):
        members = x[group::2].double()  # sample n belongs to group n mod 2
        expected = (members.var(dim=0, unbiased=False) + 1e-8).sqrt().mean()
        torch.testing.assert_close(y[group::2, 3].double(), expected.expand(4, 4, 4), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="6 images cannot be split into groups of 4"):
        minibatch_stddev(x[:6], 4)


def test_logistic_losses_at_indifference():
    zero = torch.zeros(4, 1)
    assert math.isclose(float(generator_loss(zero)), math.log(2), rel_tol=1e-6)
    assert math.isclose(float(discriminator_loss(zero, zero)), 2 * math.log(2), rel_tol=1e-6)
    assert generator_loss(zero + 5) < generator_loss(zero)
    assert discriminator_loss(zero + 5, zero - 5) < discriminator_loss(zero, zero)


def test_r1_of_a_linear_critic_is_the_square_of_its_weights():
    weights = torch.randn(3, 8, 8)
    penalty = r1_penalty(lambda x: (x * weights).sum(dim=(1, 2, 3)), torch.randn(5, 3, 8, 8))
    torch.testing.assert_close(penalty, weights.square().sum())


def test_r1_reaches_the_weights_of_the_discriminator():
    discriminator = small_discriminator()
    r1_penalty(discriminator, torch.randn(4, 3, 32, 32)).backward()
    assert discriminator.b32.conv0.weight.grad.abs().sum() > 0


class LinearSynthesis:
    """img = sum over rows of A w, so that |J^T y| has a known distribution."""

    def __init__(self, matrix):
        self.matrix = matrix

    def synthesis(self, ws, noise_mode):
        return (ws.sum(dim=1) @ self.matrix).reshape(ws.shape[0], 3, 8, 8)


def test_path_length_of_a_linear_synthesis():
    """E |A y|^2 = |A|_F^2 / (H W) for y ~ N(0, 1) / sqrt(H W); rows are averaged, not added."""
    matrix = torch.randn(16, 192)
    ws = torch.randn(4000, 5, 16, requires_grad=True)
    lengths = path_lengths(LinearSynthesis(matrix), ws)
    expected = matrix.square().sum() / 64
    assert abs(float(lengths.square().mean() / expected) - 1) < 0.03


def test_style_mixing_changes_rows_from_one_cut_on():
    generator = small_generator()
    ws = mixed_ws(generator, *draw_latents(generator, 4, 1.0))
    same = (ws == ws[:, :1]).all(dim=2)  # [4, num_ws]
    cut = int(same[0].sum())
    assert 1 <= cut < generator.num_ws
    assert (same == (torch.arange(generator.num_ws) < cut)).all()
    ws = mixed_ws(generator, *draw_latents(generator, 4, 0.0))
    assert (ws == ws[:, :1]).all()


def test_bfloat16_changes_images_little_and_latents_not_at_all():
    generator, discriminator = with_noise(small_generator()), small_discriminator()
    z = torch.randn(8, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ws, img = generator.mapping(z), generator(z)
        logits = discriminator(img)
    assert torch.equal(ws, generator.mapping(z)) and img.dtype == logits.dtype == torch.float32
    assert 0 < ((img - generator(z)).std() / img.std()).item() < 0.02
    assert ((logits - discriminator(img)).abs().max() / (logits.abs().max() + 1)).item() < 0.05
