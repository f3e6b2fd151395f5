"""Operations on part masks: edit region; transplant, move, scale, rotate, grow, bend, erase and open parts."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy.ndimage import binary_dilation, binary_erosion, distance_transform_edt
from torch import Tensor

from editgan.data.paste import dilate
from editgan.errors import UserError

EYES = ("left_eye", "right_eye")
SURROUNDINGS = ("background", "skin")  # excluded from the edited parts, unless nothing else was painted
DILATION_AT_512 = 5  # dilation of the edit region in pixels, at 512 px (EditGAN 3.2)
MOUTH_ENLARGEMENT = 1.1  # width of a transplanted mouth relative to the mouth it replaces (released code)


def is_part(masks: Tensor, class_ids: Sequence[int]) -> Tensor:
    """True where a mask [.., H, W] has one of the classes.  # bool [.., H, W]"""
    return torch.isin(masks, torch.tensor(list(class_ids), dtype=masks.dtype, device=masks.device))


def dilation_radius(size: int) -> int:
    """The paper's 5 pixels at 512 px, scaled to a side of `size` pixels, at least 1."""
    return max(1, round(DILATION_AT_512 * size / 512))


def edit_region(before: Tensor, after: Tensor, class_ids: Sequence[int]) -> Tensor:
    """r: pixels of the edited parts before or after the edit, dilated (EditGAN 3.2).  # bool [N, H, W]"""
    region = is_part(before, class_ids) | is_part(after, class_ids)
    return dilate(region, dilation_radius(before.shape[-1]))


def painted_parts(
    before: Tensor, after: Tensor, where: Tensor, class_names: Sequence[str]
) -> tuple[tuple[str, ...], ...]:
    """Q_edit of each image: the labels of pixels `where` before and after the edit, except skin and background.

    If only skin and background were painted, e.g. for the outline of a face, Q_edit is the skin.

    Args:
        before, after: labels  # [N, H, W]
        where: bool [N, H, W]
    """
    found = []
    for one, other, pixels in zip(before, after, where, strict=True):
        names = [class_names[label] for label in sorted({*one[pixels].tolist(), *other[pixels].tolist()})]
        parts = tuple(name for name in names if name not in SURROUNDINGS)
        found.append(parts or tuple(sorted(names, key=SURROUNDINGS.index)[-1:]))
    return tuple(found)


def erase_parts(mask: np.ndarray, class_ids: Sequence[int]) -> np.ndarray:
    """Replace the label of every pixel of these classes by the nearest other label.  # [H, W]

    Raises:
        UserError: the mask has no other label.
    """
    erased = np.isin(mask, class_ids)
    if erased.all():
        raise UserError(
            f"the mask has only the classes {list(class_ids)}, so none is left after erasing; give the mask of a head"
        )
    nearest = distance_transform_edt(erased, return_distances=False, return_indices=True)  # [2, H, W]
    return mask[tuple(nearest)]


def place_parts(
    mask: np.ndarray,
    donor: np.ndarray,
    class_ids: Sequence[int],
    *,
    start: tuple[float, float],
    end: tuple[float, float],
    scale: tuple[float, float] = (1.0, 1.0),
    degrees: float = 0.0,
    over: Sequence[int] | None = None,
    erase: bool = True,
) -> np.ndarray:
    """Erase parts of a mask and paste a donor's parts, which are scaled, then rotated, then moved.

    Args:
        mask, donor: labels of one image each; pass the same mask twice to move its own parts  # uint8 [H, W]
        start, end: the donor's point `start` is placed at the mask's point `end`, (x, y) in pixels
        scale: along the donor's x and y axes
        degrees: clockwise
        over: labels that the pasted parts may overwrite; None: any
        erase: whether to erase the mask's own parts first
    Returns:
        the edited mask  # uint8 [H, W]
    """
    y, x = np.indices(mask.shape) + 0.5  # pixel centres
    angle = math.radians(degrees)
    dx, dy = x - end[0], y - end[1]
    along, across = dx * math.cos(angle) + dy * math.sin(angle), dy * math.cos(angle) - dx * math.sin(angle)
    source_x = np.floor(along / scale[0] + start[0]).astype(int)  # [H, W]
    source_y = np.floor(across / scale[1] + start[1]).astype(int)  # [H, W]
    inside = (source_y >= 0) & (source_y < donor.shape[0]) & (source_x >= 0) & (source_x < donor.shape[1])
    moved = donor[source_y.clip(0, donor.shape[0] - 1), source_x.clip(0, donor.shape[1] - 1)]  # [H, W]
    put = inside & np.isin(moved, class_ids)
    if over is not None:
        put &= np.isin(mask, [*over, *class_ids])
    return np.where(put, moved, erase_parts(mask, class_ids) if erase else mask)


def transplant_parts(
    mask: np.ndarray,
    donor: np.ndarray,
    class_ids: Sequence[int],
    scale: float | None = None,
    over: Sequence[int] | None = None,
    anchors: tuple[tuple[float, float], tuple[float, float]] | None = None,
    erase: bool = True,
) -> np.ndarray:
    """Replace parts of a mask by those of a donor mask, as in the released code's smile target.

    The mask's parts are erased. The donor's parts are scaled uniformly, centred on the erased ones and pasted. If the
    mask has none of these parts, they keep the donor's position.

    Args:
        mask, donor: labels of one image each, uint8  # [H, W]
        class_ids: the parts, handled as one, e.g. both lips and the mouth interior
        scale: size of the parts relative to the donor's (`size_ratio`); None: the released code's rule, 1.1 times
            their width on `mask`, independent of their width on the donor
        over: labels that the pasted parts may overwrite; None: any
        anchors: points (x, y) of the mask and of the donor to align; None: the centres of the parts
        erase: whether to erase the mask's own parts first
    Returns:
        the edited mask, uint8  # [H, W]
    Raises:
        UserError: the donor has none of the parts.
    """
    theirs = bounding_box(donor, class_ids)
    if theirs is None:
        raise UserError(f"the donor mask has no pixel of the classes {list(class_ids)}; choose another donor")
    ours = bounding_box(mask, class_ids)
    if scale is None:
        scale = MOUTH_ENLARGEMENT * (ours[3] - ours[1]) / (theirs[3] - theirs[1]) if ours else 1.0
    end, start = anchors or (middle(ours or theirs), middle(theirs))
    return place_parts(mask, donor, class_ids, start=start, end=end, scale=(scale, scale), over=over, erase=erase)


def move_parts(
    mask: np.ndarray,
    class_ids: Sequence[int],
    *,
    by: tuple[float, float] = (0.0, 0.0),
    scale: tuple[float, float] = (1.0, 1.0),
    degrees: float = 0.0,
) -> np.ndarray:
    """Scale parts about the centre of their common bounding box, rotate them clockwise, move them by (x, y) pixels.

    The new sides are whole pixels, at least one, so that a part two pixels high does not vanish between two rows. A
    mask without the parts is returned unchanged.
    """
    box = bounding_box(mask, class_ids)
    if box is None:
        return mask.copy()
    start, end, factors = middle(box), [], []
    for low, high, factor, shift in ((box[1], box[3], scale[0], by[0]), (box[0], box[2], scale[1], by[1])):
        side = max(1, round((high - low) * factor))
        edge = math.floor((low + high - side) / 2 + 0.5)
        end.append(edge + side / 2 + shift)
        factors.append(side / (high - low))
    return place_parts(mask, mask, class_ids, start=start, end=tuple(end), scale=tuple(factors), degrees=degrees)


def grow_parts(
    mask: np.ndarray, class_ids: Sequence[int], pixels: tuple[int, int], over: Sequence[int] | None = None
) -> np.ndarray:
    """Dilate parts by `pixels` along x and y; each new pixel takes the label of the nearest pixel of the parts.

    Negative values erode the parts, and the nearest other label fills the gap. `over`: labels they may overwrite.
    """
    reach_x, reach_y = (abs(one) for one in pixels)
    element = np.ones((2 * reach_y + 1, 2 * reach_x + 1), bool)
    part = np.isin(mask, class_ids)
    if min(pixels) < 0:
        kept = binary_erosion(part, element, border_value=1)
        rest = np.where(part, 255, mask)  # no label
        filled = erase_parts(rest, [255]) if part.any() and not part.all() else mask
        return np.where(part & ~kept, filled, mask)
    grown = binary_dilation(part, element)
    if over is not None:
        grown &= np.isin(mask, over)
    if not part.any():
        return mask.copy()
    nearest = distance_transform_edt(~part, return_distances=False, return_indices=True)  # [2, H, W]
    return np.where(grown & ~part, mask[tuple(nearest)], mask)


def bend_parts(mask: np.ndarray, class_ids: Sequence[int], pixels: int) -> np.ndarray:
    """Raise the left and right ends of parts by `pixels`, and the columns between along a parabola.

    The middle column does not move. The nearest other label fills the pixels that the parts leave.
    """
    box = bounding_box(mask, class_ids)
    if box is None:
        return mask.copy()
    bent, (_, left, _, right) = erase_parts(mask, class_ids), box
    for column in range(left, right):
        off = (2 * column + 1 - left - right) / max(right - left - 1, 1)  # -1 at the left end, 1 at the right one
        rows = np.flatnonzero(np.isin(mask[:, column], class_ids))
        raised = rows - round(pixels * off**2)
        inside = (raised >= 0) & (raised < len(mask))
        bent[raised[inside], column] = mask[rows[inside], column]
    return bent


def open_parts(mask: np.ndarray, upper: int, lower: int, inside: int, pixels: int) -> np.ndarray:
    """Move `lower` down by `pixels` and fill the gap between it and `upper` with `inside`, column by column."""
    if bounding_box(mask, [lower]) is None or bounding_box(mask, [upper]) is None:
        return mask.copy()
    opened = move_parts(mask, [lower], by=(0, pixels))
    for column in range(mask.shape[1]):
        above, below = np.flatnonzero(mask[:, column] == upper), np.flatnonzero(opened[:, column] == lower)
        if above.size and below.size:
            between = slice(above.max() + 1, below.min())
            opened[between, column] = inside
    return opened


def middle(box: tuple[int, int, int, int]) -> tuple[float, float]:
    """(x, y) of the centre of a `bounding_box`."""
    top, left, bottom, right = box
    return (left + right) / 2, (top + bottom) / 2


def eye_centres(mask: np.ndarray, eyes: Sequence[int]) -> np.ndarray | None:
    """(x, y) of the centre of each eye in pixels; None if the mask lacks an eye.  # [2, 2]"""
    places = [np.argwhere(mask == eye) for eye in eyes]
    return np.stack([place.mean(axis=0)[::-1] + 0.5 for place in places]) if all(map(len, places)) else None


def size_ratio(mask: np.ndarray, donor: np.ndarray, eyes: Sequence[int]) -> float | None:
    """Size of the head in `mask` relative to the donor's: the ratio of their eye distances.

    A smile is wider than the closed mouth it replaces (by half on the rendered heads), so a donor's mouth must keep
    its size relative to the face, not to the old mouth. None if a mask lacks an eye.
    """
    ours, theirs = eye_centres(mask, eyes), eye_centres(donor, eyes)
    if ours is None or theirs is None:
        return None
    return float(np.linalg.norm(ours[0] - ours[1]) / np.linalg.norm(theirs[0] - theirs[1]))


def bounding_box(mask: np.ndarray, class_ids: Sequence[int]) -> tuple[int, int, int, int] | None:
    """(top, left, bottom, right) of the pixels of these classes, the last two exclusive; None if there are none."""
    rows, columns = np.nonzero(np.isin(mask, class_ids))
    if rows.size == 0:
        return None
    return int(rows.min()), int(columns.min()), int(rows.max()) + 1, int(columns.max()) + 1
