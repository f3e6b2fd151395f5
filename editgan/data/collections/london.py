"""The Face Research Lab London Set (DeBruine & Jones 2017, CC BY 4.0): neutral and smiling people, outlined by hand.

The folders `neutral_front` and `smiling_front` (or `neutral` and `smiling`) hold NNN_03.jpg (or NNN.jpg) together with
NNN_03.csv (point, x, y) or NNN_03.tem (WebMorph's template). For CSVs, `curves.csv` (curve, closed, points) lists the
points of each curve. Hair and clothes are not outlined and count as background. Side views are not used.
"""

import io
import math
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from editgan.data.archive import Classes
from editgan.data.collections.files import Files, Found
from editgan.data.sources.listing import Listing, Rejected
from editgan.data.tables import decoded, number, read_table

SIDE_VIEW = re.compile(r"(?:.*/)?(?:neutral|smiling)_[^/]*/[^/]*\.(?:jpg|png)", re.IGNORECASE)
PHOTO = re.compile(r"(?:.*/)?((neutral|smiling)(?:_front)?)/((\d{3})[^/]*)\.(?:jpg|png)", re.IGNORECASE)
# Curves of the set's template by part, as (curve, backwards), joined to an outline. Left and right are the person's:
# the right eye is on the left of the picture.
OUTLINES: dict[str, list[list[tuple[int, bool]]]] = {
    "neck": [[(38, False), (40, False), (39, True), (42, True)]],
    "skin": [[(28, False), (43, True), (42, True), (41, True)]],
    "right_ear": [[(24, False), (26, True)]],
    "left_ear": [[(25, False), (27, True)]],
    "right_brow": [[(16, False), (18, True)]],
    "left_brow": [[(17, False), (19, True)]],
    "right_eye": [[(4, False), (6, True)]],
    "left_eye": [[(5, False), (7, True)]],
    "nose": [[(12, False), (13, True)], [(14, False), (15, True)]],
    "upper_lip": [[(20, False), (21, True)]],
    "lower_lip": [[(22, False), (23, True)]],
    "mouth_interior": [[(21, False), (22, True)]],
}
COLOURS = [(0, 0, 0), (255, 153, 51), (204, 0, 0), (255, 0, 0), (102, 51, 0), (255, 204, 204), (0, 255, 255),
           (204, 0, 204), (51, 51, 255), (76, 153, 0), (255, 255, 0), (0, 0, 153), (102, 204, 0)]  # fmt: skip
OVERSAMPLING = 4  # outlines are drawn at this multiple of the size
CLASSES = Classes(names=["background", *OUTLINES], palette=np.array(COLOURS, np.uint8))


def list_photos(files: Files, labels: Path | None) -> Listing:
    """Photos with smile 0 or 1, and masks where outlines exist; `neutral` of a smiling photo names the neutral one."""
    names, found, used = {name.lower(): name for name in files.names}, [], set()
    curves = next((name for name in files.names if name.lower().rpartition("/")[2] == "curves.csv"), None)
    photos = [match for name in files.names if (match := PHOTO.fullmatch(name))]
    neutral = {match[4]: match[0] for match in photos if match[2].lower() == "neutral"}
    for match in photos:
        name, smiling, person = match[0], match[2].lower() == "smiling", match[4]
        stem = name.rpartition(".")[0].lower()
        template = next((names[stem + ending] for ending in (".tem", ".csv") if stem + ending in names), None)
        used.update({name, template})
        outlined = template is not None and (template.lower().endswith(".tem") or curves is not None)
        drawn = partial(draw, files, name, template, curves) if outlined else None
        attributes = {"smile": float(smiling)}
        if smiling and person in neutral:
            attributes["neutral"] = neutral[person]
        found.append(Found(name, f"london {person}", attributes, drawn))
    rest = [name for name in files.names if name not in used and name != curves]
    reasons = {True: "shows the face from the side", False: "is neither a photo nor an outline of one"}
    return Listing(found, [Rejected(name, reasons[bool(SIDE_VIEW.fullmatch(name))]) for name in rest], CLASSES)


def draw(files: Files, photo: str, template: str, curves: str | None) -> np.ndarray:
    """The part mask of a photo, uint8 [H, W].

    Raises:
        ValueError: the outlines do not have the published format.
    """
    with Image.open(io.BytesIO(files.read(photo))) as picture:
        size = picture.size
    if template.lower().endswith(".tem"):
        points, lines = read_template(decoded(files.read(template), template))
    else:
        points = read_points(files.read(template), template)
        table = read_table(files.read(curves), curves, ["points"])
        lines = [[int(index) for index in row["points"].split()] for _, row in table.rows]
    return draw_parts(outlines(points, lines), size)


def outlines(points: np.ndarray, lines: list[list[int]]) -> dict[int, list[np.ndarray]]:
    """Closed outlines [P, 2] by class number."""
    needed = 1 + max(curve for parts in OUTLINES.values() for part in parts for curve, _ in part)
    if len(lines) < needed or max(map(max, lines)) >= len(points):
        raise ValueError(f"{len(points)} points and {len(lines)} curves do not match the outlines of the London set")
    curve = [smooth(points[line]) for line in lines]
    return {
        label: [np.concatenate([curve[i][::-1] if backwards else curve[i] for i, backwards in part]) for part in parts]
        for label, parts in enumerate(OUTLINES.values(), 1)
    }


def read_points(content: bytes, name: str) -> np.ndarray:
    """Columns x and y of a table.  # [P, 2]

    Raises:
        ValueError: a cell is not a finite number.
    """
    cells = [(number(row["x"]), number(row["y"])) for _, row in read_table(content, name, ["x", "y"]).rows]
    if not all(value is not None and math.isfinite(value) for pair in cells for value in pair):
        raise ValueError(f"{name}: x and y must be numbers")
    return np.array(cells)


def read_template(text: str) -> tuple[np.ndarray, list[list[int]]]:
    """WebMorph's .tem: number of points, the points, number of lines; for each line closed, count, points."""
    rows = [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    try:
        count = int(rows[0][0])
        points = np.array([[float(x), float(y)] for x, y in rows[1 : count + 1]])
        rest = rows[count + 1 :]
        lines = [[int(point) for point in rest[3 * index + 3]] for index in range(int(rest[0][0]))]
    except (IndexError, ValueError) as error:
        raise ValueError(f"not a WebMorph template ({error})") from None
    return points, lines


def draw_parts(outlines: Mapping[int, Sequence[np.ndarray]], size: tuple[int, int]) -> np.ndarray:
    """Fill closed outlines; later classes cover earlier ones.

    Args:
        outlines: polygons of points (x, y) in pixels, by class  # float [P, 2] each
        size: width and height
    Returns:
        class numbers, 0 where nothing is drawn  # uint8 [H, W]
    """
    large = Image.new("L", (size[0] * OVERSAMPLING, size[1] * OVERSAMPLING), 0)
    pen = ImageDraw.Draw(large)
    for label, polygons in outlines.items():
        for polygon in polygons:
            pen.polygon([tuple(point) for point in (polygon * OVERSAMPLING).tolist()], fill=label)
    return np.asarray(large)[OVERSAMPLING // 2 :: OVERSAMPLING, OVERSAMPLING // 2 :: OVERSAMPLING].copy()


def smooth(points: np.ndarray, between: int = 8) -> np.ndarray:
    """A Catmull-Rom curve through points [P, 2], with `between` samples per segment.  # [Q, 2]"""
    if len(points) < 3:
        return points
    p = np.concatenate([points[:1], points, points[-1:]])
    t = (np.arange(between) / between)[:, None]
    parts = []
    for a, b, c, d in zip(p[:-3], p[1:-2], p[2:-1], p[3:], strict=True):
        parts.append(0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3))
    return np.concatenate([*parts, points[-1:]])
