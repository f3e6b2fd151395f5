"""IR-SE50, the ArcFace network of the EditGAN paper's identity score, in the layout of TreB1eN/InsightFace_Pytorch."""

import torch.nn.functional as F
from torch import Tensor, nn

from editgan.assets.alignment import align
from editgan.assets.networks.mobilefacenet import SIZE, TEMPLATE

# (input channels, output channels, units); the first unit of each halves the resolution
STAGES = ((64, 64, 3), (64, 128, 4), (128, 256, 14), (256, 512, 3))


class SqueezeExcite(nn.Module):
    """Squeeze-and-excitation: weights each channel by a small network of all channel means (Hu et al. 2018)."""

    def __init__(self, channels: int):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // 16, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // 16, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc2(F.relu(self.fc1(x.mean((2, 3), keepdim=True)))).sigmoid()


class Unit(nn.Module):
    """Residual unit with normalisation first and squeeze-and-excitation last (Deng et al. 2019)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        if in_channels == out_channels:
            self.shortcut_layer = nn.MaxPool2d(1, stride)
        else:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(in_channels),
            nn.Conv2d(in_channels, out_channels, 3, 1, 1, bias=False),
            nn.PReLU(out_channels),
            nn.Conv2d(out_channels, out_channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(out_channels),
            SqueezeExcite(out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.res_layer(x) + self.shortcut_layer(x)


class IrSe50(nn.Module):
    """Float images [N, 3, H, W] in [-1, 1] -> identity features [N, 512] of unit length; compare by cosine."""

    def __init__(self):
        super().__init__()
        self.input_layer = nn.Sequential(nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64))
        self.body = nn.Sequential(
            *[
                Unit(in_channels if index == 0 else out_channels, out_channels, 2 if index == 0 else 1)
                for in_channels, out_channels, units in STAGES
                for index in range(units)
            ]
        )
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(512), nn.Dropout(), nn.Flatten(), nn.Linear(512 * 7 * 7, 512), nn.BatchNorm1d(512)
        )

    def forward(self, images: Tensor, points: Tensor | None = None) -> Tensor:
        """`points` [N, 4, 2]: landmarks in pixels (module `alignment`); default: the framing of the heads."""
        return self.embed(align(images, TEMPLATE, SIZE, points))

    def embed(self, crops: Tensor) -> Tensor:
        """Aligned crops [N, 3, 112, 112] in [-1, 1] -> [N, 512]."""
        return F.normalize(self.output_layer(self.body(self.input_layer(crops))), dim=1)
