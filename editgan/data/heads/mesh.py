"""The head mesh of `data/heads.npz`: a base shape and displacements ("targets") that are added to it.

Positions are in decimetres: x to the person's left, y up, z forward. `rest` is the base shape. Every target moves the
same vertices, so a rest position identifies a point on the skin for any head shape.
"""

from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import scipy.sparse

MESH_PATH = Path(__file__).parents[3] / "data" / "heads.npz"
BODY, LEFT_EYE, RIGHT_EYE, TEETH, TONGUE, LASHES, HAIR, GLASSES = range(8)  # materials; the file lacks the last two
OPPOSITES = {
    "incr": "decr", "up": "down", "in": "out", "convex": "concave", "forward": "backward", "uncompress": "compress",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class HeadMesh:
    """The content of heads.npz, decoded."""

    rest: np.ndarray  # float32 [V, 3]
    faces: np.ndarray  # int [F, 3]
    material: np.ndarray  # uint8 [F]
    occlusion: np.ndarray  # float32 [V]
    parts: dict[str, np.ndarray]  # name -> float32 [V] in 0..1: lips, ears, mouth_inside, eyelids
    targets: dict[str, int]  # name -> column of `deltas`
    deltas: scipy.sparse.csr_array  # float32 [3 V, T], displacements
    axes: list[tuple[str, str | None]]  # (positive, negative) target of each shape axis

    def displacement(self, weights: dict[str, float]) -> np.ndarray:
        """Sum of weighted targets, float32 [V, 3]. Raises KeyError for an unknown target."""
        chosen = np.zeros(len(self.targets), np.float32)
        for name, weight in weights.items():
            chosen[self.targets[name]] = weight
        return (self.deltas @ chosen).reshape(-1, 3)

    def shape(self, weights: dict[str, float]) -> np.ndarray:
        """Vertices float32 [V, 3] of the head with these target weights."""
        return self.rest + self.displacement(weights)

    def eye_vertices(self, side: int) -> np.ndarray:
        """Vertices of one eyeball; side is LEFT_EYE or RIGHT_EYE."""
        return np.unique(self.faces[self.material == side])

    @cached_property
    def mouth_vertices(self) -> np.ndarray:
        """Vertices of teeth and tongue."""
        return np.unique(self.faces[np.isin(self.material, (TEETH, TONGUE))])


@cache
def load_head_mesh() -> HeadMesh:
    """Read heads.npz. Raises FileNotFoundError if it is missing."""
    if not MESH_PATH.is_file():
        raise FileNotFoundError(f"{MESH_PATH} is missing; restore it from git or run scripts/build_head_mesh.py")
    with np.load(MESH_PATH, allow_pickle=False) as data:
        arrays = {name: data[name] for name in data.files}
    targets = {str(name): number for number, name in enumerate(arrays["target_names"])}
    column = np.repeat(np.arange(len(targets)), np.diff(arrays["target_starts"]))  # [M]
    values = arrays["target_deltas"].astype(np.float32) * arrays["target_scales"][column, None]  # [M, 3]
    row = 3 * arrays["target_vertices"].astype(np.int64)[:, None] + np.arange(3)  # [M, 3]
    deltas = scipy.sparse.csr_array(
        (values.ravel(), (row.ravel(), np.repeat(column, 3))), shape=(3 * len(arrays["vertices"]), len(targets))
    )
    return HeadMesh(
        rest=arrays["vertices"],
        faces=arrays["triangles"].astype(np.int64),
        material=arrays["material"],
        occlusion=arrays["occlusion"].astype(np.float32) / 255,
        parts={k.removeprefix("part_"): v.astype(np.float32) / 255 for k, v in arrays.items() if k.startswith("part_")},
        targets=targets,
        deltas=deltas,
        axes=shape_axes(list(targets)),
    )


def shape_axes(names: list[str]) -> list[tuple[str, str | None]]:
    """Pair opposite targets into axes; a target without an opposite gives an axis with a positive side only."""
    axes = []
    for name in names:
        if name.startswith(("macro/", "unit/")):
            continue
        stem, _, end = name.rpartition("-")
        opposite = f"{stem}-{OPPOSITES[end]}" if end in OPPOSITES else None
        if opposite in names:
            axes.append((name, opposite))
        elif end not in OPPOSITES.values() or not any(f"{stem}-{k}" in names for k in OPPOSITES):
            axes.append((name, None))
    return axes
