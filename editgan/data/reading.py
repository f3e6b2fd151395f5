"""Read one picture of a source and its mask: decode, check, resize to the run's resolution. Does not import torch.

Files are not trusted: a faulty file is reported with a reason, and reading continues with the next one.
"""

import hashlib
import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from editgan.data.archive import Classes, Made, encode_image, encode_mask
from editgan.data.duplicates import perceptual_hash
from editgan.data.sources.listing import Item, read_file
from editgan.decoding import decode_picture, open_picture
from editgan.errors import Unusable
from editgan.labels import Mask, decode_mask, scaled_mask

VERSION = 5  # raise when the same files would give different archives
# Attributes assumed for a picture without labels: neutral, frontal.
AT_REST = {
    **dict.fromkeys(("smile", "mouth_open", "frown", "blink", "yaw", "pitch", "roll"), 0.0),
    "beard": "none",
    "glasses": "none",
}
NOSE_SHIFT = 0.17  # nose tip from the middle of the eyes, in eye distances, over tan(yaw): fitted to rendered heads


def read_one(item: Item, *, root: Path, resolution: int, classes: Classes) -> Made:
    """Picture and mask of an item at `resolution`; if it is rejected, empty with the record {"reason"}.

    The record: `digest` of the picture, its perceptual `hash`, `mask_digest` of its masks, `pixels` of each class, and
    `attributes`. The pose is added to `attributes` if the mask shows it. `notes`: remarks on how the files were read.
    """
    file, labels, mask_digest = item.file, None, hashlib.sha256()
    try:
        content = read_file(root, file)
        picture = decode_picture(io.BytesIO(content))
        digest, notes = hashlib.sha256(content), [*picture.notes]
        image = fit_picture(picture.seen(), resolution)
        for file, label in item.masks:
            content = read_file(root, file)
            mask_digest.update(content)
            side = item.mask_side or len(picture.pixels)
            remarks: list[str] = []
            options = dict(palette=classes.palette, notes=remarks, ignore=True)
            part = read_labels(content, label, (side, side), len(classes.names), **options)
            notes += [f"its mask {remark}" for remark in remarks]
            labels = part if labels is None else np.where(part > 0, part, labels)
    except Unusable as reason:
        return b"", b"", {"reason": str(reason) if file == item.file else f"its mask {file} {reason}"}
    record = {"digest": digest.hexdigest(), "mask_digest": mask_digest.hexdigest(), "hash": perceptual_hash(image)}
    record |= {"attributes": AT_REST | item.attributes, "pixels": [0] * len(classes.names)}
    record |= {"notes": notes} if notes else {}
    if labels is None:
        return encode_image(image), b"", record
    mask = majority(labels, resolution)
    record["attributes"] |= pose(mask, classes.names) | item.attributes
    record["pixels"] = np.bincount(mask.ravel(), minlength=len(classes.names))[: len(classes.names)].tolist()
    return encode_image(image), encode_mask(mask, classes.palette), record


def fit_picture(picture: np.ndarray, resolution: int) -> np.ndarray:
    """A picture [H, W, 3] at `resolution`, downscaled with Pillow's anti-aliased Lanczos filter.  # uint8 [H, W, 3]

    Raises:
        Unusable: not square, or smaller than `resolution`.
    """
    height, width = picture.shape[:2]
    if width != height:
        raise Unusable(f"is {width}x{height}, not square; crop it first")
    if width < resolution:
        raise Unusable(f"is {width}x{height}, smaller than the resolution {resolution}")
    return np.array(Image.fromarray(picture).resize((resolution, resolution), Image.Resampling.LANCZOS))


def read_labels(
    content: bytes,
    label: int | None,
    size: tuple[int, int] | None,
    classes: int,
    palette: np.ndarray | None = None,
    notes: list[str] | None = None,
    *,
    ignore: bool = False,
) -> np.ndarray:
    """Labels of a mask (`decode_mask`). If `label` is given: that label where the mask is not black, 0 elsewhere.

    Args:
        size: width and height to which it is scaled; its own if None
        palette: colours of the classes, uint8 [K, 3]; None: pixel values only
        notes: gets remarks on how the mask was read
        ignore: keep 255, which means "no label"
    Returns:
        uint8 [H, W]

    Raises:
        Unusable: damaged, of another aspect ratio, or with an unknown label or colour.
    """
    if label is None:
        mask = decode_mask(io.BytesIO(content), classes, palette, ignore=ignore)
    else:
        painted = np.array(open_picture(io.BytesIO(content)).convert("L")) > 0
        mask = Mask(np.where(painted, label, 0).astype(np.uint8))
    mask = mask if size is None else scaled_mask(mask, *size)
    if notes is not None:
        notes += mask.notes
    return mask.labels


def majority(labels: np.ndarray, resolution: int) -> np.ndarray:
    """Each pixel gets the label that covers most of it, on ties the lowest.  # uint8 [resolution, resolution]"""
    result = np.zeros((resolution, resolution), np.uint8)
    most = np.zeros((resolution, resolution), np.float32)
    for label in np.unique(labels):
        whole = Image.fromarray((labels == label).astype(np.float32))
        share = np.asarray(whole.resize((resolution, resolution), Image.Resampling.BOX))
        more = share > most + 1e-5
        result[more], most[more] = label, share[more]
    return result


def pose(mask: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """Approximate yaw and roll in radians from the eyes and nose of a mask [H, W]; {} if it lacks such classes.

    A head with a hidden eye or nose counts as turned away (pitch), so edits are learned from other heads first.
    """
    parts = ("left_eye", "right_eye", "nose")
    if not set(parts) <= set(names):
        return {}
    places = [np.argwhere(mask == names.index(part)) for part in parts]
    if not all(map(len, places)):
        return {"pitch": math.pi / 2}
    first, second, nose = (place.mean(axis=0)[::-1] for place in places)  # x, y
    left, right = sorted((first, second), key=lambda point: point[0])  # in the picture
    axis = right - left
    length = max(float(np.hypot(*axis)), 1e-6)
    shift = float((nose - (left + right) / 2) @ axis) / length**2
    return {"yaw": math.atan(shift / NOSE_SHIFT), "roll": math.atan2(axis[1], axis[0])}
