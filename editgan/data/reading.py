"""One picture of a source with its mask: decoded, checked, brought to the run's resolution. Imports no torch.

The files are not trusted: whatever is wrong with one is told as a reason, and the next one is read.
"""

from __future__ import annotations

import hashlib
import io
import math
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from editgan.data.archive import Classes, encode_image, encode_mask
from editgan.data.sources.listing import Item, refusal

VERSION = 1  # raised when the same files would give other archives
MAX_PIXELS = 2**26  # of one picture: 8192 x 8192
PICTURE_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
# What is taken of a picture of which nothing else is known: at rest, seen from the front.
AT_REST = {
    **dict.fromkeys(("smile", "mouth_open", "frown", "blink", "yaw", "pitch", "roll"), 0.0),
    "beard": "none",
    "glasses": "none",
}
NOSE_SHIFT = 0.17  # of the nose off the middle of the eyes, in eye distances, over tan(yaw): fitted to rendered heads

Read = tuple[bytes, bytes, dict]  # picture, mask (empty without one), what is known; or empty, empty, {"reason"}


class Unusable(Exception):
    """Why a file is rejected."""


def read_one(item: Item, *, root: Path, resolution: int, classes: Classes) -> Read:
    """Picture and mask of an item as PNG bytes at `resolution`; or the reason why not.

    What is known: `digest` of the picture, `mask_digest` of its masks, `pixels` of each class, and `attributes`, to
    which the pose is added where the mask shows it.
    """
    file = item.file
    try:
        content = _content(root, file)
        picture = open_picture(content)
        digest, mask_digest = hashlib.sha256(content), hashlib.sha256()
        image = fit_picture(picture, resolution)
        attributes, labels = AT_REST | item.attributes, None
        for file, label in item.masks:
            content = _content(root, file)
            mask_digest.update(content)
            side = item.mask_side
            part = read_labels(content, label, (side, side) if side else picture.size, len(classes.names))
            labels = part if labels is None else np.where(part > 0, part, labels)
    except Unusable as reason:
        return b"", b"", {"reason": str(reason) if file == item.file else f"its mask {file} {reason}"}
    record = {"digest": digest.hexdigest(), "mask_digest": mask_digest.hexdigest()}
    if labels is None:
        return encode_image(image), b"", record | {"attributes": attributes, "pixels": [0] * len(classes.names)}
    mask = majority(labels, resolution)
    attributes |= pose(mask, classes.names) | item.attributes
    pixels = np.bincount(mask.ravel(), minlength=len(classes.names)).tolist()
    return (
        encode_image(image),
        encode_mask(mask, classes.palette),
        record | {"attributes": attributes, "pixels": pixels},
    )


def _content(root: Path, file: str) -> bytes:
    reason = refusal(root, file)
    if reason is not None:
        raise Unusable(reason)
    try:
        return (root / file).read_bytes()
    except OSError as error:
        raise Unusable(f"cannot be read ({error.strerror})") from None


def open_picture(content: bytes, formats: Sequence[str] = ("PNG", "JPEG")) -> Image.Image:
    """Decode a picture, turned upright as its EXIF data say; its size is checked before anything is decoded.

    Raises:
        Unusable: another format, damaged, or more than MAX_PIXELS.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged EXIF data, which turn nothing
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(content), formats=formats)
            if picture.width * picture.height > MAX_PIXELS:
                raise Unusable(f"is {picture.width}x{picture.height}; at most {MAX_PIXELS // 2**20} Mi pixels are read")
            picture.load()
            return ImageOps.exif_transpose(picture)
    except Unusable:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise Unusable(f"is too large ({error})") from None
    except Exception as error:  # a decoder may raise anything on a damaged file
        raise Unusable(f"cannot be decoded as {' or '.join(formats)} ({error})") from None


def fit_picture(picture: Image.Image, resolution: int) -> np.ndarray:
    """RGB at `resolution`, shrunk with Lanczos, which Pillow widens to filter what would alias.  # uint8 [H, W, 3]

    Raises:
        Unusable: not square, smaller than `resolution`, more than 8 bits a channel, or transparent.
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
    """Labels of a mask, of any size where `size` is None; with `label`, that where it is not black and 0 elsewhere.

    Returns:
        uint8 [H, W]

    Raises:
        Unusable: damaged, not of `size`, in colour, or with a label of no class.
    """
    picture = open_picture(content, ("PNG",))
    if size is not None and picture.size != size:
        raise Unusable(f"is {picture.width}x{picture.height}, expected {size[0]}x{size[1]}")
    if label is not None:
        return np.where(np.array(picture.convert("L")) > 0, label, 0).astype(np.uint8)
    if picture.mode not in ("P", "L"):
        raise Unusable(f"has pixels of mode {picture.mode}; save class numbers as an indexed or grey PNG")
    if picture.mode == "L" and content[24] < 8:  # bit depth in the header: its few greys were spread over 0 to 255
        raise Unusable(f"has greys of {content[24]} bits; save class numbers with 8")
    labels = np.array(picture)
    if labels.max() >= classes:
        raise Unusable(f"holds the unknown label {labels.max()}; the classes are numbered 0 to {classes - 1}")
    return labels


def majority(labels: np.ndarray, resolution: int) -> np.ndarray:
    """Each pixel gets the label that covers most of it, of equals the lowest.  # uint8 [resolution, resolution]"""
    result = np.zeros((resolution, resolution), np.uint8)
    most = np.zeros((resolution, resolution), np.float32)
    for label in np.unique(labels):
        whole = Image.fromarray((labels == label).astype(np.float32))
        share = np.asarray(whole.resize((resolution, resolution), Image.Resampling.BOX))
        more = share > most + 1e-5
        result[more], most[more] = label, share[more]
    return result


def pose(mask: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """Yaw and roll in radians, roughly, from where eyes and nose lie on a mask [H, W]; {} without such classes.

    A head that hides an eye or its nose counts as turned away (pitch), so that edits are learned from others first.
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
