"""Hair and glasses as geometry, and where hair grows on the head.

Hair on the scalp is a shell: the scalp's triangles, moved outwards along their normals and cut at the hairline. Long
hair adds a curtain that hangs from the shell; a bun adds a ball. Angles run around the vertical axis of the head, on
both sides alike, from the front (0) over the ears (90) to the back (180 degrees).
"""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from editgan.data.drawing.colour import smoothstep, waves
from editgan.data.drawing.mesh import Mesh, grid_faces
from editgan.data.heads.identity import Identity
from editgan.data.heads.mesh import BODY, GLASSES, HAIR, LEFT_EYE, RIGHT_EYE, HeadMesh

AXIS_Z = 0.5  # decimetres: position of the vertical axis of the head
HAIRLINE_ANGLES = np.radians([0, 25, 42, 58, 72, 90, 110, 140, 180])
NORMAL = np.array([8.02, 8.03, 7.93, 7.62, 7.12, 7.42, 7.02, 6.75, 6.70])  # height of the hairline at these angles
SOFT = np.array([8.04, 8.05, 7.95, 7.70, 7.32, 7.42, 7.02, 6.75, 6.65])  # with little hair in front of the ears
RECEDING = np.array([8.12, 8.38, 8.20, 7.68, 7.12, 7.42, 7.02, 6.75, 6.70])
HORSESHOE = np.array([9.0, 9.0, 8.6, 7.75, 7.15, 7.42, 7.02, 6.75, 6.70])
FRINGE = np.array([7.66, 7.66, 7.66, 7.55, 7.15, 7.38, 6.95, 6.65, 6.60])
# Half the width and height of glasses in decimetres, and the exponent of their outline
FRAME_SHAPES = {"round": (0.235, 0.225, 2.0), "square": (0.26, 0.19, 5.0), "oval": (0.255, 0.17, 2.4)}


@dataclass(frozen=True)
class Style:
    """Shape of a hair style. Lengths are in decimetres."""

    line: np.ndarray
    top: float  # thickness at the crown
    side: float  # thickness at the ears
    front: float = 0.0  # additional thickness over the forehead
    parting: float = 0.0  # additional thickness on one side; the other side gets less
    slant: float = 0.0  # the hairline is higher on one side
    ripple: float = 0.0  # height of curls
    ceiling: float = np.inf  # no hair above this height
    curtain: float | None = None  # the longest curtain reaches down to this height
    opening: float = 62.0  # degrees: angle at which the curtain begins
    bun: bool = False


STYLES = {
    "buzz": Style(NORMAL, 0.035, 0.03),
    "short": Style(NORMAL, 0.13, 0.06, front=0.02),
    "side part": Style(NORMAL, 0.16, 0.07, front=0.05, parting=0.09, slant=0.10),
    "fringe": Style(FRINGE, 0.15, 0.12),
    "bob": Style(SOFT, 0.13, 0.14, parting=0.03, slant=0.05, curtain=6.25, opening=58),
    "long": Style(SOFT, 0.12, 0.12, slant=0.03, curtain=5.3, opening=66),
    "curly": Style(SOFT, 0.26, 0.22, ripple=0.07),
    "afro": Style(SOFT, 0.42, 0.38, ripple=0.05),
    "bun": Style(SOFT, 0.05, 0.04, bun=True),
    "receding": Style(RECEDING, 0.07, 0.05),
    "horseshoe": Style(HORSESHOE, 0.05, 0.07, ceiling=7.98),
    "quiff": Style(NORMAL, 0.13, 0.04, front=0.17),
    "long fringe": Style(FRINGE, 0.13, 0.12, curtain=5.5, opening=60),
}


def azimuth(rest: np.ndarray) -> np.ndarray:
    """Angle around the head, 0..pi, of rest positions [V, 3]."""
    return np.arctan2(np.abs(rest[:, 0]), rest[:, 2] - AXIS_Z)


@cache
def _scalp(mesh: HeadMesh) -> tuple[np.ndarray, np.ndarray]:
    """Vertices where hair may grow, and the triangles between them (with indices into these vertices)."""
    rest = mesh.rest
    face_front = (rest[:, 2] > 0.8) & (rest[:, 1] < 7.6)
    allowed = (rest[:, 1] > 6.45) & ~face_front & (mesh.parts["ears"] < 0.3) & (rest[:, 2] < 1.75)
    faces = mesh.faces[(mesh.material == BODY) & allowed[mesh.faces].all(1)]
    vertices, faces = np.unique(faces, return_inverse=True)
    return vertices, faces.reshape(-1, 3)


def hair_meshes(mesh: HeadMesh, points: np.ndarray, normals: np.ndarray, who: Identity) -> list[Mesh]:
    """Hair of a person on a shaped head; `points` and `normals` belong to the mesh's vertices [V, 3]."""
    if who.hair_style == "bald":
        return []
    style = STYLES[who.hair_style]
    vertices, faces = _scalp(mesh)
    rest, angle = mesh.rest[vertices], azimuth(mesh.rest[vertices])
    side = np.clip(rest[:, 0] * who.hair_side / 0.6, -1, 1)  # 1 on the fuller side of the parting
    forehead = np.exp(-((angle / 0.75) ** 2))
    line = np.interp(angle, HAIRLINE_ANGLES, style.line)
    line = line + (who.hair_height * (1 if style.line[0] > 7.8 else 0.4) + style.slant * side) * forehead
    ragged = 0.02 * waves(rest, who.hair_phase, 14)
    above = rest[:, 1] - line + ragged
    crown = smoothstep((rest[:, 1] - 7.5) / 0.8)
    thickness = style.side + (style.top - style.side) * crown + style.parting * side * crown
    thickness = thickness + style.front * forehead * smoothstep((rest[:, 1] - 7.85) / 0.3)
    thickness = np.maximum(thickness * who.hair_volume, 0.02)
    if style.ripple:
        thickness = thickness + style.ripple * waves(rest, who.hair_phase, 13)
    lift = 0.012 + thickness * smoothstep(above / (0.12 + 0.9 * thickness))
    shell = Mesh(
        points=(points[vertices] + lift[:, None] * normals[vertices]).astype(np.float32),
        rest=rest,
        faces=faces,
        material=np.full(len(faces), HAIR, np.uint8),
        cover=np.minimum(above, style.ceiling - rest[:, 1]).astype(np.float32),
        occlusion=(mesh.occlusion[vertices] * (0.72 + 0.28 * smoothstep(above / 0.15))).astype(np.float32),
    )
    meshes = [shell, lining(shell)]
    if style.curtain is not None:
        curtain = _curtain(shell, style, who)
        meshes += [curtain, lining(curtain)]
    if style.bun:
        meshes.append(_bun(points, mesh, who))
    return meshes


def _curtain(shell: Mesh, style: Style, who: Identity) -> Mesh:
    """Hair that hangs from the shell around the back of the head and is open at the face."""
    columns, rows = 40, 12
    ring = shell.points[(shell.rest[:, 1] > 7.45) & (shell.rest[:, 1] < 7.9)]
    half_width, back = np.abs(ring[:, 0]).max() + 0.03, ring[:, 2].min() - 0.03
    centre = AXIS_Z + 0.05
    half_depth = centre - back
    top = np.median(ring[:, 1]) + 0.1
    scale = (shell.points[:, 1].max() - top) / 0.85
    longer = 0.5 - who.hair_length
    end = top + (style.curtain + 1.1 * longer * (style.curtain < 6) * 0.6 + 0.3 * longer - 7.7) * scale
    opening = np.radians(style.opening)
    turn = np.linspace(opening, 2 * np.pi - opening, columns)
    t = np.linspace(0, 1, rows)[:, None]
    lobe = np.sin(4 * turn + who.hair_phase[0])[None] * 0.02
    flare = 0.93 + 0.22 * smoothstep(t / 0.35) * min(1.3, who.hair_volume) - 0.13 * smoothstep((t - 0.55) / 0.45)
    flare = flare + lobe + 0.02 * np.sin(9 * t + 3 * turn[None] + who.hair_phase[1])
    front = np.where(np.cos(turn) > 0, 0.75, half_depth)[None]  # the sides extend less to the front than to the back
    x = half_width * flare * np.sin(turn)[None]
    z = centre + front * flare * np.cos(turn)[None] + 0.10 * t
    y = top + (end + 0.06 * np.sin(7 * turn + who.hair_phase[2])[None] - top) * t
    points = np.stack(np.broadcast_arrays(x, y, z), -1).reshape(-1, 3)
    return sheet(points, grid_faces(rows, columns), HAIR, occlusion=0.95)


def sheet(points: np.ndarray, faces: np.ndarray, material: int, occlusion: float | np.ndarray = 1.0) -> Mesh:
    """A surface of one material that is not part of the head."""
    points = points.astype(np.float32)
    return Mesh(
        points=points,
        rest=points,
        faces=faces,
        material=np.full(len(faces), material, np.uint8),
        cover=np.ones(len(points), np.float32),
        occlusion=np.full(len(points), occlusion, np.float32),
    )


def lining(mesh: Mesh) -> Mesh:
    """The inner side of a sheet of hair: the same triangles, facing inwards, in shadow."""
    return replace(mesh, faces=mesh.faces[:, ::-1], occlusion=0.35 * mesh.occlusion)


def _bun(points: np.ndarray, mesh: HeadMesh, who: Identity) -> Mesh:
    """A ball of hair on the crown."""
    crown = points[int(np.argmax(mesh.rest[:, 1]))]
    radius = 0.22 * who.hair_volume
    lat, lon = np.meshgrid(np.linspace(0, np.pi, 9), np.linspace(0, 2 * np.pi, 17), indexing="ij")
    ball = np.stack([np.sin(lat) * np.sin(lon), np.cos(lat), np.sin(lat) * np.cos(lon)], -1).reshape(-1, 3)
    centre = crown + np.array([0, 0.35 * radius, -0.15])
    return sheet(centre + radius * ball, grid_faces(*lat.shape), HAIR, occlusion=0.75 + 0.25 * ball[:, 1])


def glasses_meshes(mesh: HeadMesh, points: np.ndarray, who: Identity) -> list[Mesh]:
    """Frames in front of the eyes, with temples that reach the ears."""
    if who.glasses == "none":
        return []
    half_width, half_height, power = FRAME_SHAPES[who.glasses]
    rim, segments = 0.05, 32
    turn = np.linspace(0, 2 * np.pi, segments, endpoint=False)
    outline = [np.sign(f(turn)) * np.abs(f(turn)) ** (2 / power) for f in (np.cos, np.sin)]
    outline = np.stack(outline, 1)
    k, following = np.arange(segments), np.roll(np.arange(segments), -1)
    triangles = (k, k + segments, following + segments), (k, following + segments, following)
    ring_faces = np.concatenate([np.stack(corners, 1) for corners in triangles])
    centres = {side: points[mesh.eye_vertices(side)].mean(0) for side in (LEFT_EYE, RIGHT_EYE)}
    depth = np.float32([0, -0.02, 0.34])
    meshes = []
    for side, centre in centres.items():
        out = 1 if side == LEFT_EYE else -1
        middle = centre + depth
        inner, outer = outline * [half_width, half_height], outline * [half_width + rim, half_height + rim]
        ring = np.concatenate([inner, outer])
        bend = -0.12 * np.maximum(0, out * ring[:, 0]) ** 2  # frames curve around the face
        meshes.append(sheet(np.column_stack([ring, bend]) + middle, ring_faces, GLASSES))
        ear_width = np.abs(points[mesh.parts["ears"] > 0.5, 0]).mean() + 0.02
        ear = np.array([out * ear_width, middle[1] + 0.02, centre[2] - 0.75])
        hinge = middle + [out * (half_width + rim * 0.7), 0.05, -0.05]
        strip = np.stack([hinge + [0, 0.03, 0], hinge - [0, 0.03, 0], ear - [0, 0.03, 0], ear + [0, 0.03, 0]])
        meshes.append(sheet(strip, np.array([[0, 1, 2], [0, 2, 3], [0, 2, 1], [0, 3, 2]]), GLASSES))
    left, right = centres[LEFT_EYE] + depth, centres[RIGHT_EYE] + depth
    a, b = right + [half_width, 0.03, 0], left + [-half_width, 0.03, 0]
    lift = np.array([0, 0.028, 0])
    middle = (a + b) / 2 + [0, 0.03, 0.04]
    bridge = np.stack([a - lift, middle - lift, b - lift, b + lift, middle + lift, a + lift])
    return [*meshes, sheet(bridge, np.array([[0, 1, 4], [0, 4, 5], [1, 2, 3], [1, 3, 4]]), GLASSES)]
