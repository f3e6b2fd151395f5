"""LocalEditing, "Editing in Style" (Collins, Bala, Price & Susstrunk, CVPR 2020): swap the style channels of one part.

Spherical k-means on the features of a layer finds parts (section 3.1). A channel belongs to a part if most of its
activity is inside that part (section 3.2). An edit copies the styles of these channels from a reference image and keeps
all others (section 3.3). In StyleGAN2 the styles modulate the input channels of a convolution.
"""

import contextlib
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from editgan.generator.generator import Generator, SynthesisLayer

KMEANS_STEPS = 200
KMEANS_BATCH = 8192  # pixels
TOO_FEW = 0.001  # clusters with less than this share of the pixels are reinitialised


def convolutions(G: Generator) -> list[SynthesisLayer]:
    """The styled convolutions, from 4x4 upwards; the input of convolution i is map i of `G.synthesis_features`."""
    return [module for module in G.synthesis.modules() if isinstance(module, SynthesisLayer)]


def spherical_kmeans(pixels: Tensor, clusters: int, *, generator: torch.Generator) -> Tensor:
    """Mini-batch spherical k-means of unit vectors [P, C].  # unit centres [clusters, C]"""
    centres = pixels[torch.randperm(len(pixels), generator=generator)[:clusters]].clone()
    seen = torch.zeros(clusters)
    for _ in range(KMEANS_STEPS):
        batch = pixels[torch.randint(len(pixels), (KMEANS_BATCH,), generator=generator)]  # [B, C]
        nearest = F.one_hot((batch @ centres.T).argmax(1), clusters).float()  # [B, clusters]
        count = nearest.sum(0)
        seen += count
        mean = nearest.T @ batch / count.clamp(min=1)[:, None]  # [clusters, C]
        rate = (count / seen.clamp(min=1))[:, None]
        centres = F.normalize(centres + rate * (mean - centres) * (count > 0)[:, None], dim=1)
        lost = (seen < TOO_FEW * seen.sum()) & (seen.sum() > 10 * KMEANS_BATCH)
        if lost.any():
            centres[lost] = batch[torch.randint(KMEANS_BATCH, (int(lost.sum()),), generator=generator)]
            seen[lost] = seen.mean()
    return centres


def clusters_of(features: Tensor, centres: Tensor) -> Tensor:
    """The cluster of every pixel: features [N, C, h, w] -> [N, h, w]"""
    return torch.einsum("nchw,kc->nkhw", features, centres).argmax(1)


def part_clusters(assigned: Tensor, part: Tensor, clusters: int) -> list[int]:
    """The clusters, at least one, whose union overlaps a part best (IoU), found greedily.

    assigned: cluster indices [N, h, w]; part: its mask, downsampled by nearest neighbour, bool [N, h, w]
    """
    inside = torch.bincount(assigned[part], minlength=clusters).double()  # [clusters]
    size = torch.bincount(assigned.flatten(), minlength=clusters).double()
    chosen: list[int] = []
    best, taken, covered = 0.0, 0.0, 0.0
    for cluster in (inside / size.clamp(min=1)).argsort(descending=True).tolist():
        overlap = float(covered + inside[cluster])
        iou = overlap / max(float(part.sum()) + taken + float(size[cluster]) - overlap, 1.0)
        if chosen and iou <= best:
            break
        chosen.append(cluster)
        best, taken, covered = iou, taken + float(size[cluster]), overlap
    return chosen


class Contributions:
    """M of section 3.2 for one part: the share of each channel's variance inside the part, accumulated over batches."""

    def __init__(self) -> None:
        self.sums: list[Tensor] = []  # per map [6, C]: A, A^2, A and A^2 inside, pixels inside, all pixels

    def add(self, maps: Sequence[Tensor], part: Tensor) -> None:
        """Add a batch: maps of `G.synthesis_features`, [N, C_i, h_i, h_i], and the part's mask, bool [N, h, w]."""
        for index, x in enumerate(maps):
            x = x.double()
            within = F.interpolate(part[:, None].double(), size=x.shape[-2:], mode="nearest-exact")  # [N, 1, h_i, h_i]
            pixels = within.expand_as(x)
            found = [x, x.square(), x * within, x.square() * within, pixels]
            row = torch.stack([term.sum((0, 2, 3)) for term in found])  # [5, C_i]
            total = torch.full_like(row[:1], x.shape[0] * x.shape[2] * x.shape[3])
            row = torch.cat([row, total])  # [6, C_i]
            if index == len(self.sums):
                self.sums.append(row)
            else:
                self.sums[index] += row

    def shares(self) -> list[Tensor]:
        """The share of each channel, 0..1, for each map.  # [C_i]"""
        result = []
        for total, squares, within, squares_within, pixels, count in self.sums:
            mean = total / count
            variance = (squares / count - mean.square()).clamp(min=1e-12)
            part = squares_within - 2 * mean * within + mean.square() * pixels
            result.append((part / (count * variance)).clamp(0, 1).float())
        return result


def channel_mask(shares: Tensor, *, rho: float, epsilon: float) -> Tensor:
    """q of section 3.3: channels [C] in order of decreasing share, while the sum of (1 - share) stays below epsilon;
    only channels with a share above rho.  # bool [C]"""
    order = shares.argsort(descending=True)
    within = (1 - shares[order]).cumsum(0) < epsilon
    mask = torch.zeros_like(shares, dtype=torch.bool)
    mask[order[within]] = True
    return mask & (shares > rho)


@torch.no_grad()
def styles_of(G: Generator, w_plus: Tensor) -> list[Tensor]:
    """The styles of every convolution: w_plus [N, num_ws, w_dim] -> [N, C_i] each."""
    return [layer.affine(w_plus[:, row]) for row, layer in enumerate(convolutions(G))]


@contextlib.contextmanager
def swapped_styles(G: Generator, masks: Sequence[Tensor], styles: Sequence[Tensor], strength: float) -> Iterator[None]:
    """Context in which G uses s + strength q (s_reference - s) as the style of every convolution (equation 4).

    masks, styles: q and the reference's styles, one of each per convolution  # [C_i]
    """
    handles = []
    for layer, q, reference in zip(convolutions(G), masks, styles, strict=True):

        def swap(_: nn.Module, __: tuple, style: Tensor, q=q, reference=reference) -> Tensor:
            return style + strength * q.to(style) * (reference.to(style) - style)

        handles.append(layer.affine.register_forward_hook(swap))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
