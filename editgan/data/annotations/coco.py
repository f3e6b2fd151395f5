"""COCO: one JSON with images, categories and annotations, whose segmentation is polygons or run lengths (RLE).

COCO's polygons cannot have holes: a ring inside another one of the same annotation is filled, and named.
"""

from functools import partial

import numpy as np

from editgan.data.annotations.parts import Annotation, Part, drawn, polygon, size_of
from editgan.data.tables import file_name
from editgan.errors import UserError


def is_coco(content) -> bool:
    return isinstance(content, dict) and all(isinstance(content.get(key), list) for key in ("images", "annotations"))


def annotations(content: dict, file: str) -> tuple[list[Annotation], list[str]]:
    """The labels of each picture of a COCO file, and the names of its categories in their order.

    Raises:
        UserError: categories, images or annotations do not have COCO's fields.
    """
    try:
        names = {one["id"]: str(one["name"]) for one in content.get("categories") or ()}
        labels: dict = {image["id"]: [] for image in content["images"]}
        for kind, ids in (("categories", names), ("images", labels)):
            if len(ids) < len(content.get(kind) or ()):
                raise UserError(f"several {kind} have one id, so it is unknown which one an annotation means")
        for label in content["annotations"]:
            if label["image_id"] not in labels:
                raise UserError(f"annotation {label.get('id')} is of image {label['image_id']}, which is not listed")
            labels[label["image_id"]].append(label)
        found = []
        for image in content["images"]:
            size, notes = size_of(image.get("width"), image.get("height")), []
            read = partial(parts, labels[image["id"]], names, size, notes)
            picture = file_name(str(image["file_name"]))
            found.append(Annotation(f"{file}, {picture}", [picture], size, read, notes=notes))
    except (KeyError, TypeError) as error:
        raise UserError(f"an entry has no {error}: it is not COCO's object detection format") from None
    return found, list(names.values())


def parts(labels: list[dict], names: dict, size: tuple[int, int], notes: list[str]) -> list[Part]:
    """The parts of one picture. Raises ValueError, which says what is wrong with one."""
    found = []
    for label in labels:
        name, shape = f"category {label.get('category_id')}", label.get("segmentation")
        try:
            name = names.get(label.get("category_id"), name)
            if isinstance(shape, dict):
                height, width = shape.get("size") or (0, 0)
                if (width, height) != size:
                    raise ValueError(f"its run lengths are of {width}x{height} pixels, not {size[0]}x{size[1]}")
                found.append(Part(name, pixels=run_lengths(shape)))
            elif isinstance(shape, list) and shape:
                rings = [polygon(np.reshape(np.asarray(ring, np.float64), (-1, 2))) for ring in shape]
                found.append(Part(name, rings))
                if holes(rings, size):
                    notes.append(f"{name} has a ring inside another one, which COCO does not mean as a hole: filled")
            else:
                raise ValueError("has no segmentation, only a box")
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"annotation {label.get('id')} ({name}): {error}") from None
    return found


def holes(rings: list[np.ndarray], size: tuple[int, int]) -> bool:
    """Whether a ring lies within another one."""
    areas = [drawn([Part("part", [ring])], ["background", "part"], size) > 0 for ring in rings]
    return any(
        first is not second and second.any() and first.sum() > second.sum() and (first | ~second).all()
        for first in areas
        for second in areas
    )


def run_lengths(rle: dict) -> np.ndarray:
    """Pixels of COCO's run lengths, plain or compressed: columns from left to right, beginning with zeros.

    Returns:
        bool [H, W]
    Raises:
        ValueError: the runs do not add up to the size.
    """
    height, width = rle.get("size") or (0, 0)
    size_of(width, height)
    counts = rle.get("counts")
    runs = uncompressed(counts) if isinstance(counts, str) else [int(count) for count in counts or ()]
    if sum(runs) != height * width or min(runs) < 0:
        raise ValueError(f"its run lengths do not add up to {width}x{height} pixels")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(width, height).T


def uncompressed(text: str) -> list[int]:
    """The run lengths of COCO's compressed form: 5 bits a character from `0` on; from the third on, differences."""
    runs: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64:
            raise ValueError(f"its run lengths contain {character!r}")
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:
            value -= (1 << shift) if code & 16 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs
