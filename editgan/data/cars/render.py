"""Render one picture of a car and its part mask: mesh, camera, light and surroundings."""

import numpy as np

from editgan.data.cars.body import CABIN, INSIDE, SIDE, WHEEL, build_car, in_arch, side_profile
from editgan.data.cars.identity import Identity
from editgan.data.cars.paint import CLASSES, Surfaces, paint
from editgan.data.cars.scenery import ground_light, scenery, sky_light, surroundings
from editgan.data.cars.view import Camera, View, camera
from editgan.data.drawing.colour import smoothstep
from editgan.data.drawing.mesh import Mesh, vertex_normals
from editgan.data.drawing.raster import Surface, majority, rasterise

VERSION = 1  # raise when the same parameters would give different pictures
LABELS_VERSION = 1  # raise when the same pictures would get different part masks
EXPOSURE = 0.95  # light on the ground that needs no correction
SHOULDER = 0.55  # linear colour from which highlights are compressed


def render(identity: Identity, view: View, size: int, supersample: int) -> tuple[np.ndarray, np.ndarray]:
    """Render a car.

    Args:
        size: side of the picture in pixels.
        supersample: samples per pixel and axis; a pixel gets the class of most of its samples.

    Returns:
        image uint8 [size, size, 3] and part mask uint8 [size, size].
    """
    side = size * supersample
    car = build_car(identity, view.steer, view.spin)
    eye = camera(view, identity.frame, identity.shape.width)
    seen = _visible(identity, car, eye, side)
    normals = vertex_normals(car.points, car.faces)
    columns = np.column_stack([car.rest, car.points, normals]).astype(np.float32)
    rest, points, normals = np.split(seen.interpolate(columns, car.faces), 3, axis=1)
    material = car.material[seen.face]
    surfaces = paint(identity, side_profile(identity), rest, material)
    colour = shade(surfaces, normals, points, material, rest, identity, view, eye)

    picture = scenery(view, eye, side, _shadow(car, view, eye, side), lambda x, z: _contact(identity, x, z))
    picture = picture.reshape(-1, 3)
    picture[seen.pixel] = colour
    labels = np.zeros(side * side, np.uint8)
    labels[seen.pixel] = surfaces.label
    picture = exposed(picture, view).reshape(size, supersample, size, supersample, 3).mean((1, 3))
    image = np.uint8(np.clip(np.sqrt(np.maximum(picture, 0)), 0, 1) * 255 + 0.5)
    return image, majority(labels.reshape(side, side), size, len(CLASSES.names))


def exposed(picture: np.ndarray, view: View) -> np.ndarray:
    """Expose linear colours as a camera does: for the light on the ground, with soft highlights."""
    light = (np.float32(view.key) * view.sun[1] + sky_light(view)).mean()
    picture = picture * np.float32((EXPOSURE / light) ** 0.7)
    over = np.maximum(picture - SHOULDER, 0) / (1 - SHOULDER)
    return np.where(over > 0, SHOULDER + (1 - SHOULDER) * (1 - np.exp(-over)), picture)


def _visible(who: Identity, car: Mesh, eye: Camera, side: int) -> Surface:
    """What the camera sees of the car; wheel arches are holes in its sides."""
    points = eye.project(car.points)
    points[:, :2] *= side
    pierced = np.flatnonzero(np.isin(car.material, (SIDE, CABIN)))
    pierced = pierced[in_arch(who, car.rest[car.faces[pierced], 0], car.rest[car.faces[pierced], 1], 0.1).any(1)]
    holed = np.zeros(len(car.faces), bool)
    holed[pierced] = True

    def discard(face: np.ndarray, weights: np.ndarray) -> np.ndarray:
        outside = np.zeros(len(face), bool)
        some = np.flatnonzero(holed[face])
        place = np.einsum("qk,qkc->qc", weights[some], car.rest[car.faces[face[some]], :2])
        outside[some] = in_arch(who, place[:, 0], place[:, 1])
        return outside

    return rasterise(points, car.faces, side, discard=discard)


def _shadow(car: Mesh, view: View, eye: Camera, side: int) -> np.ndarray:
    """The sun's shadow of the car on the ground: its mesh, projected along the light.  # float32 [side, side]"""
    both = np.concatenate([car.faces, car.faces[:, ::-1]])  # the body is open below, so its back casts shadow, too
    sun = np.array(view.sun)
    flat = car.points - car.points[:, 1:2] / sun[1] * sun
    points = eye.project(flat)
    points[:, :2] *= side
    shadow = np.zeros(side * side, np.float32)
    shadow[rasterise(points, both, side).pixel] = 1
    return shadow.reshape(side, side)


def _contact(who: Identity, x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """How much of the sky the car covers above points of the ground: 1 under it, fading around it."""
    s = who.shape
    centre, half = (s.bonnet - s.tail) / 2, (s.bonnet + s.tail) / 2
    outside = np.hypot(np.maximum(np.abs(x - centre) - half + 0.35, 0), np.maximum(np.abs(z) - s.width / 2 + 0.25, 0))
    return smoothstep(1 - outside / 0.75)


def shade(
    made: Surfaces, normals: np.ndarray, points: np.ndarray, material: np.ndarray, rest: np.ndarray, who: Identity,
    view: View, eye: Camera,
) -> np.ndarray:  # fmt: skip
    """Linear colour [P, 3]: sun, light from sky and ground, reflected surroundings and highlights."""
    normals = normals / np.sqrt(np.einsum("pk,pk->p", normals, normals) + 1e-9)[:, None]
    to_eye = eye.position.astype(np.float32) - points
    to_eye /= np.sqrt(np.einsum("pk,pk->p", to_eye, to_eye))[:, None]
    sun, key = np.float32(view.sun), np.float32(view.key)
    facing = np.clip(normals @ sun, 0, 1)
    up = normals[:, 1:2]
    low = smoothstep(points[:, 1] / 0.7)[:, None]  # the ground beside the car is in its own shade
    inner = (material == WHEEL) & (points[:, 1] > 0)
    hidden = np.where(inner, 0.35 + 0.65 * smoothstep(1 - (rest[:, 1] + rest[:, 2]) * 0.9), 1.0)[:, None]
    hidden = np.where((material == INSIDE)[:, None], 0.1, hidden)
    ambient = sky_light(view) * (0.55 + 0.45 * up) + ground_light(view) * (0.5 - 0.5 * up) * (0.25 + 0.55 * low)
    albedo = made.albedo * made.albedo
    colour = albedo * (key * facing[:, None] + ambient) * hidden

    slant = np.clip(np.einsum("pk,pk->p", normals, to_eye), 0, 1)[:, None]
    mirror = made.mirror[:, None]
    fresnel = np.where(mirror > 0, mirror + (1 - mirror) * 0.75 * (1 - slant) ** 5, 0)
    bounced = 2 * slant * normals - to_eye
    colour = colour * (1 - fresnel) + fresnel * surroundings(view, bounced) * hidden
    shine = np.clip(bounced @ sun, 0, 1)
    spread = 0.06 * who.metallic * np.minimum(albedo.max(1) * 3, 1) * shine**12 + 0.8 * shine**90
    highlight = made.gloss * spread * (facing > 0)
    return (colour + highlight[:, None] * key * hidden + made.glow).astype(np.float32)
