"""The pixel discriminator: a small residual network without convolutions at full resolution.

It has no batch norm and no FIR filters, similar to R3GAN (Huang et al., NeurIPS 2024, section 4). Unlike R3GAN, it
first unshuffles 2x2 pixels into 12 channels, and appends a minibatch standard deviation as in StyleGAN2.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from editgan.generator.discriminator import minibatch_stddev
from editgan.generator.generator import channels_at, resolutions_of
from editgan.generator.layers import EqualizedConv2d, EqualizedLinear


class PooledBlock(nn.Module):
    """Residual block that halves the size by average pooling: [N, in, H, W] -> [N, out, H/2, W/2]."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv0 = EqualizedConv2d(in_channels, in_channels, 3)
        self.conv1 = EqualizedConv2d(in_channels, out_channels, 3)
        self.skip = EqualizedConv2d(in_channels, out_channels, 1, lrelu=False, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return (self.skip(F.avg_pool2d(x, 2)) + self.conv1(F.avg_pool2d(self.conv0(x), 2))) * math.sqrt(0.5)


class PixelDiscriminator(nn.Module):
    """Image [N, 3, res, res] in [-1, 1] -> logit [N, 1], positive for real.

    Args:
        img_resolution: side of the image, a power of two >= 8.
        channel_base, channel_max: a map at resolution r has min(channel_base / r, channel_max) channels.
        mbstd_group: images per group of the minibatch standard deviation; the batch must be a multiple of it.
    """

    def __init__(self, *, img_resolution: int, channel_base: int, channel_max: int, mbstd_group: int = 4) -> None:
        super().__init__()
        self.config = dict(
            img_resolution=img_resolution, channel_base=channel_base, channel_max=channel_max, mbstd_group=mbstd_group
        )
        self.mbstd_group = mbstd_group
        sides = resolutions_of(img_resolution)[-2::-1]  # img_resolution / 2, ... 4
        widths = [channels_at(side, channel_base, channel_max) for side in sides]
        self.stem = EqualizedConv2d(12, widths[0], 3)
        self.blocks = nn.Sequential(*(PooledBlock(*pair) for pair in zip(widths, widths[1:], strict=False)))
        self.conv = EqualizedConv2d(widths[-1] + 1, widths[-1], 3)
        self.fc = EqualizedLinear(widths[-1] * 16, widths[-1], lrelu=True)
        self.out = EqualizedLinear(widths[-1], 1)

    def forward(self, img: Tensor) -> Tensor:
        x = F.pixel_unshuffle(img, 2).contiguous(memory_format=torch.channels_last)  # [N, 12, res/2, res/2]
        x = self.blocks(self.stem(x)).to(img.dtype)  # [N, C, 4, 4]
        x = self.conv(minibatch_stddev(x, self.mbstd_group))
        return self.out(self.fc(x.flatten(1)))
