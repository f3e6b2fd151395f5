"""EfficientNet-Lite1 (ImageNet): feature maps for the projected discriminator. Used in training, never as a judge."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from editgan.assets.networks.efflite0 import IMAGENET_MEAN, IMAGENET_STD, STAGES

DEPTH = 1.1  # multiplies the repeats of every stage except the first and last, rounded up (Tan & Le 2019)
TAPS = {1: 24, 2: 40, 4: 112, 6: 320}  # stage whose output is returned -> its channels; strides 4, 8, 16, 32


def repeats(stage: int) -> int:
    """Number of blocks of a stage: Lite0's, scaled by DEPTH."""
    count = STAGES[stage][0]
    return count if stage in (0, len(STAGES) - 1) else math.ceil(count * DEPTH)


class FoldedMBConv(nn.Module):
    """Inverted residual block without squeeze-and-excitation; batch norm is folded into the convolutions."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self._expand_conv = nn.Conv2d(in_channels, hidden, 1) if expansion > 1 else None
        self._depthwise_conv = nn.Conv2d(hidden, hidden, kernel, stride, kernel // 2, groups=hidden)
        self._project_conv = nn.Conv2d(hidden, out_channels, 1)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y = x if self._expand_conv is None else F.relu6(self._expand_conv(x))
        y = self._project_conv(F.relu6(self._depthwise_conv(y)))
        return x + y if self.residual else y


class EfficientNetLite1(nn.Module):
    """Float images [N, 3, H, W] in [-1, 1] -> four feature maps [N, C, H / s, W / s] for s in 4, 8, 16, 32.

    The images keep their size. The classifier after the last map is left out.

    Attributes:
        channels: C of the four maps.
    """

    channels = tuple(TAPS.values())

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = nn.Conv2d(3, 32, 3, 2, 1)
        self._blocks = nn.ModuleList()
        self._taps = set()  # blocks whose output is returned
        for stage, (_, kernel, stride, expansion, in_channels, out_channels) in enumerate(STAGES):
            for index in range(repeats(stage)):
                first = index == 0
                width = in_channels if first else out_channels
                self._blocks.append(FoldedMBConv(width, out_channels, kernel, stride if first else 1, expansion))
            if stage in TAPS:
                self._taps.add(len(self._blocks) - 1)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> list[Tensor]:
        x = (images / 2 + 0.5 - self.mean) / self.std
        x = F.relu6(self._conv_stem(x.contiguous(memory_format=torch.channels_last)))
        maps = []
        for index, block in enumerate(self._blocks):
            x = block(x)
            if index in self._taps:
                maps.append(x)
        return maps
