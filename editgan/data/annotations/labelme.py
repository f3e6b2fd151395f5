"""LabelMe: one JSON beside each picture: shapes (label, points, shape_type), path, size and data of the picture.

Polygons, rectangles, circles and masks are areas. Points and lines are not, and are refused by name.
"""

import base64
import binascii
import io
import posixpath
from pathlib import PurePosixPath

import numpy as np

from editgan.data.annotations.parts import Annotation, Part, circle, polygon, rectangle, size_of
from editgan.data.tables import file_name
from editgan.decoding import open_picture
from editgan.errors import Unusable, UserError

POLYGONS = ("polygon", "oriented_rectangle", "rotation", "quadrilateral")  # the others by newer or related programs


def is_labelme(content) -> bool:
    return isinstance(content, dict) and isinstance(content.get("shapes"), list)


def annotation(content: dict, file: str) -> Annotation:
    """The labels of a LabelMe file.

    Raises:
        UserError: it does not say the size of its picture.
    """
    size = size_of(content.get("imageWidth"), content.get("imageHeight"))
    named = content.get("imagePath")
    named = file_name(named) if isinstance(named, str) else ""
    stem, ending = PurePosixPath(file).with_suffix(""), PurePosixPath(named).suffix
    beside = [f"{stem}{ending}"] if ending else [f"{stem}.png", f"{stem}.jpg", f"{stem}.jpeg"]
    above = PurePosixPath(file).parent
    given = [posixpath.normpath(above / named), (above / PurePosixPath(named).name).as_posix()] if named else []
    data = content.get("imageData")
    try:
        picture = base64.b64decode(data, validate=False) if isinstance(data, str) and data else None
    except (binascii.Error, ValueError):
        raise UserError("imageData is not base64") from None
    return Annotation(
        file, [*beside, *given], size, lambda: [part(shape, size) for shape in content["shapes"]], picture
    )


def part(shape, size: tuple[int, int]) -> Part:
    """One shape. Raises ValueError, which says what is wrong with it."""
    if not isinstance(shape, dict) or not isinstance(shape.get("label"), str) or not shape["label"].strip():
        raise ValueError("a shape has no label")
    label, kind, points = shape["label"], shape.get("shape_type") or "polygon", shape.get("points")
    try:
        if kind in POLYGONS:
            return Part(label, [polygon(points)])
        if kind == "rectangle":
            return Part(label, [rectangle(*points[:2] if len(points) == 2 else (points[0], points[2]))])
        if kind == "circle":
            return Part(label, [circle(*points)])
        if kind == "mask":
            return Part(label, pixels=mask_pixels(shape.get("mask"), points[0], size))
    except (TypeError, IndexError, AttributeError, OverflowError):
        raise ValueError(f"the {kind} of {label!r} does not have the points of one") from None
    except ValueError as error:
        raise ValueError(f"{label!r}: {error}") from None
    raise ValueError(f"{label!r} is a {kind}, which has no area; draw a polygon")


def mask_pixels(encoded, corner, size: tuple[int, int]) -> np.ndarray:
    """The pixels of a shape of type mask: a PNG as base64, whose upper left pixel lies at `corner`.  # bool [H, W]"""
    try:
        inner = np.array(open_picture(io.BytesIO(base64.b64decode(encoded)), ("PNG",)).convert("L")) > 0
    except (Unusable, binascii.Error) as error:
        raise ValueError(f"its mask cannot be read ({error})") from None
    left, top = (round(value) for value in corner)
    whole = np.zeros(size[::-1], bool)
    place = whole[max(top, 0) : top + inner.shape[0], max(left, 0) : left + inner.shape[1]]
    place[:] = inner[max(-top, 0) :, max(-left, 0) :][: place.shape[0], : place.shape[1]]
    return whole
