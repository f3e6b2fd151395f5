"""A z-buffer for triangle meshes in plain numpy, without a Python loop over triangles."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Surface:
    """The visible surface of a square picture: one row for each of the P samples that hit a triangle."""

    pixel: np.ndarray  # int [P], row * size + column
    face: np.ndarray  # int [P]
    weights: np.ndarray  # float32 [P, 3], barycentric
    depth: np.ndarray  # float32 [P], larger is nearer

    def interpolate(self, values: np.ndarray, faces: np.ndarray) -> np.ndarray:
        """Vertex values [V] or [V, C] -> values at the samples [P] or [P, C]."""
        corners = values[faces[self.face]]  # [P, 3] or [P, 3, C]
        return np.einsum("pk,pk...->p...", self.weights, corners)


def rasterise(
    points: np.ndarray,
    faces: np.ndarray,
    size: int,
    *,
    discard: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
) -> Surface:
    """Find the nearest triangle, seen from the front, at the centre of every sample of a size x size picture.

    Args:
        points: float [V, 3]; x right and y down in samples, larger z nearer.
        faces: int [F, 3]; counter-clockwise as seen from the front (with y up).
        discard: takes (face [Q], weights [Q, 3]) and returns bool [Q], true where the surface has a hole.
    """
    x, y, z = (points[:, k].astype(np.float32)[faces].T for k in range(3))  # [3, F] each
    area = (x[1] - x[0]) * (y[2] - y[0]) - (y[1] - y[0]) * (x[2] - x[0])  # [F]
    left, width = _span(x, size)  # range of columns and rows that each triangle may cover
    top, height = _span(y, size)
    boxes = np.where(area < 0, width * height, 0)  # 0 for a triangle seen from behind
    with np.errstate(divide="ignore", invalid="ignore"):  # degenerate triangles have no candidates
        b_x, b_y = (y[2] - y[0]) / area, (x[0] - x[2]) / area  # weight of corner b = b_x (X - x0) + b_y (Y - y0)
        c_x, c_y = (y[0] - y[1]) / area, (x[1] - x[0]) / area

    face = np.repeat(np.arange(len(faces)), boxes)  # [Q]: one candidate for each sample of each bounding box
    within = np.arange(len(face)) - np.repeat(np.cumsum(boxes) - boxes, boxes)
    row, column = np.divmod(within, width[face])
    row, column = row + top[face], column + left[face]
    right = column.astype(np.float32) + np.float32(0.5) - x[0][face]
    down = row.astype(np.float32) + np.float32(0.5) - y[0][face]
    wb = b_x[face] * right + b_y[face] * down
    wc = c_x[face] * right + c_y[face] * down
    wa = 1 - wb - wc
    inside = np.flatnonzero((wa >= 0) & (wb >= 0) & (wc >= 0))
    face, pixel = face[inside], (row * size + column)[inside]
    weights = np.stack([wa[inside], wb[inside], wc[inside]], 1)  # [Q, 3]
    if discard is not None:
        kept = np.flatnonzero(~discard(face, weights))
        face, pixel, weights = face[kept], pixel[kept], weights[kept]

    depth = weights[:, 0] * z[0][face] + weights[:, 1] * z[1][face] + weights[:, 2] * z[2][face]
    nearest = np.full(size * size, -np.inf, np.float32)
    np.maximum.at(nearest, pixel, depth)
    winner = np.full(size * size, -1, np.int64)
    candidates = np.flatnonzero(depth == nearest[pixel])
    winner[pixel[candidates]] = candidates
    winner = winner[winner >= 0]
    return Surface(pixel=pixel[winner], face=face[winner], weights=weights[winner], depth=depth[winner])


def _span(corners: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """First sample whose centre lies between the corners [3, F], and number of such samples, clipped to the picture."""
    low = np.minimum(np.minimum(corners[0], corners[1]), corners[2])
    high = np.maximum(np.maximum(corners[0], corners[1]), corners[2])
    first = np.clip(np.ceil(low - 0.5), 0, size).astype(np.int64)
    last = np.clip(np.floor(high - 0.5), -1, size - 1).astype(np.int64)
    return first, np.maximum(last - first + 1, 0)


def majority(labels: np.ndarray, resolution: int, count: int) -> np.ndarray:
    """Class of most samples of each pixel, of `count` classes: uint8 [size, size] -> [resolution, resolution].

    Parts win ties.
    """
    step = labels.shape[0] // resolution
    blocks = labels.reshape(resolution, step, resolution, step).transpose(0, 2, 1, 3).reshape(-1, step * step)
    votes = np.bincount((np.arange(len(blocks))[:, None] * count + blocks).ravel(), minlength=len(blocks) * count)
    votes = votes.reshape(-1, count)[:, ::-1]
    return np.uint8(count - 1 - votes.argmax(1)).reshape(resolution, resolution)
