"""Generator features at selected pixels, without building the full-resolution feature stack.

EditGAN's features are all maps of the synthesis network, upsampled to the working resolution by bilinear interpolation
and concatenated. Most uses need only some pixels of that stack: sampled training pixels, or the region of an edit.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


def bilinear_taps(coordinates: Tensor, native: int, size: int) -> tuple[Tensor, Tensor]:
    """The two of `native` rows (or columns) from which each of `size` rows is interpolated, and their weights.

    Same rule as `F.interpolate(mode="bilinear", align_corners=False)`. Coordinates are numbers in 0..size-1, [P].
    Returns taps [P, 2], weights in float64 [P, 2].
    """
    centre = ((coordinates.double() + 0.5) * native / size - 0.5).clamp(min=0)  # [P]
    low = centre.floor().long().clamp(max=native - 1)  # [P]
    high = (low + 1).clamp(max=native - 1)  # [P]
    fraction = centre - low  # [P]
    return torch.stack([low, high], 1), torch.stack([1 - fraction, fraction], 1)


@functools.cache
def bilinear_matrix(native: int, size: int) -> Tensor:
    """Matrix that upsamples `native` rows (or columns) to `size` by bilinear interpolation.  # [size, native]"""
    taps, weights = bilinear_taps(torch.arange(size), native, size)  # [size, 2]
    return torch.zeros(size, native, dtype=torch.float64).scatter_add_(1, taps, weights).float()


@dataclass(frozen=True)
class PixelSampler:
    """Reads maps at fixed pixels of a batch of images; computed once, used at every step.

    A map of side h is a table of N * h * h rows. A small region uses few of them, the fewer the coarser the map, so
    linear layers are best applied to these rows before interpolation.
    """

    used: dict[int, Tensor]  # side -> rows that are used  # [U]
    taps: dict[int, Tensor]  # side -> the four neighbours, as indices into `used`  # [P, 4]
    weights: dict[int, Tensor]  # side -> their weights, float64  # [P, 4]

    def rows(self, maps: Sequence[Tensor]) -> Tensor:
        """The used rows of maps of one resolution, channels concatenated: [N, C_k, h, h] -> [U, sum C_k]"""
        used = self.used[maps[0].shape[-1]]
        tables = (one.permute(0, 2, 3, 1).flatten(0, 2) for one in maps)  # [N * h * h, C_k], a view if channels last
        return torch.cat([table.index_select(0, used) for table in tables], 1)

    def interpolate(self, rows: Tensor, side: int) -> Tensor:
        """Interpolate rows of maps of one resolution, or linear functions of them, at the pixels: [U, C] -> [P, C]"""
        weights = self.weights[side].to(rows.dtype)
        return F.embedding_bag(self.taps[side], rows, per_sample_weights=weights, mode="sum")

    def __call__(self, features: Sequence[Tensor]) -> Tensor:
        """Maps [N, C_k, h_k, h_k] -> features of the pixels, channels in the order of the maps.  # [P, sum C_k]"""
        return torch.cat([self.interpolate(self.rows(m), m[0].shape[-1]) for m in by_resolution(features)], 1)


def pixel_sampler(pixels: Tensor, size: int, sides: Sequence[int]) -> PixelSampler:
    """Prepare a sampler for `pixels`, indices into a flattened batch of masks [N, size, size].  # [P]"""
    image, inside = pixels // (size * size), pixels % (size * size)  # [P]
    used, taps, weights = {}, {}, {}
    for side in sorted(set(sides)):
        y, weight_y = bilinear_taps(inside // size, side, size)  # [P, 2]
        x, weight_x = bilinear_taps(inside % size, side, size)  # [P, 2]
        rows = ((image[:, None, None] * side + y[:, :, None]) * side + x[:, None, :]).flatten(1)  # [P, 4]
        used[side], taps[side] = rows.unique(return_inverse=True)
        weights[side] = (weight_y[:, :, None] * weight_x[:, None, :]).flatten(1)  # [P, 4]
    return PixelSampler(used=used, taps=taps, weights=weights)


def by_resolution(features: Sequence[Tensor]) -> list[list[Tensor]]:
    """Group consecutive maps of equal side, in order, so one gather or one projection handles each group."""
    groups: list[list[Tensor]] = []
    for feature in features:
        if groups and groups[-1][0].shape[-1] == feature.shape[-1]:
            groups[-1].append(feature)
        else:
            groups.append([feature])
    return groups


def full_feature_stack(features: Sequence[Tensor], size: int) -> Tensor:
    """Every map upsampled and concatenated, the reference for tests; 5.9 GiB per image for the paper's generator.

    Maps [N, C_k, h_k, h_k] -> [N, sum C_k, size, size].
    """
    return torch.cat([F.interpolate(f, size=(size, size), mode="bilinear", align_corners=False) for f in features], 1)
