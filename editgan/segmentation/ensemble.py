"""S: ten pixel classifiers on generator features, evaluated together.

Architecture of DatasetGAN and EditGAN (released code): Linear - ReLU - BatchNorm, twice, then Linear; the members
differ in initialisation and data order and their logits are averaged.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from editgan.errors import UserError
from editgan.segmentation.pixels import PixelSampler, by_resolution
from editgan.weights import load_module, save_module

INIT_STD = 0.02  # released code: N(0, 0.02) weights, zero biases


def hidden_widths(num_classes: int) -> tuple[int, int]:
    """Widths of the two hidden layers: (128, 32), and (256, 128) from 32 classes on (released code)."""
    return (128, 32) if num_classes < 32 else (256, 128)


class SegmentationEnsemble(nn.Module):
    """Part logits of every member for every pixel.

    Args:
        feature_channels: channels of each generator feature map, in `G.synthesis_features` order
        num_classes: number of part labels K
        members: number of classifiers M
        class_names: names of the K labels, for looking parts up by name; empty where nobody does
    """

    def __init__(
        self,
        *,
        feature_channels: Sequence[int],
        num_classes: int,
        members: int = 10,
        class_names: Sequence[str] = (),
    ) -> None:
        super().__init__()
        if class_names and len(class_names) != num_classes:
            raise ValueError(f"{len(class_names)} class_names for num_classes={num_classes}")
        self.feature_channels = list(feature_channels)
        self.num_classes = num_classes
        self.members = members
        self.class_names = list(class_names)
        channels, (first, second) = sum(feature_channels), hidden_widths(num_classes)
        self.weight1 = nn.Parameter(torch.randn(members, first, channels) * INIT_STD)
        self.bias1 = nn.Parameter(torch.zeros(members, first))
        self.norm1 = nn.BatchNorm1d(members * first)  # every member's channels are normalised on their own
        self.weight2 = nn.Parameter(torch.randn(members, second, first) * INIT_STD)
        self.bias2 = nn.Parameter(torch.zeros(members, second))
        self.norm2 = nn.BatchNorm1d(members * second)
        self.weight3 = nn.Parameter(torch.randn(members, num_classes, second) * INIT_STD)
        self.bias3 = nn.Parameter(torch.zeros(members, num_classes))

    @property
    def config(self) -> dict:
        """Constructor arguments that rebuild this network."""
        return {
            "feature_channels": self.feature_channels,
            "num_classes": self.num_classes,
            "members": self.members,
            "class_names": self.class_names,
        }

    def forward(self, features: Sequence[Tensor], size: int) -> Tensor:
        """Logits of all pixels.  # [N, M, K, size, size]

        The first layer is linear and so is bilinear up-sampling: each map is projected at its own resolution, only
        the M * 128 projected channels are up-sampled, and the sum gets the bias once. Equal to the classifier on
        the full feature stack up to rounding.

        Args:
            features: maps of `G.synthesis_features`  # [N, C_k, h_k, h_k]
            size: side of the wanted logits in pixels
        """
        self._check(features)
        projected = None
        for maps, weight in self._projections(features):
            pixels = torch.cat(maps, 1).permute(0, 2, 3, 1)  # [N, h, h, C]
            partial = F.linear(pixels, weight).permute(0, 3, 1, 2)  # [N, M * H1, h, h], channels last in memory
            if maps[0].shape[-1] != size:
                partial = F.interpolate(partial, size=(size, size), mode="bilinear", align_corners=False)
            projected = partial if projected is None else projected.add_(partial)  # [N, M * H1, size, size]
        hidden = projected.permute(0, 2, 3, 1).flatten(0, 2)  # [N * size * size, M * H1]
        logits = self._read_out(hidden.unflatten(1, (self.members, -1)).transpose(0, 1))  # [M, N * size * size, K]
        return logits.unflatten(1, (-1, size, size)).permute(1, 0, 4, 2, 3)

    def pixel_logits(self, features: Sequence[Tensor], sampler: PixelSampler) -> Tensor:
        """Logits at chosen pixels only, for a fraction of the work: maps [N, C_k, h_k, h_k] -> [P, M, K]"""
        self._check(features)
        projected = sum(
            sampler.interpolate(F.linear(sampler.rows(maps), weight), maps[0].shape[-1])
            for maps, weight in self._projections(features)
        )  # [P, M * H1]
        return self._read_out(projected.unflatten(1, (self.members, -1)).transpose(0, 1)).transpose(0, 1)

    def member_logits(self, pixels: Tensor) -> Tensor:
        """Every member on pixels of its own, as in training: [M, P, sum C_k] -> logits  # [M, P, K]"""
        return self._read_out(torch.bmm(pixels, self.weight1.transpose(1, 2)))

    def mean_logits(self, features: Sequence[Tensor], size: int) -> Tensor:
        """Logits averaged over the members, as EditGAN's editing loss and masks use them.  # [N, K, size, size]"""
        return self(features, size).mean(1)

    @torch.no_grad()
    def predict(self, features: Sequence[Tensor], size: int) -> Tensor:
        """Part labels, uint8; works image by image, which bounds the memory and is the fastest.  # [N, size, size]"""
        images = zip(*(feature.split(1) for feature in features), strict=True)
        return torch.cat([self.mean_logits(maps, size).argmax(1).to(torch.uint8) for maps in images])

    def class_ids(self, names: Sequence[str]) -> list[int]:
        """Label numbers of part names.

        Raises:
            UserError: a name that this ensemble was not trained on.
        """
        unknown = [name for name in names if name not in self.class_names]
        if unknown:
            raise UserError(f"no part called {unknown}; this segmentation knows {self.class_names}")
        return [self.class_names.index(name) for name in names]

    def _projections(self, features: Sequence[Tensor]) -> Iterator[tuple[list[Tensor], Tensor]]:
        """Maps of each resolution with their slice of the first layer, all members stacked.  # [M * H1, C]"""
        weight = self.weight1.flatten(0, 1)  # [M * H1, sum C_k]
        offset = 0
        for maps in by_resolution(features):
            channels = sum(one.shape[1] for one in maps)
            yield maps, weight[:, offset : offset + channels]
            offset += channels

    def _read_out(self, hidden: Tensor) -> Tensor:
        """First-layer sums without bias [M, P, H1] -> logits  # [M, P, K]"""
        hidden = hidden.add_(self.bias1[:, None]).relu_()  # [M, P, H1]
        hidden = self._normalise_then_linear(hidden, self.norm1, self.weight2, self.bias2).relu_()  # [M, P, H2]
        return self._normalise_then_linear(hidden, self.norm2, self.weight3, self.bias3)  # [M, P, K]

    def _normalise_then_linear(self, hidden: Tensor, norm: nn.BatchNorm1d, weight: Tensor, bias: Tensor) -> Tensor:
        """[M, P, H] -> [M, P, H']; with fixed statistics the normalisation is folded into the linear layer."""
        if self.training:
            columns = norm(hidden.transpose(0, 1).flatten(1))  # [P, M * H]
            hidden = columns.unflatten(1, (self.members, -1)).transpose(0, 1)  # [M, P, H]
        else:
            scale = (norm.weight * (norm.running_var + norm.eps).rsqrt()).view(self.members, 1, -1)  # [M, 1, H]
            shift = (norm.bias - norm.running_mean * scale.flatten()).view_as(scale)  # [M, 1, H]
            bias = bias + (weight * shift).sum(2)  # [M, H']
            weight = weight * scale  # [M, H', H]
        return torch.baddbmm(bias[:, None], hidden, weight.transpose(1, 2))

    def _check(self, features: Sequence[Tensor]) -> None:
        channels = [feature.shape[1] for feature in features]
        if channels != self.feature_channels:
            raise ValueError(f"feature maps have {channels} channels, this ensemble expects {self.feature_channels}")


def save_segmentation(path: str | Path, ensemble: SegmentationEnsemble) -> Path:
    """Write S.safetensors in float16, with the constructor arguments inside."""
    return save_module(path, ensemble, ensemble.config)


def load_segmentation(path: str | Path, device: str | torch.device = "cpu") -> SegmentationEnsemble:
    """Read S.safetensors: in eval mode, frozen.

    Raises:
        UserError: missing or damaged file, or another network inside.
    """
    return load_module(path, SegmentationEnsemble).to(device)
