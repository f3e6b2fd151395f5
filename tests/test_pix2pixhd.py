"""pix2pixHD: shapes and sizes of its networks, what a patch sees, its losses against independent formulas."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from editgan.methods.distillation import pix2pixhd
from editgan.methods.distillation.pix2pixhd import GlobalGenerator, MultiscaleDiscriminator, PatchDiscriminator
from editgan.training import count_parameters


@pytest.mark.parametrize(("channels", "side", "downs"), [(3, 16, 2), (19, 32, 3), (3, 64, 4), (3, 8, 0)])
def test_generator_keeps_the_resolution(channels, side, downs):
    G = GlobalGenerator(in_channels=channels, width=4, num_downs=downs, num_blocks=2)
    images = G(torch.randn(2, channels, side, side))
    assert images.shape == (2, 3, side, side) and images.abs().max() <= 1
    assert G(torch.randn(1, channels, side, 2 * side)).shape == (1, 3, side, 2 * side)


def test_generator_of_the_paper_has_its_size():
    """c7s1-64, d128 ... d1024, nine R1024, u512 ... u64, c7s1-3, counted by hand: about 182 million."""
    convolutions = [(7, 3, 64), *((3, c, 2 * c) for c in (64, 128, 256, 512)), *[(3, 1024, 1024)] * 18]
    convolutions += [*((3, 2 * c, c) for c in (512, 256, 128, 64)), (7, 64, 3)]
    with torch.device("meta"):
        G = GlobalGenerator()
    assert count_parameters(G) == sum((side * side * few + 1) * many for side, few, many in convolutions)


def test_residual_generator_adds_its_input():
    x = torch.randn(2, 3, 16, 16)
    G = pix2pixhd.initialise(GlobalGenerator(width=4, num_downs=1, num_blocks=1), torch.Generator().manual_seed(0))
    adding = GlobalGenerator(width=4, num_downs=1, num_blocks=1, residual=True)
    adding.load_state_dict(G.state_dict())
    torch.testing.assert_close(adding(x), x + G(x))
    with pytest.raises(ValueError, match="got 5 and 3"):
        GlobalGenerator(in_channels=5, residual=True)


@pytest.mark.parametrize("shape", [(1, 3, 36, 32), (1, 4, 32, 32), (3, 32, 32), (1, 3, 8, 8)])
def test_wrong_images_are_named(shape):
    with pytest.raises(ValueError, match=r"\[N, 3, H, W\] with H and W multiples of 8, at least 16, got"):
        GlobalGenerator(width=4, num_downs=3, num_blocks=1)(torch.zeros(shape))


def test_result_does_not_depend_on_the_batch():
    torch.manual_seed(0)
    G, x = GlobalGenerator(width=4, num_downs=2, num_blocks=1), torch.randn(5, 3, 16, 16)
    torch.testing.assert_close(G(x), torch.cat([G(x[:2]), G(x[2:])]), rtol=1e-4, atol=1e-5)


def test_generator_against_plain_layers():
    """The same weights in a chain of torch's own layers, in float64."""
    torch.manual_seed(0)
    G = GlobalGenerator(in_channels=5, width=4, num_downs=1, num_blocks=1).double()
    x = torch.randn(2, 5, 8, 8, dtype=torch.float64)
    norm, pad = F.instance_norm, nn.ReflectionPad2d
    y = norm(F.conv2d(pad(3)(x), G.first.weight, G.first.bias)).relu()
    y = norm(F.conv2d(y, G.downs[0].weight, G.downs[0].bias, stride=2, padding=1)).relu()
    block = G.blocks[0]
    inner = norm(F.conv2d(pad(1)(y), block.first.weight, block.first.bias)).relu()
    y = y + norm(F.conv2d(pad(1)(inner), block.second.weight, block.second.bias))
    up = F.conv_transpose2d(y, G.ups[0].weight, G.ups[0].bias, stride=2, padding=1, output_padding=1)
    y = torch.tanh(F.conv2d(pad(3)(norm(up).relu()), G.last.weight, G.last.bias))
    torch.testing.assert_close(G(x), y)


def test_discriminators_give_features_then_scores_at_each_scale():
    D = MultiscaleDiscriminator(in_channels=6, width=8)
    outputs = D(torch.randn(2, 6, 64, 64))
    assert [len(scale) for scale in outputs] == [5, 5]
    assert [feature.shape[1] for feature in outputs[0]] == [8, 16, 32, 64, 1]
    assert [feature.shape[-1] for feature in outputs[0]] == [33, 17, 9, 10, 11]
    assert [feature.shape[-1] for feature in outputs[1]] == [17, 9, 5, 6, 7]
    with torch.device("meta"):
        widths = [len(layer.weight) for layer in PatchDiscriminator(in_channels=3, width=256).layers]
    assert widths == [256, 512, 512, 512]


def test_a_score_sees_seventy_pixels(monkeypatch):
    """Without the normalisation, whose statistics reach over the whole image."""
    monkeypatch.setattr(F, "instance_norm", lambda x: x)
    torch.manual_seed(0)
    D, x = PatchDiscriminator(in_channels=1, width=4), torch.randn(1, 1, 160, 160, requires_grad=True)
    scores = D(x)[-1]
    scores[0, 0, scores.shape[2] // 2, scores.shape[3] // 2].backward()
    seen = x.grad[0, 0] != 0
    assert int(seen.any(0).sum()) == int(seen.any(1).sum()) == 70


def test_initial_weights_come_from_the_generator_alone():
    first, second = (
        pix2pixhd.initialise(GlobalGenerator(width=8, num_downs=2, num_blocks=2), torch.Generator().manual_seed(3))
        for _ in range(2)
    )
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)
    assert float(first.blocks[0].first.weight.detach().std()) == pytest.approx(0.02, rel=0.05)
    assert not first.last.bias.any()


def outputs(seed: int) -> list[list[torch.Tensor]]:
    """What a discriminator with two scales might return."""
    generator = torch.Generator().manual_seed(seed)
    sides = ((9, 5, 6), (5, 3, 4))
    return [[torch.randn(2, 4 if i < 2 else 1, s, s, generator=generator) for i, s in enumerate(row)] for row in sides]


def test_losses_against_float64():
    real, fake = outputs(0), outputs(1)
    real64, fake64 = ([[f.double() for f in scale] for scale in net] for net in (real, fake))
    expected = sum(
        0.5 * F.mse_loss(r[-1], torch.ones_like(r[-1])) + 0.5 * F.mse_loss(f[-1], torch.zeros_like(f[-1]))
        for r, f in zip(real64, fake64, strict=True)
    )
    torch.testing.assert_close(pix2pixhd.lsgan_d_loss(real, fake).double(), expected, rtol=1e-5, atol=0)
    expected = sum(F.mse_loss(f[-1], torch.ones_like(f[-1])) for f in fake64)
    torch.testing.assert_close(pix2pixhd.lsgan_g_loss(fake).double(), expected, rtol=1e-5, atol=0)
    expected = sum(
        (4 / 2) * (1 / 2) * (r[i] - f[i]).abs().sum() / r[i].numel()
        for r, f in zip(real64, fake64, strict=True)
        for i in range(2)
    )
    torch.testing.assert_close(pix2pixhd.feature_matching_loss(real, fake).double(), expected, rtol=1e-5, atol=0)
    maps, others = ([torch.randn(2, 3, s, s) for s in (8, 4, 2, 2, 1)] for _ in range(2))
    expected = sum(
        (m.double() - o.double()).abs().mean() / 2**power
        for m, o, power in zip(maps, others, (5, 4, 3, 2, 0), strict=True)
    )
    torch.testing.assert_close(pix2pixhd.vgg_loss(maps, others).double(), expected, rtol=1e-5, atol=0)


def test_no_gradient_reaches_the_features_of_real_images():
    real, fake = ([[f.requires_grad_() for f in scale] for scale in outputs(seed)] for seed in (0, 1))
    pix2pixhd.feature_matching_loss(real, fake).backward()
    assert all(f.grad is None for scale in real for f in scale)
    assert all(f.grad is not None for scale in fake for f in scale[:-1])
    assert all(scale[-1].grad is None for scale in fake), "scores are no features"


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="shorter"):
        pix2pixhd.vgg_loss([torch.zeros(1)] * 4, [torch.zeros(1)] * 4)


@pytest.mark.assets
def test_vgg_features_are_those_of_lpips_before_normalisation(assets_dir):
    from editgan.assets.load import load_network

    lpips_vgg, images = load_network("lpips_vgg", assets_dir), torch.rand(1, 3, 64, 64) * 2 - 1
    maps = pix2pixhd.vgg_features(lpips_vgg, images)
    assert [m.shape[1] for m in maps] == [64, 128, 256, 512, 512] and [m.shape[2] for m in maps] == [64, 32, 16, 8, 4]
    for raw, unit in zip(maps, lpips_vgg.features(images), strict=True):
        torch.testing.assert_close(F.normalize(raw, dim=1), unit, rtol=1e-3, atol=1e-4)
