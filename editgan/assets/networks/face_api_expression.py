"""The expression classifier of face-api: seven expressions from an RGB face. One of the two smile judges."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from editgan.assets.alignment import expression_crops
from editgan.assets.networks.same_padding import pad_same

SIZE = 112
MEAN_RGB = (122.782, 117.001, 104.298)
EXPRESSIONS = ("neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised")


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
        y = F.relu(self.conv0(pad_same(x, 3, 2))) if self.first else F.relu(self.conv0(x))
        total = y + self.conv1(y)
        total = total + self.conv2(F.relu(total))
        total = total + self.conv3(F.relu(total))
        return F.relu(total)


class FaceApiExpression(nn.Module):
    """Float images [N, 3, H, W] in [-1, 1] -> probabilities [N, 7] in the order of `expressions`."""

    expressions = EXPRESSIONS

    def __init__(self):
        super().__init__()
        self.dense0, self.dense1 = DenseBlock(3, 32), DenseBlock(32, 64)
        self.dense2, self.dense3 = DenseBlock(64, 128), DenseBlock(128, 256)
        self.fc = nn.Linear(256, len(EXPRESSIONS))
        self.register_buffer("mean", torch.tensor(MEAN_RGB).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor, points: Tensor | None = None) -> Tensor:
        """`points` [N, 4, 2]: landmarks in pixels (module `alignment`); default: the framing of the heads."""
        crops = expression_crops(images, SIZE, points)
        return torch.stack([self.classify(crop) for crop in crops]).mean(0)

    def classify(self, crops: Tensor) -> Tensor:
        """Face boxes [N, 3, 112, 112] in [-1, 1] -> [N, 7]."""
        x = ((crops + 1) * 127.5 - self.mean) / 255
        x = self.dense3(self.dense2(self.dense1(self.dense0(x))))  # [N, 256, 7, 7]
        return self.fc(x.mean((2, 3))).softmax(1)

    def smile(self, images: Tensor, points: Tensor | None = None) -> Tensor:
        """P(happy): [N] in [0, 1]."""
        return self(images, points)[:, EXPRESSIONS.index("happy")]
