"""pix2pixHD (Wang et al., CVPR 2018): image-to-image translation, written from the paper.

The global generator G1 (section 3.1, appendix), the multi-scale patch discriminators (section 3.2) and the losses:
least-squares GAN, feature matching (equation 4) and VGG feature distance (section 3.2, "improved adversarial loss").
Without local enhancer and instance maps.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

INITIAL_STD = 0.02  # std of the initial convolution weights (appendix)
VGG_WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)  # weights of the five VGG depths (released code)
LEAK = 0.2
MAX_WIDTH = 512  # maximum channels of a discriminator


def check_sides(x: Tensor, channels: int, num_downs: int) -> None:
    """Raise ValueError unless x is [N, channels, H, W] with sides that can be halved num_downs times to at least 2."""
    unit = 2**num_downs
    height, width = x.shape[2:] if x.ndim == 4 else (0, 0)
    if x.shape[1:2] != (channels,) or min(height, width) < 2 * unit or height % unit or width % unit:
        expected = f"[N, {channels}, H, W] with H and W multiples of {unit}, at least {2 * unit}"
        raise ValueError(f"expected {expected}, got {list(x.shape)}")


class ResidualBlock(nn.Module):
    """x + two 3x3 convolutions of it, each with reflection padding and instance normalisation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect")
        self.second = nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect")

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu(F.instance_norm(self.first(x)))  # [N, C, h, w]
        return x + F.instance_norm(self.second(inner))


class GlobalGenerator(nn.Module):
    """Images (or masks, one channel per class) in, images in [-1, 1] out, at the same resolution.

    The default sizes are the paper's at 512 px.

    Args:
        width: channels at full resolution; each of the `num_downs` halvings of the side doubles them
        residual: add the input to the output; the result is in [-2, 2] and must be clamped. Not in the paper.
            Instance normalisation removes the mean of every channel, which a small network can hardly restore.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        out_channels: int = 3,
        width: int = 64,
        num_downs: int = 4,
        num_blocks: int = 9,
        residual: bool = False,
    ) -> None:
        super().__init__()
        if residual and in_channels != out_channels:
            raise ValueError(f"residual needs equal input and output channels, got {in_channels} and {out_channels}")
        self.in_channels, self.num_downs, self.residual = in_channels, num_downs, residual
        widths = [width * 2**level for level in range(num_downs + 1)]
        pairs = list(zip(widths[:-1], widths[1:], strict=True))
        self.first = nn.Conv2d(in_channels, width, 7, padding=3, padding_mode="reflect")
        self.downs = nn.ModuleList(nn.Conv2d(few, many, 3, stride=2, padding=1) for few, many in pairs)
        self.blocks = nn.Sequential(*(ResidualBlock(widths[-1]) for _ in range(num_blocks)))
        ups = [nn.ConvTranspose2d(many, few, 3, stride=2, padding=1, output_padding=1) for few, many in reversed(pairs)]
        self.ups = nn.ModuleList(ups)
        self.last = nn.Conv2d(width, out_channels, 7, padding=3, padding_mode="reflect")

    def forward(self, images: Tensor) -> Tensor:
        """[N, in_channels, H, W] -> [N, out_channels, H, W]"""
        check_sides(images, self.in_channels, self.num_downs)
        x = F.relu(F.instance_norm(self.first(images)))  # [N, width, H, W]
        for down in self.downs:
            x = F.relu(F.instance_norm(down(x)))
        x = self.blocks(x)  # [N, width 2^downs, H / 2^downs, W / 2^downs]
        for up in self.ups:
            x = F.relu(F.instance_norm(up(x)))
        x = torch.tanh(self.last(x))
        return images + x if self.residual else x


class PatchDiscriminator(nn.Module):
    """A PatchGAN: 4x4 convolutions, the last two with stride 1. With 3 layers before them a score sees 70 px."""

    def __init__(self, *, in_channels: int, width: int = 64, num_layers: int = 3) -> None:
        super().__init__()
        widths = [in_channels, *(min(width * 2**level, MAX_WIDTH) for level in range(num_layers + 1))]
        strides = [2] * num_layers + [1]
        sizes = zip(widths[:-1], widths[1:], strides, strict=True)
        self.layers = nn.ModuleList(nn.Conv2d(few, many, 4, stride=step, padding=2) for few, many, step in sizes)
        self.score = nn.Conv2d(widths[-1], 1, 4, padding=2)

    def forward(self, x: Tensor) -> list[Tensor]:
        """The features after each layer, then the scores [N, 1, h, w]."""
        outputs = []
        for index, layer in enumerate(self.layers):
            x = layer(x)
            x = F.leaky_relu(F.instance_norm(x) if index else x, LEAK)
            outputs.append(x)
        return [*outputs, self.score(x)]


class MultiscaleDiscriminator(nn.Module):
    """Discriminators of the same architecture with separate weights, on the image at full, half, ... size.

    in_channels: of the image and its condition (mask or source image), which the caller concatenates.
    """

    def __init__(self, *, in_channels: int, width: int = 64, num_layers: int = 3, num_scales: int = 2) -> None:
        super().__init__()
        sizes = dict(in_channels=in_channels, width=width, num_layers=num_layers)
        self.scales = nn.ModuleList(PatchDiscriminator(**sizes) for _ in range(num_scales))

    def forward(self, images: Tensor) -> list[list[Tensor]]:
        """[N, in_channels, H, W] -> for each scale its features, then its scores."""
        outputs = []
        for index, scale in enumerate(self.scales):
            if index:
                images = F.avg_pool2d(images, 3, stride=2, padding=1, count_include_pad=False)
            outputs.append(scale(images))
        return outputs


@torch.no_grad()
def initialise(network: nn.Module, generator: torch.Generator) -> nn.Module:
    """Initialise weights from N(0, std 0.02) with `generator`, biases with 0 (appendix)."""
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            parameter.zero_()
        else:
            parameter.copy_(INITIAL_STD * torch.randn(parameter.shape, generator=generator))
    return network


def lsgan_d_loss(real: list[list[Tensor]], fake: list[list[Tensor]]) -> Tensor:
    """Least-squares loss with targets 1 (real) and 0 (fake); mean over patches, summed over scales.  # scalar"""
    pairs = zip(real, fake, strict=True)
    return torch.stack([((1 - r[-1]).square().mean() + f[-1].square().mean()) / 2 for r, f in pairs]).sum()


def lsgan_g_loss(fake: list[list[Tensor]]) -> Tensor:
    """Least-squares loss with target 1 for fakes; mean over patches, summed over scales.  # scalar"""
    return torch.stack([(1 - scale[-1]).square().mean() for scale in fake]).sum()


def feature_matching_loss(real: list[list[Tensor]], fake: list[list[Tensor]]) -> Tensor:
    """L1 between the discriminators' features of real (detached) and fake images (equation 4).  # scalar

    Layer weights are 4 / (number of layers), scale weights 1 / (number of scales), as in the released code.
    """
    total = torch.zeros((), device=fake[0][0].device)
    for real_scale, fake_scale in zip(real, fake, strict=True):
        layers = list(zip(real_scale[:-1], fake_scale[:-1], strict=True))
        for r, f in layers:
            total = total + 4 / len(layers) / len(fake) * F.l1_loss(f, r.detach())
    return total


def adversarial_terms(real: list[list[Tensor]], fakes: dict[str, list[list[Tensor]]]) -> dict[str, Tensor]:
    """Unweighted terms from D's outputs on real images and on each kind of fake, by the prefix of its terms' names."""
    terms = {}
    for name, fake in fakes.items():
        terms[f"{name}gan"] = lsgan_g_loss(fake)
        terms[f"{name}feature_matching"] = feature_matching_loss(real, fake)
    return terms


def weighted_sum(terms: dict[str, Tensor], *, feature_matching_weight: float, vgg_weight: float) -> Tensor:
    """LSGAN + 10 feature matching + 10 VGG with the paper's weights, over all kinds of fakes.  # scalar"""
    weights = {"gan": 1.0, "feature_matching": feature_matching_weight, "vgg": vgg_weight}
    return torch.stack([weights[name.removeprefix("blend_")] * term for name, term in terms.items()]).sum()


def discriminator_loss(real: list[list[Tensor]], fakes: list[list[list[Tensor]]]) -> Tensor:
    """`lsgan_d_loss`; real images have the same total weight as all kinds of fakes together.  # scalar"""
    return torch.stack([lsgan_d_loss(real, fake) for fake in fakes]).mean()


def vgg_features(lpips_vgg: nn.Module, images: Tensor) -> Sequence[Tensor]:
    """Unnormalised features of LPIPS's VGG16 at five depths: [N, C, h, w] each, for images in [-1, 1].

    Taken after the last ReLU of each depth; the paper uses VGG19 after the first one.
    """
    return lpips_vgg.model.net(lpips_vgg.model.scaling_layer(images))


def vgg_loss(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """L1 between `vgg_features`, those of real images detached; deeper ones have larger weights.  # scalar"""
    terms = [w * F.l1_loss(f, r.detach()) for w, r, f in zip(VGG_WEIGHTS, real, fake, strict=True)]
    return torch.stack(terms).sum()
