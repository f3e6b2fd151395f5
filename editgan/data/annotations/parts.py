"""Labelled parts of one picture, as polygons or pixels, and how they become a mask."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw

from editgan.data.tables import nfc
from editgan.errors import UserError
from editgan.labels import IGNORE

MAX_COORDINATE = 1e6  # pixels; larger ones are no places in a picture
BACKGROUND = ("background", "_background_")  # names of class 0
UNLABELLED = "__ignore__"  # LabelMe's name for what has no label; it covers everything else


@dataclass(frozen=True)
class Part:
    """What one label covers: polygons [P, 2] in pixels (x to the right, y down), or pixels, bool [H, W]."""

    label: str
    polygons: Sequence[np.ndarray] = ()
    pixels: np.ndarray | None = None


@dataclass(frozen=True)
class Annotation:
    """The labels of one picture.

    `pictures` are the paths under which the picture may be found, the best first; `size` is width and height; `read`
    gives the parts and raises ValueError, which says what is wrong with them; `content` is the picture itself, if the
    file holds it.
    """

    file: str
    pictures: Sequence[str]
    size: tuple[int, int]
    read: Callable[[], list[Part]]
    content: bytes | None = None
    notes: list[str] = field(default_factory=list)


def label_key(name: str) -> str:
    """A label as it is compared: without outer blanks, letter case and Unicode form; blanks and `-` count as `_`."""
    return nfc(name).strip().casefold().replace(" ", "_").replace("-", "_")


def polygon(points) -> np.ndarray:
    """Points [[x, y], ...] of a file as an array. Raises ValueError: fewer than three, or no finite numbers."""
    try:
        found = np.asarray(points, np.float64)
    except (TypeError, ValueError):
        raise ValueError("a polygon does not consist of points [x, y]") from None
    if found.ndim != 2 or found.shape[1:] != (2,) or len(found) < 3:
        raise ValueError(f"a polygon has the shape {list(found.shape)}; expected at least 3 points [x, y]")
    if not np.isfinite(found).all() or np.abs(found).max() > MAX_COORDINATE:
        raise ValueError("a polygon has coordinates outside of any picture")
    return found


def rectangle(first, second) -> np.ndarray:
    """A rectangle from two opposite corners, as a polygon."""
    (left, top), (right, bottom) = first, second
    return polygon([[left, top], [right, top], [right, bottom], [left, bottom]])


def circle(centre, edge) -> np.ndarray:
    """A circle from its centre and a point on it, as a polygon of 64 corners."""
    (x, y), radius = centre, math.dist(centre, edge)
    turns = [2 * math.pi * step / 64 for step in range(64)]
    return polygon([[x + radius * math.cos(turn), y + radius * math.sin(turn)] for turn in turns])


def drawn(parts: Sequence[Part], names: Sequence[str], size: tuple[int, int]) -> np.ndarray:
    """Class numbers, uint8 [H, W], 255 for no label. Parts are drawn in the order of the classes: later ones cover.

    Raises:
        ValueError: an unknown label, or pixels of another size.
    """
    numbers = (
        {label_key(name): number for number, name in enumerate(names)}
        | dict.fromkeys(BACKGROUND, 0)
        | {UNLABELLED: IGNORE}
    )
    unknown: dict[str, int] = {}
    for part in parts:
        if label_key(part.label) not in numbers:
            unknown[part.label] = unknown.get(part.label, 0) + 1
    if unknown:
        listed = ", ".join(f"{label!r} ({count})" for label, count in sorted(unknown.items()))
        raise ValueError(f"has labels that classes.json does not name: {listed}")
    picture = Image.new("L", size, 0)
    pen = ImageDraw.Draw(picture)
    for part in sorted(parts, key=lambda part: numbers[label_key(part.label)]):
        number = numbers[label_key(part.label)]
        for corners in part.polygons:
            pen.polygon([tuple(point) for point in corners.tolist()], fill=number, outline=number)
        if part.pixels is not None:
            if part.pixels.shape != size[::-1]:
                raise ValueError(f"a mask is {part.pixels.shape[1]}x{part.pixels.shape[0]}, not {size[0]}x{size[1]}")
            picture.paste(number, mask=Image.fromarray(part.pixels.astype(np.uint8) * 255))
    return np.array(picture)


def size_of(width, height) -> tuple[int, int]:
    """Width and height of a file. Raises UserError: not two positive whole numbers."""
    if not (isinstance(width, int) and isinstance(height, int) and 0 < width <= 2**16 and 0 < height <= 2**16):
        raise UserError(f"width {width!r} and height {height!r} are not those of a picture")
    return width, height
