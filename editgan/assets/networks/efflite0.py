"""EfficientNet-Lite0 (ImageNet): features for FID and KID that need no published weights of Inception."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIZE = 224
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
EPS = 1e-3

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


class MBConv(nn.Module):
    """Inverted residual block with ReLU6 and without squeeze-and-excitation, as in the Lite networks."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        hidden = in_channels * expansion
        if expansion > 1:
            self._expand_conv = nn.Conv2d(in_channels, hidden, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(hidden, EPS)
        self._depthwise_conv = nn.Conv2d(hidden, hidden, kernel, stride, kernel // 2, groups=hidden, bias=False)
        self._bn1 = nn.BatchNorm2d(hidden, EPS)
        self._project_conv = nn.Conv2d(hidden, out_channels, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(out_channels, EPS)
        self.expands, self.residual = expansion > 1, stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    """Float images [N, 3, H, W] in [-1, 1] -> pooled features [N, 1280].

    Images are resized to 224 px (bicubic, anti-aliased). Results at different resolutions are therefore comparable, but
    not with those of code that resizes differently.
    """

    num_features = 1280

    def __init__(self):
        super().__init__()
        self._conv_stem, self._bn0 = nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32, EPS)
        blocks = []
        for repeats, kernel, stride, expansion, in_channels, out_channels in STAGES:
            blocks.append(MBConv(in_channels, out_channels, kernel, stride, expansion))
            blocks += [MBConv(out_channels, out_channels, kernel, 1, expansion) for _ in range(repeats - 1)]
        self._blocks = nn.Sequential(*blocks)
        self._conv_head, self._bn1 = nn.Conv2d(320, 1280, 1, bias=False), nn.BatchNorm2d(1280, EPS)
        self._fc = nn.Linear(1280, 1000)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        x = F.interpolate(images, size=(SIZE, SIZE), mode="bicubic", antialias=True, align_corners=False)
        x = (x.clamp(-1, 1) / 2 + 0.5 - self.mean) / self.std
        x = F.relu6(self._bn0(self._conv_stem(x)))
        x = self._blocks(x)
        return F.relu6(self._bn1(self._conv_head(x))).mean((2, 3))

    def logits(self, images: Tensor) -> Tensor:
        """The 1,000 ImageNet classes: [N, 1000]."""
        return self._fc(self(images))
