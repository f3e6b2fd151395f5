"""The projected discriminator: small discriminators on frozen features of a pretrained network.

Sauer et al., "Projected GANs Converge Faster" (NeurIPS 2021): fixed random convolutions mix features of four scales
across channels and across scales (section 3.2), and each scale has its own small discriminator. Differences:
features are standardised by their mean and std on real images, and each scale gives one logit, not a map of logits.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from editgan.training import generator_for

MIXING_SLOPE = 0.2  # leaky ReLU slope assumed by the initialisation of the random convolutions (He et al. 2015)
FUSION_GAIN = 0.7  # preserves the variance of a sum of two mixed maps
STATISTICS_IMAGES = 256  # number of real images for the standardisation


class ProjectedDiscriminator(nn.Module):
    """Images [N, 3, size, size] in [-1, 1] -> logits [N, 4], one per scale, positive for real.

    `features` and `logits` are separate, so that both networks' losses can share the features of an image.

    Args:
        backbone: frozen network, images -> four maps at strides 4, 8, 16, 32 with `backbone.channels` channels. It is
            not part of the state dict.
        size: side of the images, at least 32.
        width: channels of the mixed maps.
        seed: seed of the fixed random convolutions.
    """

    def __init__(self, *, backbone: nn.Module, size: int, width: int, seed: int) -> None:
        super().__init__()
        self._backbone = [backbone]  # in a list, so that it is not registered as a submodule
        rng = generator_for(seed, "generator", "projection")
        self.across_channels = nn.ModuleList(nn.Conv2d(channels, width, 1) for channels in backbone.channels)
        self.across_scales = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in backbone.channels)
        for conv in (*self.across_channels, *self.across_scales):
            nn.init.kaiming_normal_(conv.weight, a=MIXING_SLOPE, generator=rng)
            nn.init.zeros_(conv.bias)
            conv.requires_grad_(False)
        for index, channels in enumerate(backbone.channels):
            self.register_buffer(f"mean{index}", torch.zeros(1, channels, 1, 1))
            self.register_buffer(f"std{index}", torch.ones(1, channels, 1, 1))
        scales = [scale_discriminator(side=max(size // (4 << k), 1), width=width) for k in range(4)]
        self.heads = nn.ModuleList(scales)  # this name is part of the keys of training states

    @torch.no_grad()
    def standardise(self, reals: Tensor) -> None:
        """Compute the mean and std of every backbone channel on real images [N, 3, size, size]."""
        for index, features in enumerate(self._backbone[0](reals)):
            getattr(self, f"mean{index}").copy_(features.mean((0, 2, 3), keepdim=True))
            getattr(self, f"std{index}").copy_(features.std((0, 2, 3), keepdim=True).clamp(min=1e-6))

    def features(self, images: Tensor) -> list[Tensor]:
        """The mixed maps, finest first; differentiable with respect to the images."""
        maps = [
            (x - getattr(self, f"mean{index}")) / getattr(self, f"std{index}")
            for index, x in enumerate(self._backbone[0](images))
        ]
        mixed, coarser = [], None
        for x, across_channels, across_scales in zip(
            maps[::-1], self.across_channels[::-1], self.across_scales[::-1], strict=True
        ):
            y = across_channels(x)
            if coarser is not None:
                y = (y + F.interpolate(coarser, size=y.shape[2:], mode="bilinear", align_corners=False)) * FUSION_GAIN
            coarser = across_scales(y)
            mixed.append(coarser)
        return mixed[::-1]

    def logits(self, features: list[Tensor]) -> Tensor:
        logits = torch.cat([net(x) for net, x in zip(self.heads, features, strict=True)], dim=1)  # [N, 4]
        return logits.to(self.mean0.dtype)

    def forward(self, images: Tensor) -> Tensor:
        return self.logits(self.features(images))


def scale_discriminator(*, side: int, width: int) -> nn.Sequential:
    """Map [N, width, side, side] of one scale -> logit [N, 1]: strided convolutions, spectrally normalised."""
    layers, channels = [], width
    while side > 4:
        wider = min(channels * 2, 4 * width)
        layers += [spectral_norm(nn.Conv2d(channels, wider, 4, 2, 1)), nn.LeakyReLU(0.2)]
        channels, side = wider, side // 2
    layers += [spectral_norm(nn.Conv2d(channels, 2 * width, 3, padding=1)), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, spectral_norm(nn.Conv2d(2 * width, 1, side)), nn.Flatten())


def diffaugment(images: Tensor, draws: Tensor) -> Tensor:
    """DiffAugment's colour and translation (Zhao et al., NeurIPS 2020), differentiable: [N, 3, H, W] -> the same shape.

    Brightness, saturation, contrast, then a shift by up to 1/8 of the side. The shift uses reflection padding. The
    release pads with zeros, but the border of a rendered head is background, not black.

    Args:
        draws: uniform numbers in [0, 1), [N, 5], on the CPU.
    """
    side = images.shape[-1]
    brightness, saturation, contrast = draws[:, :3].to(images).view(-1, 3, 1, 1, 1).unbind(1)  # [N, 1, 1, 1] each
    x = images + (brightness - 0.5)
    grey = x.mean(1, keepdim=True)
    x = (x - grey) * (saturation * 2) + grey
    mean = x.mean((1, 2, 3), keepdim=True)
    x = (x - mean) * (contrast + 0.5) + mean
    reach = side // 8
    padded = F.pad(x, [reach] * 4, mode="reflect")
    shifts = (draws[:, 3:] * (2 * reach + 1)).long().tolist()
    return torch.stack([img[:, v : v + side, u : u + side] for img, (u, v) in zip(padded, shifts, strict=True)])
