"""EfficientNet-Lite (ImageNet; Tan & Le 2019): Lite0 only judges, Lite1 only trains (the projected discriminator)."""

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIZE = 224
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
EPS = 1e-3
DEPTH1 = 1.1  # of Lite1: multiplies the repeats of every stage except the first and last, rounded up
TAPS = {1: 24, 2: 40, 4: 112, 6: 320}  # of Lite1: stage whose output is returned -> its channels

# (repeats, kernel, stride of the first, expansion, input channels, output channels); Tan & Le 2019, table 1
STAGES = (
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)


def conv(
    in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, groups: int = 1, *, folded: bool
) -> tuple[nn.Module, nn.Module]:
    """A convolution and its batch norm; `folded`: the norm is part of the convolution."""
    layer = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=folded)
    return layer, nn.Identity() if folded else nn.BatchNorm2d(out_channels, EPS)


class MBConv(nn.Module):
    """Inverted residual block with ReLU6 and without squeeze-and-excitation, as in the Lite networks."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, expansion: int, *, folded: bool):
        super().__init__()
        hidden = in_channels * expansion
        if expansion > 1:
            self._expand_conv, self._bn0 = conv(in_channels, hidden, folded=folded)
        self._depthwise_conv, self._bn1 = conv(hidden, hidden, kernel, stride, hidden, folded=folded)
        self._project_conv, self._bn2 = conv(hidden, out_channels, folded=folded)
        self.expands, self.residual = expansion > 1, stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.residual else y


def mbconv_stages(depth: float, *, folded: bool) -> list[list[MBConv]]:
    """The blocks of every stage."""
    stages = []
    for index, (repeats, kernel, stride, expansion, in_channels, out_channels) in enumerate(STAGES):
        if 0 < index < len(STAGES) - 1:
            repeats = math.ceil(repeats * depth)
        stage = [MBConv(in_channels, out_channels, kernel, stride, expansion, folded=folded)]
        stage += [MBConv(out_channels, out_channels, kernel, 1, expansion, folded=folded) for _ in range(repeats - 1)]
        stages.append(stage)
    return stages


class ImageNetInput(nn.Module):
    """A network for standardised colours."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def standardise(self, images: Tensor) -> Tensor:
        return (images / 2 + 0.5 - self.mean) / self.std


class EfficientNetLite0(ImageNetInput):
    """Float images [N, 3, H, W] in [-1, 1] -> pooled features [N, 1280].

    Images are resized to 224 px (bicubic, anti-aliased). Results at different resolutions are therefore comparable, but
    not with those of code that resizes differently.
    """

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = conv(3, 32, 3, 2, folded=False)
        self._blocks = nn.Sequential(*itertools.chain.from_iterable(mbconv_stages(1, folded=False)))
        self._conv_head, self._bn1 = conv(320, 1280, folded=False)
        self._fc = nn.Linear(1280, 1000)

    def forward(self, images: Tensor) -> Tensor:
        x = F.interpolate(images, size=(SIZE, SIZE), mode="bicubic", antialias=True, align_corners=False)
        x = F.relu6(self._bn0(self._conv_stem(self.standardise(x.clamp(-1, 1)))))
        return F.relu6(self._bn1(self._conv_head(self._blocks(x)))).mean((2, 3))

    def logits(self, images: Tensor) -> Tensor:
        """The 1,000 ImageNet classes: [N, 1000]."""
        return self._fc(self(images))


class EfficientNetLite1(ImageNetInput):
    """Float images [N, 3, H, W] in [-1, 1] -> four feature maps [N, C, H / s, W / s] for s in 4, 8, 16, 32.

    The images keep their size. The classifier is left out. `channels`: C of the four maps.
    """

    channels = tuple(TAPS.values())

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, _ = conv(3, 32, 3, 2, folded=True)
        stages = mbconv_stages(DEPTH1, folded=True)
        self._blocks = nn.ModuleList(itertools.chain.from_iterable(stages))
        ends = itertools.accumulate(map(len, stages))
        self._taps = {end - 1 for stage, end in enumerate(ends) if stage in TAPS}  # blocks whose output is returned

    def forward(self, images: Tensor) -> list[Tensor]:
        x = self.standardise(images).contiguous(memory_format=torch.channels_last)
        x = F.relu6(self._conv_stem(x))
        maps = []
        for index, block in enumerate(self._blocks):
            x = block(x)
            if index in self._taps:
                maps.append(x)
        return maps
