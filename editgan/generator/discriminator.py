"""The StyleGAN2 discriminator: residual blocks, minibatch standard deviation, one logit per image.

Karras et al., CVPR 2020, with the constants and parameter names of stylegan2-ada-pytorch.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from editgan.generator.generator import channels_at, clamped, resolutions_of
from editgan.generator.layers import EqualizedConv2d, EqualizedLinear


def minibatch_stddev(x: Tensor, group_size: int | None) -> Tensor:
    """Append one channel: standard deviation over groups of samples, averaged over channels and pixels.

    [N, C, H, W] -> [N, C + 1, H, W]. Sample n belongs to group n mod (N / group_size); None: all samples are one group.

    Raises:
        ValueError: N > group_size, and N is not a multiple of group_size.
    """
    count, channels, height, width = x.shape
    group = count if group_size is None else min(group_size, count)
    if count % group:
        raise ValueError(f"minibatch_stddev: {count} images cannot be split into groups of {group}")
    y = x.reshape(group, count // group, channels, height, width)
    deviation = (y.var(dim=0, unbiased=False) + 1e-8).sqrt()  # [N / group, C, H, W]
    statistic = deviation.mean(dim=(1, 2, 3)).repeat(group)  # [N]
    return torch.cat([x, statistic[:, None, None, None].expand(count, 1, height, width)], dim=1)


class DiscriminatorBlock(nn.Module):
    """Residual block that halves the size: [N, in, H, W] -> [N, out, H/2, W/2]. `from_rgb`: its input is the image."""

    def __init__(self, in_channels: int, out_channels: int, *, from_rgb: bool, conv_clamp: float | None = None) -> None:
        super().__init__()
        self.conv_clamp = conv_clamp
        self.fromrgb = EqualizedConv2d(3, in_channels, 1) if from_rgb else None
        self.conv0 = EqualizedConv2d(in_channels, in_channels, 3)
        self.conv1 = EqualizedConv2d(in_channels, out_channels, 3, down=True)
        self.skip = EqualizedConv2d(in_channels, out_channels, 1, down=True, lrelu=False, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.fromrgb is not None:
            x = clamped(self.fromrgb(x), self.conv_clamp)
        y = clamped(self.conv1(clamped(self.conv0(x), self.conv_clamp)), self.conv_clamp)
        return (self.skip(x) + y) * math.sqrt(0.5)


class Epilogue(nn.Module):
    """[N, C, 4, 4] -> [N, 1]: minibatch standard deviation, 3x3 convolution, two fully connected layers."""

    def __init__(self, channels: int, *, mbstd_group: int | None, conv_clamp: float | None = None) -> None:
        super().__init__()
        self.mbstd_group, self.conv_clamp = mbstd_group, conv_clamp
        self.conv = EqualizedConv2d(channels + 1, channels, 3)
        self.fc = EqualizedLinear(channels * 16, channels, lrelu=True)
        self.out = EqualizedLinear(channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = clamped(self.conv(minibatch_stddev(x, self.mbstd_group)), self.conv_clamp)
        return self.out(self.fc(x.flatten(1)))


class Discriminator(nn.Module):
    """Image [N, 3, res, res] in [-1, 1] -> logit [N, 1], positive for real: residual blocks to 4x4, then `Epilogue`.

    Args:
        img_resolution, channel_base, channel_max: as in the generator.
        mbstd_group: images per group of the minibatch standard deviation; the batch must be a multiple of it.
            None: the whole batch is one group.
        conv_clamp: as in the generator.
    """

    def __init__(
        self,
        *,
        img_resolution: int,
        channel_base: int,
        channel_max: int,
        mbstd_group: int | None = 4,
        conv_clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = dict(
            img_resolution=img_resolution, channel_base=channel_base, channel_max=channel_max, mbstd_group=mbstd_group
        )
        if conv_clamp is not None:
            self.config["conv_clamp"] = conv_clamp
        self.block_resolutions = resolutions_of(img_resolution)[:0:-1]  # img_resolution, ... 8
        for resolution in self.block_resolutions:
            inner, outer = (channels_at(r, channel_base, channel_max) for r in (resolution, resolution // 2))
            first = resolution == img_resolution
            setattr(self, f"b{resolution}", DiscriminatorBlock(inner, outer, from_rgb=first, conv_clamp=conv_clamp))
        width = channels_at(4, channel_base, channel_max)
        self.b4 = Epilogue(width, mbstd_group=mbstd_group, conv_clamp=conv_clamp)

    def forward(self, img: Tensor) -> Tensor:
        x = img.contiguous(memory_format=torch.channels_last)
        for resolution in self.block_resolutions:
            x = getattr(self, f"b{resolution}")(x)
        return self.b4(x.to(img.dtype))
