"""Render one picture and its part mask: the painted mesh with camera, light and background."""

import numpy as np

from editgan.data.drawing.colour import backdrop, smoothstep
from editgan.data.drawing.mesh import Mesh, join, vertex_normals
from editgan.data.drawing.raster import majority, rasterise
from editgan.data.heads.hair import glasses_meshes, hair_meshes
from editgan.data.heads.identity import Identity
from editgan.data.heads.mesh import BODY, HAIR, LEFT_EYE, RIGHT_EYE, TEETH, TONGUE, HeadMesh
from editgan.data.heads.paint import CLASSES, beard_field, paint
from editgan.data.heads.scene import Expression, View
from editgan.images import EYE_CENTRE, EYE_DISTANCE

VERSION = 1  # raise when the same parameters would give different pictures
LABELS_VERSION = 1  # raise when the same pictures would get different part masks
OPEN_MOUTH_DEPTH, CLOSED_MOUTH_DEPTH = 0.05, 0.25  # decimetres: distance of teeth and tongue behind the lips
GUMS = (6.47, 6.75)  # decimetres on the base head: teeth and tongue are cut off below and above these heights
CAMERA_DISTANCE = 11.0  # decimetres in front of the eyes
TYPICAL_EYE_DISTANCE = 0.6155  # decimetres, on the base head


def build_head(mesh: HeadMesh, who: Identity, expression: Expression, still: np.ndarray) -> Mesh:
    """The person's head with hair, beard and glasses, with the given expression.

    `still` [V, 3] is the person's shape without expression.
    """
    face = smoothstep((mesh.rest[:, 1:2] - 5.95) / 0.22)  # expressions do not move the shoulders
    points = (still + face * mesh.displacement(expression.units())).astype(np.float32)
    points[mesh.mouth_vertices] += _seat_teeth(mesh, still, expression)
    body = mesh.faces[mesh.material == BODY]
    if who.beard != "none":
        grown = np.clip(beard_field(mesh.rest, mesh.parts["lips"], who) / 0.10, 0, 1)
        depth = grown * (0.015 + 0.045 * who.beard_length)
        points = (points + depth[:, None] * vertex_normals(points, body)).astype(np.float32)
    cover = np.ones(len(points), np.float32)
    height = mesh.rest[mesh.mouth_vertices, 1]
    cover[mesh.mouth_vertices] = np.minimum(height - GUMS[0], GUMS[1] - height)
    head = Mesh(points, mesh.rest, mesh.faces, mesh.material, cover, mesh.occlusion)
    # Hair is attached to the neutral head, so a smile does not move it.
    return join([head, *hair_meshes(mesh, still, vertex_normals(still, body), who), *glasses_meshes(mesh, still, who)])


def _seat_teeth(mesh: HeadMesh, still: np.ndarray, expression: Expression) -> np.ndarray:
    """Move teeth and tongue [M, 3] behind a person's lips, since many targets shape only the lips.

    They are set back a little, and further behind closed lips, which may be thin.
    """
    opened = min(1.0, 3 * (expression.smile * expression.teeth + expression.mouth_open))
    back = OPEN_MOUTH_DEPTH * opened + CLOSED_MOUTH_DEPTH * (1 - opened)
    lips = mesh.parts["lips"] > 0.5
    teeth, rest = still[mesh.mouth_vertices], mesh.rest[mesh.mouth_vertices]
    stretch = np.ptp(still[lips, 0]) / np.ptp(mesh.rest[lips, 0])
    moved = (still[lips] - mesh.rest[lips]).mean(0) - (teeth - rest).mean(0)
    centre = teeth.mean(0)
    wider = (np.clip(stretch, 0.8, 1.2) - 1) * (teeth - centre) * np.float32([1, 0, 0])
    return (wider + moved - np.float32([0, 0, back])).astype(np.float32)


def render(
    mesh: HeadMesh, who: Identity, expression: Expression, view: View, *, resolution: int, supersample: int
) -> tuple[np.ndarray, np.ndarray]:
    """Render a head.

    Args:
        resolution: side of the picture in pixels.
        supersample: samples per pixel and axis; a pixel gets the class of most of its samples.

    Returns:
        image uint8 [resolution, resolution, 3] and part mask uint8 [resolution, resolution].
    """
    size = resolution * supersample
    still = mesh.shape(who.weights)
    head = build_head(mesh, who, expression, still)
    eyes = np.stack([still[mesh.eye_vertices(side)].mean(0) for side in (LEFT_EYE, RIGHT_EYE)])
    turned = _turn(head.points, eyes, view)
    points = _project(turned, view, size)
    pierced = (head.cover < 0)[head.faces].any(1)

    def discard(face: np.ndarray, weights: np.ndarray) -> np.ndarray:
        outside = np.zeros(len(face), bool)
        some = np.flatnonzero(pierced[face])
        outside[some] = np.einsum("qk,qk->q", weights[some], head.cover[head.faces[face[some]]]) < 0
        return outside

    surface = rasterise(points, head.faces, size, discard=discard)
    normals = vertex_normals(turned, head.faces)
    added = np.zeros(len(head.points) - len(mesh.rest), np.float32)  # hair and glasses are no part of the body
    parts = {name: np.concatenate([weights, added]) for name, weights in mesh.parts.items()}
    columns = np.column_stack([head.rest, normals, head.occlusion, *parts.values()]).astype(np.float32)
    seen = surface.interpolate(columns, head.faces)  # [P, 7 + parts]
    material = head.material[surface.face]
    seen_parts = {name: seen[:, 7 + k] for k, name in enumerate(parts)}
    albedo, gloss, label = paint(mesh, seen[:, :3], material, seen_parts, who)
    colour = shade(albedo, gloss, seen[:, 3:6], seen[:, 6], material, view)

    picture = backdrop(view, size).reshape(-1, 3)
    picture[surface.pixel] = colour
    labels = np.zeros(size * size, np.uint8)
    labels[surface.pixel] = label
    picture = picture.reshape(resolution, supersample, resolution, supersample, 3)
    picture = picture.transpose(1, 3, 0, 2, 4).reshape(supersample**2, resolution, resolution, 3).mean(0)
    image = np.uint8(np.clip(np.sqrt(picture), 0, 1) * 255 + 0.5)
    return image, majority(labels.reshape(size, size), resolution, len(CLASSES.names))


def _turn(points: np.ndarray, eyes: np.ndarray, view: View) -> np.ndarray:
    """Rotate vertices [V, 3] about the point between the eyes [2, 3] and scale them towards a typical eye distance."""
    scale = TYPICAL_EYE_DISTANCE / (0.7 * np.linalg.norm(eyes[0] - eyes[1]) + 0.3 * TYPICAL_EYE_DISTANCE)
    (sy, cy), (sp, cp), (sr, cr) = ((np.sin(a), np.cos(a)) for a in (view.yaw, view.pitch, view.roll))
    yaw = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    pitch = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    roll = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return ((points - eyes.mean(0)) @ (scale * roll @ pitch @ yaw).T).astype(np.float32)


def _project(turned: np.ndarray, view: View, size: int) -> np.ndarray:
    """Project rotated vertices [V, 3]: x right and y down in samples, and depth."""
    unit = view.zoom * EYE_DISTANCE / TYPICAL_EYE_DISTANCE  # one decimetre as a share of the picture's side
    near = CAMERA_DISTANCE / (CAMERA_DISTANCE - turned[:, 2])
    x = EYE_CENTRE[0] + view.shift[0] + turned[:, 0] * near * unit
    y = EYE_CENTRE[1] + view.shift[1] - turned[:, 1] * near * unit
    return np.stack([x * size, y * size, turned[:, 2]], 1).astype(np.float32)


def shade(
    albedo: np.ndarray, gloss: np.ndarray, normals: np.ndarray, openness: np.ndarray, material: np.ndarray, view: View
) -> np.ndarray:
    """Linear colour [P, 3]: a key light that wraps a little around skin, light from the sky, and highlights."""
    linear = albedo * albedo
    normals = normals / np.sqrt(np.einsum("pk,pk->p", normals, normals) + 1e-9)[:, None]
    light = np.float32(view.light)
    facing = normals @ light  # [P]
    skin = (material == BODY)[:, None]
    wrap = np.where(skin, np.float32([0.32, 0.20, 0.16]), np.float32(0.12))
    lit = np.clip((facing[:, None] + wrap) / (1 + wrap), 0, 1)
    sky = 0.75 + 0.25 * normals[:, 1:2]
    eye = (material == LEFT_EYE) | (material == RIGHT_EYE)
    openness = np.where(eye, 0.55 + 0.45 * openness, openness)
    openness = np.where(material == TEETH, 1.1, np.where(material == TONGUE, 0.5, openness))  # of an open mouth
    open_air = openness[:, None] ** np.float32(1.3)
    direct = np.float32(view.key) * lit * (0.35 + 0.65 * open_air)
    colour = linear * (direct + np.float32(view.ambient) * sky * open_air)
    half = light + np.float32([0, 0, 1])
    half = half / np.linalg.norm(half)
    shine = np.clip(normals @ half, 0, 1)
    sharp = np.where(eye, 180, np.where(material == HAIR, 12, 16))
    highlight = gloss * shine**sharp * (0.3 + 0.7 * np.clip(facing, 0, 1)) * openness * 0.6
    return (colour + highlight[:, None] * np.float32(view.key)).astype(np.float32)
