"""Read one picture of a source and its mask: decode, check, resize to the run's resolution. Does not import torch.

Files are not trusted: a faulty file is reported with a reason, and reading continues with the next one.
"""

import hashlib
import io
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from editgan.data.archive import Classes, Made, encode_image, encode_mask
from editgan.data.duplicates import perceptual_hash
from editgan.data.sources.listing import Item, Unusable, read_file

VERSION = 1  # raise when the same files would give different archives
MAX_PIXELS = 64_000_000  # limit for one picture: 192 MB as bytes
PICTURE_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
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
    `attributes`. The pose is added to `attributes` if the mask shows it.
    """
    file, labels, mask_digest = item.file, None, hashlib.sha256()
    try:
        content = read_file(root, file)
        picture = open_picture(io.BytesIO(content))
        digest = hashlib.sha256(content)
        image = fit_picture(picture, resolution)
        for file, label in item.masks:
            content = read_file(root, file)
            mask_digest.update(content)
            side = item.mask_side
            part = read_labels(content, label, (side, side) if side else picture.size, len(classes.names))
            labels = part if labels is None else np.where(part > 0, part, labels)
    except Unusable as reason:
        return b"", b"", {"reason": str(reason) if file == item.file else f"its mask {file} {reason}"}
    record = {"digest": digest.hexdigest(), "mask_digest": mask_digest.hexdigest(), "hash": perceptual_hash(image)}
    record |= {"attributes": AT_REST | item.attributes, "pixels": [0] * len(classes.names)}
    if labels is None:
        return encode_image(image), b"", record
    mask = majority(labels, resolution)
    record["attributes"] |= pose(mask, classes.names) | item.attributes
    record["pixels"] = np.bincount(mask.ravel(), minlength=len(classes.names)).tolist()
    return encode_image(image), encode_mask(mask, classes.palette), record


def open_picture(file: str | Path | BinaryIO, formats: Sequence[str] = ("PNG", "JPEG")) -> Image.Image:
    """Decode a picture (of an animation the first) and apply its EXIF rotation. The size is checked before decoding.

    Raises:
        Unusable: unsupported format, damaged, or more than MAX_PIXELS.
    """
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(file, formats=formats) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                limit = f"the limit is {MAX_PIXELS // 1_000_000} million pixels"
                raise Unusable(f"is {picture.width}x{picture.height}; {limit}")
            return ImageOps.exif_transpose(picture)
    except (Unusable, FileNotFoundError):
        raise
    except Image.DecompressionBombError as error:
        raise Unusable(f"is too large ({error})") from None
    except Exception as error:  # decoding a damaged file may raise any exception
        detail = "" if isinstance(error, UnidentifiedImageError) else f" ({error})"  # which only names `file`
        raise Unusable(f"cannot be decoded as {' or '.join(formats)}{detail}") from None


def fit_picture(picture: Image.Image, resolution: int) -> np.ndarray:
    """RGB at `resolution`, downscaled with Pillow's anti-aliased Lanczos filter.  # uint8 [H, W, 3]

    Raises:
        Unusable: not square, smaller than `resolution`, more than 8 bits per channel, or transparent.
    """
    width, height = picture.size
    if width != height:
        raise Unusable(f"is {width}x{height}, not square; crop it first")
    if width < resolution:
        raise Unusable(f"is {width}x{height}, smaller than the resolution {resolution}")
    if picture.mode not in PICTURE_MODES:
        raise Unusable(f"has pixels of mode {picture.mode}; save it as 8-bit RGB")
    if picture.has_transparency_data and picture.convert("RGBA").getchannel("A").getextrema()[0] < 255:
        raise Unusable("has transparent pixels; put it on a background first")
    small = picture.convert("RGB").resize((resolution, resolution), Image.Resampling.LANCZOS)
    return np.array(small)


def read_labels(content: bytes, label: int | None, size: tuple[int, int] | None, classes: int) -> np.ndarray:
    """Labels of a mask. If `label` is given: that label where the mask is not black, 0 elsewhere.

    Args:
        size: required size; any size if None.
    Returns:
        uint8 [H, W]

    Raises:
        Unusable: damaged, wrong size, in colour, or with an unknown label.
    """
    picture = open_picture(io.BytesIO(content), ("PNG",))
    if size is not None and picture.size != size:
        raise Unusable(f"is {picture.width}x{picture.height}, expected {size[0]}x{size[1]}")
    if label is not None:
        return np.where(np.array(picture.convert("L")) > 0, label, 0).astype(np.uint8)
    if picture.mode not in ("P", "L"):
        raise Unusable(f"has pixels of mode {picture.mode}; save class numbers as an indexed or grey PNG")
    if picture.mode == "L" and content[24] < 8:  # bit depth from the header: Pillow spreads fewer greys over 0 to 255
        raise Unusable(f"has {content[24]}-bit grey levels; save class numbers with 8 bits")
    labels = np.array(picture)
    if labels.max() >= classes:
        raise Unusable(f"holds the unknown label {labels.max()}; valid labels are 0 to {classes - 1}")
    return labels


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
