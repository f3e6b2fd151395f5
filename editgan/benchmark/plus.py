"""EditGAN+, ours: for every head the least strength at which the segmentation sees the wanted share of its mask.

A vector moves one head's mouth more than another's. The segmentation, which EditGAN has anyway, says how far each has
come; no classifier is asked. The vector is the mean of what several heads learned.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from editgan.editing.vectors import EditingVector, apply_vector
from editgan.generator.generator import Generator
from editgan.segmentation.ensemble import SegmentationEnsemble
from editgan.segmentation.predict import predict_masks


def followed_at(
    G: Generator,
    S: SegmentationEnsemble,
    w_plus: Tensor,
    vector: EditingVector,
    strengths: Sequence[float],
    before: Tensor,
    wanted: Tensor,
) -> Tensor:
    """Share of the repainted pixels that are seen as wanted at each strength; 1 where nothing is to be repainted.

    Args:
        w_plus: heads  # [N, num_ws, w_dim]
        before, wanted: their masks, and what the edit makes of them, labels  # uint8 [N, H, W]
    Returns:
        [S, N]
    """
    painted = before != wanted
    count = painted.sum((1, 2))  # [N]
    rows = []
    for strength in strengths:
        seen = predict_masks(G, S, apply_vector(w_plus, vector, strength))
        share = ((seen == wanted) & painted).sum((1, 2)) / count.clamp(min=1)
        rows.append(torch.where(count > 0, share, 1.0))
    return torch.stack(rows)


def least_strengths(followed: Tensor, strengths: Sequence[float], share: float) -> Tensor:
    """For each head the least of rising strengths that follows the share, the strongest where none does.

    Args:
        followed: [S, N]
    Returns:
        [N]
    """
    enough = followed >= share  # [S, N]
    enough[-1] = True
    return torch.tensor(strengths, dtype=torch.float32)[enough.float().argmax(0)]
