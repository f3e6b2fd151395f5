"""Draw a picture of an animal and its part mask from its surfaces."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from editgan.data.animals.surface import Surface
from editgan.data.animals.view import View, background
from editgan.data.drawing.raster import majority, rasterise

DISTANCE = 9.0  # of the camera, in units of the animal
Painted = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # albedo [P, 3], gloss [P], label [P], normals [P, 3]


@dataclass(frozen=True)
class Samples:
    """The visible samples of one material."""

    rest: np.ndarray  # float32 [P, 3]
    normals: np.ndarray  # float32 [P, 3]
    tone: np.ndarray  # float32 [P]


def draw(
    animal: Surface,
    painters: dict[int, Callable[[Samples], Painted]],
    view: View,
    *,
    size: int,
    supersample: int,
    classes: int,
    unit: float,
    centre: tuple[float, float],
    fine: Surface | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Image uint8 [size, size, 3] and part mask uint8 [size, size].

    Args:
        painters: by material
        classes: number of part classes
        unit: one unit of the animal as a share of the picture's side
        centre: where the animal's origin is, in shares of the side
        fine: whiskers, half transparent and without a label; their tone is their brightness
    """
    side = size * supersample
    seen = rasterise(project(animal.points, view, side, unit, centre), animal.faces, side)
    columns = np.column_stack([animal.rest, animal.normals, animal.openness, animal.tone])
    values = seen.interpolate(columns, animal.faces)  # [P, 8]
    material = animal.material[seen.face]
    albedo, normals = np.zeros((len(values), 3), np.float32), values[:, 3:6].copy()
    gloss, label = np.zeros(len(values), np.float32), np.zeros(len(values), np.uint8)
    for number, painter in painters.items():
        here = np.flatnonzero(material == number)
        if len(here):
            one = Samples(values[here, :3], values[here, 3:6], values[here, 7])
            albedo[here], gloss[here], label[here], normals[here] = painter(one)
    albedo = np.clip(albedo * (1 + values[:, 7:8]), 0, 1)

    picture, labels = background(view, side).reshape(-1, 3), np.zeros(side * side, np.uint8)
    picture[seen.pixel] = shade(albedo, gloss, normals, values[:, 6], view)
    labels[seen.pixel] = label
    if fine is not None:
        depth = np.full(side * side, -np.inf, np.float32)
        depth[seen.pixel] = seen.depth
        lines = rasterise(project(fine.points, view, side, unit, centre), fine.faces, side)
        front = lines.depth > depth[lines.pixel]
        pixel, bright = lines.pixel[front], fine.tone[fine.faces[lines.face[front], 0]]
        picture[pixel] += np.float32(0.4) * (bright[:, None] - picture[pixel])
    picture = picture.reshape(size, supersample, size, supersample, 3).mean((1, 3))
    image = np.uint8(np.clip(np.sqrt(picture), 0, 1) * 255 + 0.5)
    return image, majority(labels.reshape(side, side), size, classes)


def project(points: np.ndarray, view: View, side: int, unit: float, centre: tuple[float, float]) -> np.ndarray:
    """Points [V, 3] in samples: x right, y down, and depth."""
    near = view.zoom * unit * DISTANCE / (DISTANCE - points[:, 2])
    x = centre[0] + view.shift[0] + points[:, 0] * near
    y = centre[1] + view.shift[1] - points[:, 1] * near
    return np.stack([x * side, y * side, points[:, 2]], 1).astype(np.float32)


def shade(albedo: np.ndarray, gloss: np.ndarray, normals: np.ndarray, openness: np.ndarray, view: View) -> np.ndarray:
    """Linear colour [P, 3]: a key light that wraps around fur, light from the sky, and highlights."""
    normals = normals / np.sqrt(np.einsum("pk,pk->p", normals, normals) + 1e-9)[:, None]
    light = np.float32(view.light)
    facing = normals @ light
    lit = np.clip((facing + np.float32(0.3)) / np.float32(1.3), 0, 1)[:, None]
    sky = 0.72 + 0.28 * normals[:, 1:2]
    air = openness[:, None]
    colour = albedo * albedo * (np.float32(view.key) * lit * (0.3 + 0.7 * air) + np.float32(view.ambient) * sky * air)
    half = light + np.float32([0, 0, 1])
    shine = np.clip(normals @ (half / np.linalg.norm(half)), 0, 1)
    sharp = np.where(gloss > 0.5, 240, 14)
    return (colour + (gloss * shine**sharp * openness * 0.7)[:, None] * np.float32(view.key)).astype(np.float32)
