"""S: an ensemble of pixel classifiers on generator features, evaluated together.

Architecture of DatasetGAN and EditGAN (released code): Linear - ReLU - BatchNorm, twice, then Linear. The members
differ in initialisation and data order; their logits are averaged.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from editgan.errors import UserError
from editgan.segmentation.pixels import PixelSampler, bilinear_matrix, by_resolution
from editgan.weights import load_module, save_module

MATRIX_SIDE = 32  # largest maps that are upsampled by matrix products
INIT_STD = 0.02  # released code: N(0, 0.02) weights, zero biases


def hidden_widths(num_classes: int) -> tuple[int, int]:
    """Widths of the two hidden layers: (128, 32), or (256, 128) for 32 or more classes (released code)."""
    return (128, 32) if num_classes < 32 else (256, 128)


class SegmentationEnsemble(nn.Module):
    """Part logits of every member for every pixel: M classifiers, K part labels.

    feature_channels: of the maps of `G.synthesis_features`; class_names: of the K labels, for lookup; may be empty.
    """

    def __init__(
        self, *, feature_channels: Sequence[int], num_classes: int, members: int = 10, class_names: Sequence[str] = ()
    ) -> None:
        super().__init__()
        if class_names and len(class_names) != num_classes:
            raise ValueError(f"{len(class_names)} class_names for num_classes={num_classes}")
        self.feature_channels, self.class_names = list(feature_channels), list(class_names)
        self.num_classes, self.members = num_classes, members
        channels, (first, second) = sum(feature_channels), hidden_widths(num_classes)
        self.weight1 = nn.Parameter(torch.randn(members, first, channels) * INIT_STD)
        self.bias1 = nn.Parameter(torch.zeros(members, first))
        self.norm1 = nn.BatchNorm1d(members * first)  # separate statistics for each member's channels
        self.weight2 = nn.Parameter(torch.randn(members, second, first) * INIT_STD)
        self.bias2 = nn.Parameter(torch.zeros(members, second))
        self.norm2 = nn.BatchNorm1d(members * second)
        self.weight3 = nn.Parameter(torch.randn(members, num_classes, second) * INIT_STD)
        self.bias3 = nn.Parameter(torch.zeros(members, num_classes))

    @property
    def config(self) -> dict:
        """Constructor arguments that rebuild this network."""
        names = ("feature_channels", "num_classes", "members", "class_names")
        return {name: getattr(self, name) for name in names}

    def forward(self, features: Sequence[Tensor], size: int) -> Tensor:
        """Logits of all pixels, in eval mode: maps [N, C_k, h_k, h_k] -> [N, M, K, size, size].

        The first layer and bilinear upsampling are both linear, so each map is projected at its own resolution, only
        the M * 128 projected channels are upsampled, and the bias is added once to the sum. Equal to the classifier on
        the full feature stack up to rounding.
        """
        self._check(features)
        maps = [(torch.cat(group, 1).permute(0, 2, 3, 1), weight) for group, weight in self._projections(features)]
        logits = [self._member_logits(member, maps, size) for member in range(self.members)]
        return torch.stack(logits, 1)

    def pixel_logits(self, features: Sequence[Tensor], sampler: PixelSampler) -> Tensor:
        """Logits at selected pixels only, at a fraction of the cost: maps [N, C_k, h_k, h_k] -> [P, M, K]"""
        self._check(features)
        projected = sum(
            sampler.interpolate(F.linear(sampler.rows(maps), weight), maps[0].shape[-1])
            for maps, weight in self._projections(features)
        )  # [P, M * H1]
        return self._read_out(projected.unflatten(1, (self.members, -1)).transpose(0, 1)).transpose(0, 1)

    def member_logits(self, pixels: Tensor) -> Tensor:
        """Each member on its own set of pixels, as in training: [M, P, sum C_k] -> logits  # [M, P, K]"""
        return self._read_out(torch.bmm(pixels, self.weight1.transpose(1, 2)))

    def mean_logits(self, features: Sequence[Tensor], size: int) -> Tensor:
        """Logits averaged over the members, as used for EditGAN's editing loss and masks.  # [N, K, size, size]"""
        return self(features, size).mean(1)

    @torch.no_grad()
    def predict(self, features: Sequence[Tensor], size: int) -> Tensor:
        """Part labels, uint8; processes one image at a time, which bounds memory and is fastest.  # [N, size, size]"""
        images = zip(*(feature.split(1) for feature in features), strict=True)
        return torch.cat([self.mean_logits(maps, size).argmax(1).to(torch.uint8) for maps in images])

    def class_ids(self, names: Sequence[str]) -> list[int]:
        """Label numbers of part names; UserError for a name that is not a label of this ensemble."""
        unknown = [name for name in names if name not in self.class_names]
        if unknown:
            raise UserError(f"no part called {unknown}; the parts of this segmentation are {self.class_names}")
        return [self.class_names.index(name) for name in names]

    def _member_logits(self, member: int, maps: list[tuple[Tensor, Tensor]], size: int) -> Tensor:
        """Logits [N, K, size, size] of one member: its maps fit into the CPU cache, those of all members do not.

        Small maps are upsampled by two matrix products: each along its rows, then all together along the columns, which
        also adds them up. For larger maps this would cost more than interpolation.

        maps: one entry per resolution, with the first layer's weights of all members  # ([N, h, h, C], [M * H1, C])
        """
        width, count = self.weight1.shape[1], len(maps[0][0])
        hidden, rows, columns = maps[0][0].new_zeros(count, size, size, width), [], []
        for pixels, weight in maps:
            side = pixels.shape[1]
            partial = F.linear(pixels, weight[member * width : (member + 1) * width])  # [N, h, h, H1]
            if side == size:
                hidden = hidden + partial
            elif side > MATRIX_SIDE:
                partial = partial.permute(0, 3, 1, 2)  # [N, H1, h, h], channels last in memory
                partial = F.interpolate(partial, size=(size, size), mode="bilinear", align_corners=False)
                hidden = hidden + partial.permute(0, 2, 3, 1)
            else:
                upsampling = bilinear_matrix(side, size).to(partial)  # [size, h]
                rows.append(torch.matmul(upsampling, partial).flatten(2))  # [N, h, size * H1]
                columns.append(upsampling)
        if rows:
            columns = torch.cat(columns, 1).expand(count, -1, -1)  # [N, size, sum of sides]
            hidden = torch.baddbmm(hidden.flatten(2), columns, torch.cat(rows, 1))  # [N, size, size * H1]
        logits = self._read_out(hidden.reshape(1, -1, width), slice(member, member + 1))[0]  # [N * size * size, K]
        return logits.view(count, size, size, -1).permute(0, 3, 1, 2)

    def _projections(self, features: Sequence[Tensor]) -> Iterator[tuple[list[Tensor], Tensor]]:
        """Maps of each resolution with their slice of the first layer, members stacked.  # [M * H1, C]"""
        weight = self.weight1.flatten(0, 1)  # [M * H1, sum C_k]
        offset = 0
        for maps in by_resolution(features):
            channels = sum(one.shape[1] for one in maps)
            yield maps, weight[:, offset : offset + channels]
            offset += channels

    def _read_out(self, hidden: Tensor, members: slice = slice(None)) -> Tensor:
        """First-layer sums without bias [M, P, H1] -> logits of all or some members  # [M, P, K]"""
        hidden = hidden.add_(self.bias1[members, None]).relu_()  # [M, P, H1]
        second, third = (self.weight2[members], self.bias2[members]), (self.weight3[members], self.bias3[members])
        hidden = self._normalise_then_linear(hidden, self.norm1, *second, members).relu_()  # [M, P, H2]
        return self._normalise_then_linear(hidden, self.norm2, *third, members)  # [M, P, K]

    def _normalise_then_linear(
        self, hidden: Tensor, norm: nn.BatchNorm1d, weight: Tensor, bias: Tensor, members: slice
    ) -> Tensor:
        """[M, P, H] -> [M, P, H']; in eval mode the normalisation is folded into the linear layer."""
        if self.training:
            columns = norm(hidden.transpose(0, 1).flatten(1))  # [P, M * H]
            hidden = columns.unflatten(1, (self.members, -1)).transpose(0, 1)  # [M, P, H]
        else:
            statistics = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
            gain, offset, mean, var = (one.view(self.members, 1, -1)[members] for one in statistics)  # [M, 1, H]
            scale = gain * (var + norm.eps).rsqrt()
            bias = bias + (weight * (offset - mean * scale)).sum(2)  # [M, H']
            weight = weight * scale  # [M, H', H]
        return torch.baddbmm(bias[:, None], hidden, weight.transpose(1, 2))

    def _check(self, features: Sequence[Tensor]) -> None:
        channels = [feature.shape[1] for feature in features]
        if channels != self.feature_channels:
            raise ValueError(f"feature maps have {channels} channels, this ensemble expects {self.feature_channels}")


def save_segmentation(path: str | Path, ensemble: SegmentationEnsemble) -> Path:
    """Write S.safetensors in float16; the constructor arguments are stored in the file."""
    return save_module(path, ensemble, ensemble.config)


def load_segmentation(path: str | Path, device: str | torch.device = "cpu") -> SegmentationEnsemble:
    """Read S.safetensors: eval mode, frozen. Raises UserError: missing, damaged, or another network."""
    return load_module(path, SegmentationEnsemble).to(device)
