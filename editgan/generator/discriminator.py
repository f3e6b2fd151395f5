"""The StyleGAN2 discriminator: residual blocks, minibatch standard deviation, one logit per image.

Karras et al., CVPR 2020, with the constants and parameter names of stylegan2-ada-pytorch.
"""

import math

import torch
from torch import Tensor, nn

from editgan.generator.generator import channels_at, resolutions_of
from editgan.generator.layers import EqualizedConv2d, EqualizedLinear


def minibatch_stddev(x: Tensor, group_size: int) -> Tensor:
    """Append one channel: standard deviation over groups of samples, averaged over channels and pixels.

    [N, C, H, W] -> [N, C + 1, H, W]. Sample n belongs to group n mod (N / group_size).

    Raises:
        ValueError: N > group_size, and N is not a multiple of group_size.
    """
    count, channels, height, width = x.shape
    group = min(group_size, count)
    if count % group:
        raise ValueError(f"minibatch_stddev: {count} images cannot be split into groups of {group}")
    y = x.reshape(group, count // group, channels, height, width)
    deviation = (y.var(dim=0, unbiased=False) + 1e-8).sqrt()  # [N / group, C, H, W]
    statistic = deviation.mean(dim=(1, 2, 3)).repeat(group)  # [N]
    return torch.cat([x, statistic[:, None, None, None].expand(count, 1, height, width)], dim=1)


class DiscriminatorBlock(nn.Module):
    """Residual block that halves the size: [N, in, H, W] -> [N, out, H/2, W/2]. `from_rgb`: its input is the image."""

    def __init__(self, in_channels: int, out_channels: int, *, from_rgb: bool) -> None:
        super().__init__()
        self.fromrgb = EqualizedConv2d(3, in_channels, 1) if from_rgb else None
        self.conv0 = EqualizedConv2d(in_channels, in_channels, 3)
        self.conv1 = EqualizedConv2d(in_channels, out_channels, 3, down=True)
        self.skip = EqualizedConv2d(in_channels, out_channels, 1, down=True, lrelu=False, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.fromrgb is not None:
            x = self.fromrgb(x)
        return (self.skip(x) + self.conv1(self.conv0(x))) * math.sqrt(0.5)


class Epilogue(nn.Module):
    """[N, C, 4, 4] -> [N, 1]: minibatch standard deviation, 3x3 convolution, two fully connected layers."""

    def __init__(self, channels: int, *, mbstd_group: int) -> None:
        super().__init__()
        self.mbstd_group = mbstd_group
        self.conv = EqualizedConv2d(channels + 1, channels, 3)
        self.fc = EqualizedLinear(channels * 16, channels, lrelu=True)
        self.out = EqualizedLinear(channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(minibatch_stddev(x, self.mbstd_group))
        return self.out(self.fc(x.flatten(1)))


class Discriminator(nn.Module):
    """Image [N, 3, res, res] in [-1, 1] -> logit [N, 1], positive for real: residual blocks to 4x4, then `Epilogue`.

    Args:
        img_resolution, channel_base, channel_max: as in the generator.
        mbstd_group: images per group of the minibatch standard deviation; the batch must be a multiple of it.
    """

    def __init__(self, *, img_resolution: int, channel_base: int, channel_max: int, mbstd_group: int = 4) -> None:
        super().__init__()
        self.config = dict(
            img_resolution=img_resolution, channel_base=channel_base, channel_max=channel_max, mbstd_group=mbstd_group
        )
        self.block_resolutions = resolutions_of(img_resolution)[:0:-1]  # img_resolution, ... 8
        for resolution in self.block_resolutions:
            inner, outer = (channels_at(r, channel_base, channel_max) for r in (resolution, resolution // 2))
            setattr(self, f"b{resolution}", DiscriminatorBlock(inner, outer, from_rgb=resolution == img_resolution))
        self.b4 = Epilogue(channels_at(4, channel_base, channel_max), mbstd_group=mbstd_group)

    def forward(self, img: Tensor) -> Tensor:
        x = img.contiguous(memory_format=torch.channels_last)
        for resolution in self.block_resolutions:
            x = getattr(self, f"b{resolution}")(x)
        return self.b4(x.to(img.dtype))
