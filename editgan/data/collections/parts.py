"""Draw part masks from hand-placed outlines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

from editgan.data.archive import Classes

NO_PARTS = Classes(names=["background"], palette=np.zeros((1, 3), np.uint8))
OVERSAMPLING = 4  # outlines are drawn at this multiple of the size


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


def smooth(points: np.ndarray, closed: bool = False, between: int = 8) -> np.ndarray:
    """A Catmull-Rom curve through points [P, 2], with `between` samples per segment.  # [Q, 2]"""
    if len(points) < 3:
        return points
    first, last = (points[-1:], points[:1]) if closed else (points[:1], points[-1:])
    p = np.concatenate([first, points, last] + ([points[1:2]] if closed else []))
    t = (np.arange(between) / between)[:, None]
    parts = []
    for a, b, c, d in zip(p[:-3], p[1:-2], p[2:-1], p[3:], strict=True):
        parts.append(0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3))
    return np.concatenate(parts if closed else [*parts, points[-1:]])
