"""Surfaces of animals as triangles, and the fur or feathers that grow on them.

Positions are in units of the animal's own scale: x to the right of the picture, y up, z towards the viewer. Every
vertex carries a rest coordinate, which identifies a point of the skin for any shape and pose.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cache

import numpy as np

from editgan.data.drawing.mesh import grid_faces, vertex_normals


@dataclass(frozen=True)
class Surface:
    """Triangles drawn together."""

    points: np.ndarray  # float32 [V, 3]
    faces: np.ndarray  # int [F, 3]
    rest: np.ndarray  # float32 [V, 3]
    normals: np.ndarray  # float32 [V, 3]
    openness: np.ndarray  # float32 [V] in 0..1, exposure to the sky
    tone: np.ndarray  # float32 [V], relative brightness of a hair; 0 on the skin
    material: np.ndarray  # uint8 [F]


def surface(points, faces, rest, material: int, openness=1.0, normals=None) -> Surface:
    """A surface of one material; normals default to those of the triangles."""
    points, count = points.astype(np.float32), len(points)
    return Surface(
        points=points,
        faces=faces,
        rest=rest.astype(np.float32),
        normals=vertex_normals(points, faces) if normals is None else normals.astype(np.float32),
        openness=np.broadcast_to(np.float32(openness), count),
        tone=np.zeros(count, np.float32),
        material=np.full(len(faces), material, np.uint8),
    )


def join(surfaces: list[Surface]) -> Surface:
    """Merge surfaces into one."""
    starts = np.cumsum([0] + [len(one.points) for one in surfaces[:-1]])
    joined = {field.name: np.concatenate([getattr(one, field.name) for one in surfaces]) for field in fields(Surface)}
    joined["faces"] = np.concatenate([one.faces + start for one, start in zip(surfaces, starts, strict=True)])
    return Surface(**joined)


def both_sides(one: Surface) -> Surface:
    """A thin sheet seen from both sides."""
    back = replace(one, faces=one.faces[:, ::-1], normals=-one.normals)
    return join([one, back])


def tube(path, sides, ups, widths, heights, columns: int, material: int, openness=1.0, across: float = 2.0) -> Surface:
    """A tube along a path [R, 3], with elliptic sections spanned by `sides` and `ups` [R, 3] of radius [R].

    Rest coordinates: share of the path (0..1), and cosine and sine of the angle around it (side and up). `across` above
    2 gives sections nearer to a box.
    """
    turn = np.linspace(0, 2 * np.pi, columns)
    cos, sin = np.cos(turn), np.sin(turn)
    shape = (np.abs(cos) ** across + np.abs(sin) ** across) ** (-1 / across)
    offset = (widths[:, None] * cos * shape)[..., None] * sides[:, None]
    offset = offset + (heights[:, None] * sin * shape)[..., None] * ups[:, None]
    points = (path[:, None] + offset).reshape(-1, 3)
    share = np.repeat(np.linspace(0, 1, len(path)), columns)
    rest = np.column_stack([share, np.tile(cos, len(path)), np.tile(sin, len(path))])
    faces = grid_faces(len(path), columns)
    if np.cross(sides[0], ups[0]) @ (path[-1] - path[0]) > 0:  # keep the outer side in front
        faces = faces[:, ::-1]
    one = surface(points, faces, rest, material, openness)
    normals = one.normals.reshape(len(path), columns, 3)
    seam = normals[:, 0] + normals[:, -1]  # the first and the last column are the same points
    normals[:, 0] = normals[:, -1] = seam / (np.linalg.norm(seam, axis=1, keepdims=True) + 1e-9)
    return one


def ball(centre, radius, material: int, rows: int = 8, columns: int = 13) -> Surface:
    """A sphere or ellipsoid; rest coordinates are directions from its centre."""
    lat, lon = np.meshgrid(np.linspace(0, np.pi, rows), np.linspace(0, 2 * np.pi, columns), indexing="ij")
    unit = np.stack([np.sin(lat) * np.sin(lon), np.cos(lat), np.sin(lat) * np.cos(lon)], -1).reshape(-1, 3)
    return surface(np.asarray(centre) + np.asarray(radius) * unit, grid_faces(rows, columns), unit, material)


@dataclass(frozen=True)
class Roots:
    """Where hairs grow on a mesh: triangle [T], weights of its corners [T, 3], and random numbers [T, 4] in -1..1."""

    face: np.ndarray
    weights: np.ndarray
    random: np.ndarray


@cache
def roots(count: int, faces: int, seed: int) -> Roots:
    """Random roots, about the same number on every triangle: the same for every animal, so a change moves no hair."""
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet([1, 1, 1], count).astype(np.float32)
    return Roots(rng.permutation(count) % faces, weights, rng.uniform(-1, 1, (count, 4)).astype(np.float32))


def grown(
    on: Surface, where: Roots, flow: np.ndarray, length: Callable, width: float, *, lift: float, mess: float = 0.3
) -> Surface:
    """Hairs or feathers as thin triangles that face the viewer.

    Args:
        flow: directions in which they lie at the vertices of `on`  # [V, 3]
        length: gives their length for rest coordinates [T, 3]; where it is not positive, none grow
        width: at the root
        lift: height of the tip above the skin as a share of the length
        mess: deviation of the directions
    """
    corners = on.faces[where.face]  # [T, 3]
    mixed = np.column_stack([on.points, on.normals, flow, on.rest, on.openness]).astype(np.float32)
    at = np.einsum("tk,tkc->tc", where.weights, mixed[corners])
    sizes = length(at[:, 9:12])
    kept = np.flatnonzero(sizes > 0)
    at, random, size = at[kept], where.random[kept], sizes[kept, None].astype(np.float32)
    point, normal, along = at[:, :3], unit(at[:, 3:6]), unit(at[:, 6:9])
    lie = unit(along + lift * normal + mess * random[:, :3])
    right = unit(np.stack([lie[:, 1], -lie[:, 0], np.zeros(len(lie), np.float32)], 1)) * np.float32(width / 2)
    base = point + normal * np.float32(0.15 * width)
    tip = base + lie * size * (0.8 + 0.4 * random[:, 3:4])
    count = len(kept)
    shaded = unit(normal + 0.3 * along + 0.35 * random[:, :3])
    tone = 0.16 * random[:, 3]
    return Surface(
        points=np.stack([base - right, base + right, tip], 1).reshape(-1, 3),
        faces=np.arange(3 * count).reshape(-1, 3),
        rest=np.repeat(at[:, 9:12], 3, 0),
        normals=np.repeat(shaded, 3, 0),
        openness=np.repeat(at[:, 12], 3),
        tone=np.stack([tone - 0.08, tone - 0.08, tone + 0.10], 1).reshape(-1).astype(np.float32),
        material=on.material[where.face[kept]],
    )


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors [N, 3] scaled to length 1."""
    return vectors / np.sqrt(np.einsum("nk,nk->n", vectors, vectors) + 1e-12)[:, None]


def tangent(directions: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """The unit part of directions [N, 3] that lies in the surface."""
    return unit(directions - np.einsum("nk,nk->n", directions, normals)[:, None] * normals)


def turned(points: np.ndarray, yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Rotate points [V, 3] about the origin: first yaw, then pitch, then roll (radians, signs as in `View`)."""
    (sy, cy), (sp, cp), (sr, cr) = ((np.sin(a), np.cos(a)) for a in (yaw, pitch, roll))
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return (points @ (about_z @ about_x @ about_y).T).astype(np.float32)


def rotated(one: Surface, yaw: float, pitch: float, roll: float) -> Surface:
    """A surface rotated about the origin."""
    return replace(one, points=turned(one.points, yaw, pitch, roll), normals=turned(one.normals, yaw, pitch, roll))
