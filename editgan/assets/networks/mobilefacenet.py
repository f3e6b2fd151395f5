"""MobileFaceNet (Chen et al. 2018) trained with ArcFace: 192 identity features per face. The identity judge."""

import torch.nn.functional as F
from torch import Tensor, nn

from editgan.assets.alignment import align
from editgan.assets.networks.same_padding import pad_same

# Right eye, left eye, nose tip, mouth centre of the 112-pixel ArcFace template.
TEMPLATE = ((0.3419, 0.4616), (0.6565, 0.4598), (0.5002, 0.6405), (0.5012, 0.8240))
SIZE = 112

# (input channels, hidden channels, output channels, stride) of the inverted residual blocks
BLOCKS = (
    (64, 128, 64, 2),
    *[(64, 128, 64, 1)] * 4,
    (64, 256, 128, 2),
    *[(128, 256, 128, 1)] * 6,
    (128, 512, 128, 2),
    *[(128, 256, 128, 1)] * 2,
)


class SameConv(nn.Module):
    """Convolution with TensorFlow's SAME padding and an optional PReLU; batch normalisation is folded in."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1, prelu: bool = True
    ):
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, groups=groups)
        self.act = nn.PReLU(out_channels) if prelu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv(pad_same(x, self.kernel, self.stride)))


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project; with a shortcut if the shapes match."""

    def __init__(self, in_channels: int, hidden: int, out_channels: int, stride: int):
        super().__init__()
        self.expand = SameConv(in_channels, hidden, 1)
        self.depthwise = SameConv(hidden, hidden, 3, stride, groups=hidden)
        self.project = SameConv(hidden, out_channels, 1, prelu=False)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class MobileFaceNet(nn.Module):
    """Float images [N, 3, H, W] in [-1, 1] -> unit-length identity features [N, 192]; compare by cosine."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(
            SameConv(3, 64, 3, 2), SameConv(64, 64, 3, groups=64), SameConv(64, 64, 1, prelu=False)
        )
        self.blocks = nn.Sequential(*[InvertedResidual(*block) for block in BLOCKS])
        self.widen = SameConv(128, 512, 1)
        self.pool = nn.Conv2d(512, 512, 7, groups=512)  # weighted mean of the 7x7 positions, per channel
        self.mix = nn.Conv2d(512, 512, 1)
        self.head = nn.Conv2d(512, 192, 1)  # the output layer; its name is a key of the converted file

    def forward(self, images: Tensor, points: Tensor | None = None) -> Tensor:
        """`points` [N, 4, 2]: landmarks in pixels (module `alignment`); default: the framing of the heads."""
        return self.embed(align(images, TEMPLATE, SIZE, points))

    def embed(self, crops: Tensor) -> Tensor:
        """Aligned crops [N, 3, 112, 112] in [-1, 1] -> [N, 192]."""
        x = self.widen(self.blocks(self.stem(crops)))  # [N, 512, 7, 7]
        return F.normalize(self.head(self.mix(self.pool(x))).flatten(1), dim=1)
