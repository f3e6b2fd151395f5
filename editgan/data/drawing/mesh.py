"""Triangle meshes."""

from dataclasses import dataclass, fields

import numpy as np


@dataclass(frozen=True)
class Mesh:
    """A set of triangles drawn together."""

    points: np.ndarray  # float32 [V, 3], positions of the vertices
    rest: np.ndarray  # float32 [V, 3], their positions on the base shape
    faces: np.ndarray  # int [F, 3]
    material: np.ndarray  # uint8 [F]
    cover: np.ndarray  # float32 [V], where negative the surface has a hole
    occlusion: np.ndarray  # float32 [V] in 0..1, exposure to the sky


def join(meshes: list[Mesh]) -> Mesh:
    """Merge meshes into one."""
    starts = np.cumsum([0] + [len(m.points) for m in meshes[:-1]])
    joined = {one.name: np.concatenate([getattr(m, one.name) for m in meshes]) for one in fields(Mesh)}
    joined["faces"] = np.concatenate([m.faces + start for m, start in zip(meshes, starts, strict=True)])
    return Mesh(**joined)


def vertex_normals(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit normals [V, 3]: area-weighted means over the triangles around each vertex."""
    x, y, z = (points[:, k][faces].T for k in range(3))  # [3, F] each
    (ux, uy, uz), (vx, vy, vz) = ((x[k] - x[0], y[k] - y[0], z[k] - z[0]) for k in (1, 2))
    corners = faces.ravel()
    flat = (uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx)
    normals = [np.bincount(corners, np.repeat(f, 3), len(points)) for f in flat]
    length = np.sqrt(normals[0] ** 2 + normals[1] ** 2 + normals[2] ** 2) + 1e-9
    return np.stack([n / length for n in normals], 1).astype(np.float32)


def grid_faces(rows: int, columns: int) -> np.ndarray:
    """Two triangles for each cell of a grid of vertices."""
    grid = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = grid[:-1, :-1].ravel(), grid[:-1, 1:].ravel(), grid[1:, 1:].ravel(), grid[1:, :-1].ravel()
    return np.concatenate([np.stack([a, d, c], 1), np.stack([a, c, b], 1)])
