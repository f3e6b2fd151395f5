"""Two smile classifiers with different architectures: ResNet-18 (He et al., CVPR 2016) and a small plain network.

Both use only the lower face, where a smile is visible; in the common framing it is a fixed square. At equal cost the
mouth then has twice the resolution, which a small network needs to learn smiles.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from editgan.images import EYE_CENTRE, EYE_DISTANCE

LOWER_FACE_CENTRE = (EYE_CENTRE[0], EYE_CENTRE[1] + EYE_DISTANCE)  # x, y: the mouth is one eye distance below the eyes
LOWER_FACE_SIDE = 0.5  # relative to the picture: leaves room for turned heads, cheeks and chin


def lower_face(images: Tensor) -> Tensor:
    """The square around the mouth: [N, 3, H, H] -> [N, 3, H / 2, H / 2]."""
    size = images.shape[-1]
    side = round(LOWER_FACE_SIDE * size)
    left, top = (round((centre - LOWER_FACE_SIDE / 2) * size) for centre in LOWER_FACE_CENTRE)
    return images[:, :, top : top + side, left : left + side]


def resize_to(x: Tensor, resolution: int) -> Tensor:
    """[N, 3, H, W] -> [N, 3, resolution, resolution], bilinear with anti-aliasing, differentiable."""
    if x.shape[-2:] == (resolution, resolution):
        return x
    return F.interpolate(x, size=(resolution, resolution), mode="bilinear", align_corners=False, antialias=True)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut; a 1x1 convolution where the shortcut changes its shape."""

    def __init__(self, *, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + self.downsample(x))


class SmileClassifier(nn.Module, ABC):
    """Base of guide and judge: `forward` returns logits, `smile` probabilities, both [N].

    Images are float [N, 3, H, H] in [-1, 1] of any size; their lower face, or the `whole` picture if they are of
    another class, is resized to `input_resolution`.
    """

    input_resolution: int
    whole: bool

    @abstractmethod
    def logits(self, x: Tensor) -> Tensor:
        """[N, 3, input_resolution, input_resolution] -> [N, 1]."""

    def forward(self, images: Tensor) -> Tensor:
        seen = images if self.whole else lower_face(images)
        return self.logits(resize_to(seen, self.input_resolution)).squeeze(1)

    def smile(self, images: Tensor) -> Tensor:
        """Probability of a smile, [N] in 0..1."""
        return self.forward(images).sigmoid()


class SmileResNet(SmileClassifier):
    """ResNet-18 layout (stem, four stages of two basic blocks) with one output. Width 64 is the published network."""

    def __init__(self, *, input_resolution: int, width: int, whole: bool = False) -> None:
        super().__init__()
        self.input_resolution, self.whole = input_resolution, whole
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        stages, channels = [], width
        for stage in range(4):
            first = BasicBlock(in_channels=channels, out_channels=width * 2**stage, stride=2 if stage else 1)
            channels = width * 2**stage
            stages.append(nn.Sequential(first, BasicBlock(in_channels=channels, out_channels=channels, stride=1)))
        self.stages = nn.Sequential(*stages)
        self.fc = nn.Linear(channels, 1)

    def logits(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))  # [N, width, H/2, W/2]
        x = F.max_pool2d(x, 3, 2, 1)
        x = self.stages(x)  # [N, 8 * width, H/32, W/32]
        return self.fc(x.mean((2, 3)))  # [N, 1]


class SmileConvNet(SmileClassifier):
    """Four strided convolutions with group normalisation, global average, one output."""

    def __init__(self, *, input_resolution: int, width: int, whole: bool = False) -> None:
        super().__init__()
        self.input_resolution, self.whole = input_resolution, whole
        channels = [3, width, 2 * width, 4 * width, 4 * width]
        layers: list[nn.Module] = []
        for in_channels, out_channels in zip(channels, channels[1:], strict=False):
            layers += [nn.Conv2d(in_channels, out_channels, 3, 2, 1), nn.GroupNorm(4, out_channels), nn.SiLU()]
        self.body = nn.Sequential(*layers)
        self.fc = nn.Linear(channels[-1], 1)

    def logits(self, x: Tensor) -> Tensor:
        return self.fc(self.body(x).mean((2, 3)))  # [N, 1]


def initialise(net: SmileClassifier, generator: torch.Generator) -> SmileClassifier:
    """He initialisation of every convolution (He et al., ICCV 2015) and a zero last layer, seeded by one generator."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    nn.init.zeros_(net.fc.weight)
    nn.init.zeros_(net.fc.bias)
    return net
