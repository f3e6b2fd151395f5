"""MaskGAN's networks and losses: shapes, identities, independent formulas, simulated edits, masks that smile."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from editgan.config import load_params
from editgan.methods.distillation.pix2pixhd import (
    GlobalGenerator,
    adversarial_terms,
    discriminator_loss,
    weighted_sum,
)
from editgan.methods.maskgan import losses as training
from editgan.methods.maskgan.losses import (
    AlphaBlender,
    MaskVAE,
    Parser,
    initialise_maskgan,
    inter_and_outer,
    kl_divergence,
    predict,
    simulated_edits,
)
from editgan.methods.maskgan.networks import (
    DenseMappingNetwork,
    MaskGAN,
    SpatialFeatureTransform,
    adain,
    edit,
    one_hot,
    sizes_of,
    smile_masks,
)
from editgan.runtime.environment import PROJECT_ROOT
from editgan.training import count_parameters
from editgan.weights import load_module, save_module

TINY_NET = dict(
    num_classes=5, width=8, num_downs=1, num_blocks=2, styled_ups=True, style_width=16, mask_width=8, style_downs=1
)
TINY_VAE = dict(num_classes=5, resolution=16, width=4, num_downs=2, latent=6)


def some_masks(count: int, side: int = 16, classes: int = 5) -> torch.Tensor:
    """Labels in blocks: uint8 [N, side, side]."""
    coarse = torch.randint(0, classes, (count, 4, 4), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    return coarse.repeat_interleave(side // 4, 1).repeat_interleave(side // 4, 2)


def tiny_net(**changes) -> MaskGAN:
    return initialise_maskgan(MaskGAN(**(TINY_NET | changes)), torch.Generator().manual_seed(0))


def shaken(net: MaskGAN) -> MaskGAN:
    """With styles that differ from photo to photo, which they do not before training."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in net.style.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return net


def test_one_hot_against_torch():
    masks = some_masks(3)
    assert torch.equal(one_hot(masks, 6), F.one_hot(masks.long(), 6).permute(0, 3, 1, 2).float())


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (torch.full((1, 4, 4), 5, dtype=torch.uint8), "label 5; there are 5 classes"),
        (torch.zeros(1, 4, 4), r"labels \[N, H, W\], got torch.float32"),
        (torch.zeros(1, 1, 4, 4, dtype=torch.uint8), r"got torch.uint8 \[1, 1, 4, 4\]"),
    ],
)
def test_wrong_masks_are_named(masks, message):
    with pytest.raises(ValueError, match=message):
        one_hot(masks, 5)


def test_adain_against_float64_and_gives_the_wanted_statistics():
    torch.manual_seed(0)
    x, scale, shift = 3 * torch.randn(2, 4, 6, 6) + 1, torch.randn(2, 4), torch.randn(2, 4)
    y, z = adain(x, scale, shift), x.double()
    mean, variance = z.mean((2, 3), keepdim=True), z.var((2, 3), unbiased=False, keepdim=True)
    expected = (1 + scale.double())[:, :, None, None] * (z - mean) / (variance + 1e-5).sqrt()
    torch.testing.assert_close(y.double(), expected + shift.double()[:, :, None, None], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(y.mean((2, 3)), shift, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(y.std((2, 3), unbiased=False), (1 + scale).abs(), rtol=1e-3, atol=1e-4)


def test_adain_of_a_style_of_zeros_is_instance_normalisation_and_a_photos_own_style_gives_it_back():
    x, zeros = torch.randn(2, 3, 5, 5), torch.zeros(2, 3)
    assert torch.equal(adain(x, zeros, zeros), F.instance_norm(x))
    std = (x.var((2, 3), unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(adain(x, std - 1, x.mean((2, 3))), x, rtol=1e-4, atol=1e-5)


def test_spatial_transform_scales_and_shifts_each_place_by_its_condition():
    torch.manual_seed(0)
    sft, x, condition = SpatialFeatureTransform(4, 3), torch.randn(2, 4, 5, 5), torch.randn(2, 3, 5, 5)
    y = sft(x, condition)
    row = condition[1, :, 2, 3]

    def small(part):
        hidden = F.leaky_relu(part[0].weight[:, :, 0, 0] @ row + part[0].bias, 0.1)
        return part[2].weight[:, :, 0, 0] @ hidden + part[2].bias

    expected = x[1, :, 2, 3] * (1 + small(sft.scale)) + small(sft.shift)
    torch.testing.assert_close(y[1, :, 2, 3], expected, rtol=1e-4, atol=1e-5)
    for part in (sft.scale, sft.shift):
        nn.init.zeros_(part[2].weight)
        nn.init.zeros_(part[2].bias)
    assert torch.equal(sft(x, condition), x)


@pytest.mark.parametrize(("side", "downs", "style_downs"), [(16, 1, 1), (32, 3, 0), (64, 2, 2)])
@pytest.mark.parametrize("styled_ups", [True, False])
def test_shapes(side, downs, style_downs, styled_ups):
    net = tiny_net(num_downs=downs, style_downs=style_downs, styled_ups=styled_ups)
    masks = one_hot(some_masks(2, side), 5)
    styles = net.style(torch.randn(2, 3, side, side), masks)
    assert styles.shape == (2, sum(net.mapping.style_sizes))
    blocks, ups = 2 * 4 * 8 * 2**downs, sum(2 * 8 * 2**level for level in range(downs))
    assert styles.shape[1] == blocks + (ups if styled_ups else 0)
    images = net.mapping(masks, styles)
    assert images.shape == (2, 3, side, side) and images.abs().max() <= 1


def test_a_style_of_zeros_is_pix2pixhds_generator():
    """The same weights in the generator of pix2pixHD, which knows no style, give the same image."""
    net = DenseMappingNetwork(num_classes=5, width=8, num_downs=2, num_blocks=2, styled_ups=True)
    plain = GlobalGenerator(in_channels=5, width=8, num_downs=2, num_blocks=2)
    plain.load_state_dict({name.replace(".up.", "."): tensor for name, tensor in net.state_dict().items()})
    masks = one_hot(some_masks(2), 5)
    torch.testing.assert_close(net(masks, torch.zeros(2, sum(net.style_sizes))), plain(masks))


def test_training_starts_without_a_style_and_the_style_can_learn():
    net, masks = tiny_net(), one_hot(some_masks(2), 5)
    assert torch.equal(net.style(torch.randn(2, 3, 16, 16), masks), torch.zeros(2, sum(net.mapping.style_sizes)))
    net(torch.randn(2, 3, 16, 16), masks, masks).square().sum().backward()
    assert net.style.linear.weight.grad.abs().max() > 0


def test_style_depends_on_photo_and_mask():
    net, photos, masks = shaken(tiny_net()), torch.randn(1, 3, 16, 16), one_hot(some_masks(2), 5)
    first = net.style(photos, masks[:1])
    assert not torch.allclose(first, net.style(photos + 0.5, masks[:1]))
    assert not torch.allclose(first, net.style(photos, masks[1:]))


def test_sizes_of_the_paper():
    """Section 3.2 and supplement: 4 x 2 x 2 x 1024 AdaIN parameters at 512 px; a code of 1024 from 4 x 4 pixels."""
    with torch.device("meta"):
        net = MaskGAN(num_classes=19)
        vae = MaskVAE(num_classes=19, resolution=512, width=32, num_downs=7, latent=1024)
    assert sum(net.mapping.style_sizes) == 4 * 2 * 2 * 1024
    assert vae.side == 4 and vae.widest == 2048
    assert net.mapping.blocks[0].first.weight.shape == (1024, 1024, 3, 3)


def test_default_networks_are_small():
    params = load_params(PROJECT_ROOT / "params.yaml")
    sizes = sizes_of(params.resolution)["net"]
    net = MaskGAN(num_classes=17, width=params.maskgan.width, styled_ups=params.maskgan.styled_ups, **sizes)
    assert count_parameters(net) <= 1.5e6, "3 MB in half precision"


@pytest.mark.parametrize(
    ("masks", "styles", "message"),
    [
        ((1, 4, 16, 16), (1, 144), r"expected \[N, 5, H, W\] with H and W multiples of 2, at least 4, got"),
        ((1, 5, 15, 16), (1, 144), "multiples of 2"),
        ((1, 5, 16, 16), (2, 144), r"styles \[1, 144\], got \[2, 144\]"),
    ],
)
def test_wrong_inputs_are_named(masks, styles, message):
    net = tiny_net()
    assert sum(net.mapping.style_sizes) == 144
    with pytest.raises(ValueError, match=message):
        net.mapping(torch.zeros(masks), torch.zeros(styles))


def test_edit_takes_heads_of_any_number_and_follows_the_edited_masks():
    net = shaken(tiny_net()).eval()
    photos, masks = torch.randint(0, 256, (7, 3, 16, 16), dtype=torch.uint8), some_masks(7)
    edited = masks.flip(0)
    whole, parts = edit(net, photos, masks, edited), edit(net, photos, masks, edited, batch=3)
    assert whole.dtype == torch.uint8 and whole.shape == photos.shape
    assert (whole.int() - parts.int()).abs().max() <= 1
    assert not torch.equal(whole, edit(net, photos, masks, masks))
    with pytest.raises(ValueError, match=r"both masks \[N, H, W\], got torch.uint8 .*\[6, 16, 16\]"):
        edit(net, photos, masks[:6], edited)


def test_round_trip_on_disk(tmp_path):
    net, masks = shaken(tiny_net()), one_hot(some_masks(2), 5)
    loaded = load_module(save_module(tmp_path / "net.safetensors", net, net.config), MaskGAN)
    photos = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(loaded(photos, masks, masks), net(photos, masks, masks), rtol=1e-2, atol=2e-2)


def test_kl_against_torch():
    mean, log_variance = torch.randn(3, 6, dtype=torch.float64), torch.randn(3, 6, dtype=torch.float64)
    posterior = torch.distributions.Normal(mean, (log_variance / 2).exp())
    expected = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).sum(1).mean()
    torch.testing.assert_close(kl_divergence(mean, log_variance), expected.double())
    assert kl_divergence(torch.zeros(2, 3), torch.zeros(2, 3)) == 0


def test_vae_terms_against_their_formulas():
    torch.manual_seed(0)
    vae, masks, noise = MaskVAE(**TINY_VAE).eval(), some_masks(3), torch.randn(3, 6)
    mean, log_variance = vae.encode(one_hot(masks, 5))
    logits = vae.decode(mean + noise * torch.exp(0.5 * log_variance))
    assert mean.shape == (3, 6) and logits.shape == (3, 5, 16, 16)
    terms = vae.terms(masks, noise)
    picked = logits.double().log_softmax(1).gather(1, masks.long()[:, None])
    torch.testing.assert_close(terms["ce"].double(), -picked.mean(), rtol=1e-5, atol=1e-6)
    assert terms["accuracy"].item() == pytest.approx((logits.argmax(1) == masks).double().mean().item())
    with pytest.raises(ValueError, match="one-hot masks"):
        vae.encode(torch.zeros(1, 5, 8, 8))
    with pytest.raises(ValueError, match="16 px cannot be halved 5 times"):
        MaskVAE(**(TINY_VAE | {"num_downs": 5}))


def test_inter_and_outer_codes_lie_on_both_sides():
    codes, references = torch.randn(4, 6), torch.randn(4, 6)
    inter, outer = inter_and_outer(codes, references, 2.5)
    torch.testing.assert_close((inter + outer) / 2, codes)
    torch.testing.assert_close(inter, codes + 0.4 * (references - codes))
    assert ((inter - references).norm(dim=1) < (outer - references).norm(dim=1)).all()


class ScalarVAE(MaskVAE):
    """A code that is the share of class 1, and its mask: so many columns of class 1."""

    def encode(self, masks):
        return masks[:, 1].mean((1, 2))[:, None].expand(-1, 6), torch.zeros(len(masks), 6)

    def decode(self, codes):
        ones = (torch.arange(16) + 0.5)[None, None] / 16 < codes[:, :1, None]  # [N, 1, 16]
        ones = ones.expand(-1, 16, -1).float()
        return torch.stack([1 - ones, ones], dim=1)


def test_simulated_edits_move_masks_towards_the_reference_and_away():
    masks, reference = torch.zeros(2, 16, 16, dtype=torch.uint8), torch.zeros(2, 16, 16, dtype=torch.uint8)
    masks[:, :, :8], reference[0, :, :13], reference[1, :, :3] = 1, 1, 1
    vae = ScalarVAE(**(TINY_VAE | {"num_classes": 2})).eval()
    inter, outer = simulated_edits(vae, masks, reference, 2.5)
    assert inter.dtype == torch.uint8 and inter[:, 0].sum(1).tolist() == [10, 6]
    assert outer[:, 0].sum(1).tolist() == [6, 10]
    unchanged = simulated_edits(vae, masks, masks, 2.5)
    assert torch.equal(unchanged[0], masks) and torch.equal(unchanged[1], masks)
    assert torch.equal(training.reconstruct_masks(vae, masks, batch=1), masks)


def test_blend_lies_between_both_images():
    torch.manual_seed(0)
    blender, (first, second) = AlphaBlender(width=4, num_downs=1, num_blocks=1), torch.randn(2, 3, 3, 16, 16)
    blend = blender(first, second)
    assert (blend <= torch.maximum(first, second) + 1e-6).all() and (blend >= torch.minimum(first, second) - 1e-6).all()
    torch.testing.assert_close(blender(first, first), first)
    logits = blender.alpha(torch.cat([first, second], 1)).double().atanh()
    alpha = (2 * logits).sigmoid()
    torch.testing.assert_close(blend.double(), alpha * first + (1 - alpha) * second, rtol=1e-4, atol=1e-5)


def test_ebst_draws_two_faces_of_one_style():
    net, blender = shaken(tiny_net()), AlphaBlender(width=4, num_downs=1, num_blocks=1)
    masks, styles = one_hot(some_masks(2), 5), 0.1 * torch.randn(1, 144)
    first, second, blend = training.ebst_images(net, blender, styles, masks[:1], masks[1:])
    assert torch.equal(first, net.mapping(masks[:1], styles)) and torch.equal(second, net.mapping(masks[1:], styles))
    assert torch.equal(blend, blender(first, second))


def outputs_of(value: float) -> list[list[torch.Tensor]]:
    """What discriminators of one scale return: one layer of features, and scores."""
    return [[torch.full((1, 2, 3, 3), value), torch.full((1, 1, 2, 2), value)]]


def test_terms_and_their_weights():
    terms = adversarial_terms(outputs_of(1.0), {"": outputs_of(0.25), "blend_": outputs_of(0.5)})
    assert {name: term.item() for name, term in terms.items()} == {
        "gan": 0.5625, "feature_matching": 3.0, "blend_gan": 0.25, "blend_feature_matching": 2.0
    }  # fmt: skip
    terms |= {"vgg": torch.tensor(0.5), "blend_vgg": torch.tensor(0.125)}
    loss = weighted_sum(terms, feature_matching_weight=10, vgg_weight=4)
    assert loss.item() == 0.5625 + 30 + 2 + 0.25 + 20 + 0.5


def test_photos_weigh_as_much_as_all_fakes():
    drawn, blended = outputs_of(0.5), outputs_of(0.0)
    assert discriminator_loss(outputs_of(0.75), [drawn]).item() == (0.0625 + 0.25) / 2
    assert discriminator_loss(outputs_of(0.75), [drawn, blended]).item() == (0.0625 + (0.25 + 0.0) / 2) / 2


@pytest.mark.parametrize("side", [16, 24])
def test_parser_reads_images_of_any_number(side):
    torch.manual_seed(0)
    parser, images = Parser(num_classes=5, width=4, depth=2).eval(), torch.randint(0, 256, (5, 3, side, side)).byte()
    labels = predict(parser, images, batch=2)
    assert labels.dtype == torch.uint8 and labels.shape == (5, side, side) and labels.max() < 5
    logits = parser(images.float() / 127.5 - 1)
    assert torch.equal(labels, logits.argmax(1).byte())
    terms = parser.terms(images.float() / 127.5 - 1, labels)
    assert terms["accuracy"] == 1
    torch.testing.assert_close(terms["ce"], F.cross_entropy(logits, labels.long()))


def test_smiles_bring_the_donors_mouth_to_the_size_of_the_face():
    names = ("skin", "left_eye", "right_eye", "upper_lip", "lower_lip", "mouth_interior")
    masks = np.zeros((2, 32, 32), np.uint8)
    for mask, apart in zip(masks, (10, 5), strict=True):
        mask[8:10, 16 - apart : 18 - apart], mask[8:10, 14 + apart : 16 + apart] = 1, 2
    masks[:, 22:24, 14:18] = 3
    donor = masks[0].copy()
    donor[20:22, 8:24], donor[22:24, 8:24], donor[24:26, 8:24] = 3, 5, 4
    smiles = smile_masks(torch.as_tensor(masks), torch.as_tensor(donor), names)
    assert smiles.dtype == torch.uint8 and all((smiles[0] == label).any() for label in (3, 4, 5))
    widths = [int((mask >= 3).any(0).sum()) for mask in smiles]
    assert widths == [16, pytest.approx(7, abs=1)], "16 pixels of 18 between the donor's eyes, of 8 here"
    for label in (1, 2):
        assert torch.equal(smiles == label, torch.as_tensor(masks) == label)
