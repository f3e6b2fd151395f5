"""dlib's face ResNet as shipped by face-api: 128 features per face. The identity network that may guide training."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from editgan.assets.alignment import align

# Right eye, left eye, nose tip, mouth centre of dlib's face chip (150 px, padding 0.25).
TEMPLATE = ((0.318, 0.314), (0.669, 0.314), (0.493, 0.545), (0.493, 0.700))
SIZE = 150
MEAN_RGB = (122.782, 117.001, 104.298)


class Residual(nn.Module):
    """Two 3x3 convolutions and an identity shortcut; normalisation is folded into the convolutions."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv2(F.relu(self.conv1(x))) + x)


class DownResidual(nn.Module):
    """Halves the resolution; the shortcut is average pooling, zero-padded in channels and positions."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=2)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y, shortcut = self.conv2(F.relu(self.conv1(x))), F.avg_pool2d(x, 2, 2)
        height, width = max(y.shape[2], shortcut.shape[2]), max(y.shape[3], shortcut.shape[3])
        return F.relu(fill_up(y, y.shape[1], height, width) + fill_up(shortcut, y.shape[1], height, width))


def fill_up(x: Tensor, channels: int, height: int, width: int) -> Tensor:
    """Zero-pad after the last channel, to the right and at the bottom: [N, channels, height, width]."""
    return F.pad(x, (0, width - x.shape[3], 0, height - x.shape[2], 0, channels - x.shape[1]))


class DlibResnet(nn.Module):
    """Float images [N, 3, H, W] in [-1, 1] -> identity features [N, 128]; compare by Euclidean distance.

    Two pictures of the same person are closer than 0.6 (threshold of the dlib model, King 2017).
    """

    def __init__(self):
        super().__init__()
        self.conv32_down = nn.Conv2d(3, 32, 7, stride=2)
        self.conv32_1, self.conv32_2, self.conv32_3 = Residual(32), Residual(32), Residual(32)
        self.conv64_down = DownResidual(32, 64)
        self.conv64_1, self.conv64_2, self.conv64_3 = Residual(64), Residual(64), Residual(64)
        self.conv128_down, self.conv128_1, self.conv128_2 = DownResidual(64, 128), Residual(128), Residual(128)
        self.conv256_down, self.conv256_1, self.conv256_2 = DownResidual(128, 256), Residual(256), Residual(256)
        self.conv256_down_out = DownResidual(256, 256)
        self.fc = nn.Linear(256, 128, bias=False)
        self.register_buffer("mean", torch.tensor(MEAN_RGB).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor, points: Tensor | None = None) -> Tensor:
        """`points` [N, 4, 2]: landmarks in pixels (module `alignment`); default: the framing of the heads."""
        return self.embed(align(images, TEMPLATE, SIZE, points))

    def embed(self, crops: Tensor) -> Tensor:
        """Face chips [N, 3, 150, 150] in [-1, 1] -> [N, 128]."""
        x = ((crops + 1) * 127.5 - self.mean) / 256
        x = F.max_pool2d(F.relu(self.conv32_down(x)), 3, 2)  # [N, 32, 35, 35]
        x = self.conv32_3(self.conv32_2(self.conv32_1(x)))
        x = self.conv64_3(self.conv64_2(self.conv64_1(self.conv64_down(x))))
        x = self.conv128_2(self.conv128_1(self.conv128_down(x)))
        x = self.conv256_2(self.conv256_1(self.conv256_down(x)))
        x = self.conv256_down_out(x)
        return self.fc(x.mean((2, 3)))
