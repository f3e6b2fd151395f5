"""Edits of part masks: the region an edit touches, and a mouth transplanted from another head."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from editgan.errors import UserError

EYES = ("left_eye", "right_eye")
MOUTH = ("upper_lip", "lower_lip", "mouth_interior")  # Q_edit of the smile: what it may change
DILATION_AT_512 = 5  # pixels that the region of an edit grows by at 512 px (EditGAN 3.2)
MOUTH_ENLARGEMENT = 1.1  # a transplanted mouth is this much wider than the one it replaces (released code)


def is_part(masks: Tensor, class_ids: Sequence[int]) -> Tensor:
    """True where a mask [.., H, W] holds one of the classes.  # bool [.., H, W]"""
    return torch.isin(masks, torch.tensor(list(class_ids), dtype=masks.dtype, device=masks.device))


def dilation_radius(size: int) -> int:
    """The paper's 5 pixels at 512 px, scaled to a side of `size` pixels, at least 1."""
    return max(1, round(DILATION_AT_512 * size / 512))


def dilate(region: Tensor, radius: int) -> Tensor:
    """Grow a bool region [N, H, W] by `radius` pixels to each side and along the diagonals (square element)."""
    grown = F.max_pool2d(region.float()[:, None], 2 * radius + 1, stride=1, padding=radius)
    return grown[:, 0] > 0


def edit_region(before: Tensor, after: Tensor, class_ids: Sequence[int]) -> Tensor:
    """r: pixels that belong to the edited parts before or after the edit, dilated (EditGAN 3.2).  # bool [N, H, W]"""
    region = is_part(before, class_ids) | is_part(after, class_ids)
    return dilate(region, dilation_radius(before.shape[-1]))


def erase_parts(mask: np.ndarray, class_ids: Sequence[int]) -> np.ndarray:
    """Give every pixel of these classes the label of the nearest pixel of another class.  # [H, W]

    Raises:
        UserError: the mask holds nothing else.
    """
    erased = np.isin(mask, class_ids)
    if erased.all():
        raise UserError(
            f"the mask holds nothing but the classes {list(class_ids)} that are to be erased; give the mask of a head"
        )
    nearest = distance_transform_edt(erased, return_distances=False, return_indices=True)  # [2, H, W]
    return mask[tuple(nearest)]


def transplant_parts(
    mask: np.ndarray,
    donor: np.ndarray,
    class_ids: Sequence[int],
    scale: float | None = None,
) -> np.ndarray:
    """Replace parts of a mask by those of a donor mask, as the released code makes its smile target.

    The parts are erased, the donor's are scaled evenly, centred on where they were, and pasted. A mask without these
    parts gets them in the place that they have on the donor.

    Args:
        mask, donor: labels of one image each, uint8  # [H, W]
        class_ids: the parts taken together, e.g. both lips and the mouth interior
        scale: size of the parts relative to the donor's (`size_ratio`); None: the released code's rule, which gives
            them 1.1 times the width that they have on `mask`, whatever that is on the donor
    Returns:
        the edited mask, uint8  # [H, W]
    Raises:
        UserError: the donor has none of the parts.
    """
    theirs = bounding_box(donor, class_ids)
    if theirs is None:
        raise UserError(f"the donor mask holds no pixel of the classes {list(class_ids)}; choose another donor")
    donor_top, donor_left, donor_bottom, donor_right = theirs
    ours = bounding_box(mask, class_ids)
    top, left, bottom, right = ours or theirs
    if scale is None:
        scale = MOUTH_ENLARGEMENT * (right - left) / (donor_right - donor_left) if ours else 1.0
    y, x = np.indices(mask.shape)  # pixel centres lie at +0.5
    source_y = np.floor((y + 0.5 - (top + bottom) / 2) / scale + (donor_top + donor_bottom) / 2).astype(int)  # [H, W]
    source_x = np.floor((x + 0.5 - (left + right) / 2) / scale + (donor_left + donor_right) / 2).astype(int)  # [H, W]
    inside = (source_y >= 0) & (source_y < donor.shape[0]) & (source_x >= 0) & (source_x < donor.shape[1])
    moved = donor[source_y.clip(0, donor.shape[0] - 1), source_x.clip(0, donor.shape[1] - 1)]  # [H, W]
    return np.where(inside & np.isin(moved, class_ids), moved, erase_parts(mask, class_ids))


def size_ratio(mask: np.ndarray, donor: np.ndarray, eyes: Sequence[int]) -> float | None:
    """How large the head of `mask` is in units of the donor's: the ratio of the distances between their eyes.

    A smile is wider than the closed mouth that it replaces, by half on the rendered heads: a donor's mouth must keep
    its size relative to the face, not to the mouth. None where a mask lacks an eye.
    """
    if not all((one == eye).any() for one in (mask, donor) for eye in eyes):
        return None
    distances = []
    for one in (mask, donor):
        left, right = (np.argwhere(one == eye).mean(axis=0) for eye in eyes)
        distances.append(float(np.linalg.norm(left - right)))
    return distances[0] / distances[1]


def bounding_box(mask: np.ndarray, class_ids: Sequence[int]) -> tuple[int, int, int, int] | None:
    """(top, left, bottom, right) of the pixels of these classes, the last two exclusive; None where there are none."""
    rows, columns = np.nonzero(np.isin(mask, class_ids))
    if rows.size == 0:
        return None
    return int(rows.min()), int(columns.min()), int(rows.max()) + 1, int(columns.max()) + 1
