"""What an edit is asked to do: edited masks, or vectors at their strengths; checked."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from editgan.data.paste import dilate
from editgan.editing.masks import dilation_radius, edit_region, painted_parts
from editgan.editing.vectors import EditingVector
from editgan.editor.origin import Origin
from editgan.errors import UserError
from editgan.segmentation.ensemble import SegmentationEnsemble


@dataclass(frozen=True)
class Painted:
    """Edited masks, checked, and where they apply."""

    masks: Tensor  # labels, uint8 [N, H, W]
    region: Tensor  # bool [N, H, W]
    parts: tuple[tuple[str, ...], ...]  # Q_edit: the painted parts of each image


def painted(before: Tensor, masks: Tensor, roi: Tensor | None, S: SegmentationEnsemble) -> Painted:
    """Compare edited masks with the predicted ones.

    Args:
        before: predicted masks, uint8 [N, H, W]
        masks: edited masks, labels  # [H, W] or [N, H, W]
        roi: bool region where the masks apply, same shape; None: changed pixels and their `painted_parts`
    Raises:
        UserError: masks of another size, with unknown labels, or without any change.
    """
    after, names = torch.as_tensor(masks).cpu(), S.class_names
    after = after[None] if after.ndim == 2 else after
    if after.shape != before.shape:
        raise UserError(f"the edited masks have shape {list(after.shape)}, expected {list(before.shape)}")
    if int(after.max()) >= len(names) or int(after.min()) < 0:
        wrong = int(after.max()) if int(after.min()) >= 0 else int(after.min())
        raise UserError(f"the edited masks have the label {wrong}; there are {len(names)}, from 0 on")
    after = after.to(torch.uint8)
    if roi is not None:
        region = (roi[None] if roi.ndim == 2 else roi).bool().cpu()
        if region.shape != before.shape:
            raise UserError(f"the region has shape {list(region.shape)}, expected {list(before.shape)}")
        if not region.any():
            raise UserError("the region is empty; mark the pixels where the edited masks apply")
        return Painted(after, region, painted_parts(before, after, region, names))
    changed = before != after
    if not changed.any():
        raise UserError("the edited masks equal the predicted masks; paint a change, or give a region")
    parts = painted_parts(before, after, changed, names)
    region = around(before, after, parts, S) | dilate(changed, dilation_radius(after.shape[-1]))
    return Painted(after, region & changed.flatten(1).any(1)[:, None, None], parts)  # empty for an unchanged mask


def around(before: Tensor, after: Tensor, parts: tuple[tuple[str, ...], ...], S: SegmentationEnsemble) -> Tensor:
    """`edit_region` of each image for its parts.  # bool [N, H, W]"""
    rows = zip(before.split(1), after.split(1), map(S.class_ids, parts), strict=True)
    return torch.cat([edit_region(*row) for row in rows])


def requested(
    vectors: Mapping[str, EditingVector], edits: Mapping[str, float | None], origin: Origin | None = None
) -> tuple[list[EditingVector], list[float]]:
    """The vectors of these names and their strengths; None is the vector's default strength.

    Raises:
        UserError: an unknown vector, no vector, one of another generator than `origin`, or an invalid strength.
    """
    if not edits:
        raise UserError(f"give at least one edit; available: {', '.join(vectors) or 'none'}")
    for name, given in edits.items():
        if name not in vectors:
            raise UserError(f"unknown edit {name!r}; available: {', '.join(vectors) or 'none'}")
        if given is not None and not _finite(given):
            raise UserError(f"the strength of {name} is {given!r}; give a finite number")
        if origin is not None:
            origin.check(vectors[name].file, vectors[name].generator)
    return [vectors[name] for name in edits], [
        vectors[name].scale if given is None else given for name, given in edits.items()
    ]


def _finite(value: object) -> bool:
    try:
        return math.isfinite(value)  # also a scalar of NumPy or torch
    except (TypeError, OverflowError):
        return False


def check_counts(**values: float) -> None:
    """Raises UserError: a value is negative, infinite or NaN."""
    for name, value in values.items():
        if not 0 <= value < math.inf:
            raise UserError(f"{name} is {value}; give a finite number >= 0")
