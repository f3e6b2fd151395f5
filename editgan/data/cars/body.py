"""The mesh of a car: a loft of cross sections through its side profile, with wheels and mirrors.

A section runs from the right sill over the roof to the left sill. `rest` keeps the place of every vertex on the car
before its ends are bowed, in metres; on wheels it is the place on the wheel's face. Parts are painted by this place.
"""

from dataclasses import dataclass

import numpy as np
import scipy.ndimage

from editgan.data.cars.identity import Identity
from editgan.data.drawing.mesh import Mesh, join

SIDE, CABIN, TOP, FRONT, REAR, WHEEL, MIRROR, INSIDE = range(8)  # materials
STEP = 0.01  # metres, sampling of the side profile
STATIONS, ROUNDED = 56, 4  # cross sections along the body, and at each of its rounded ends
LOWER, ACROSS = 7, 9  # points of a section: from sill to belt, and across the top
UPPER = (0.0, 0.3, 0.65, 0.92)  # points of a section from belt to roof
SEGMENTS = 24  # of a wheel
TYRE_WIDTH = 0.22  # metres
ARCH = 0.05  # metres, gap between tyre and wheel arch


@dataclass(frozen=True)
class Profile:
    """The car from the side: heights along x."""

    x: np.ndarray  # float [N], from the rear end to the nose
    top: np.ndarray  # bonnet, windscreen, roof, rear window, boot
    belt: np.ndarray  # lower edge of the side windows, shoulder of bonnet and boot
    half: np.ndarray  # half width at the shoulder

    def at(self, name: str, x: np.ndarray) -> np.ndarray:
        """A height at these x."""
        return np.interp(x, self.x, getattr(self, name))


def side_profile(who: Identity) -> Profile:
    """The side profile of a car."""
    s = who.shape
    knots = [
        (-s.tail, s.deck - 0.03), (-s.glass_end, s.deck), (-s.roof_end, s.roof - s.drop),
        (-0.55 * s.roof_end - 0.45 * s.screen, s.roof - 0.1 * s.drop), (-s.screen - 0.35, s.roof),
        (-s.screen, s.roof - 0.05), (0.0, s.cowl), (0.55 * s.bonnet, 0.52 * s.cowl + 0.48 * s.nose + 0.045),
        (s.bonnet, s.nose),
    ]  # fmt: skip
    x = np.arange(-s.tail, s.bonnet + STEP, STEP)
    top = scipy.ndimage.gaussian_filter1d(np.interp(x, *zip(*knots, strict=True)), 0.045 / STEP, mode="nearest")
    belt = np.interp(x, [-s.roof_end, 0, s.bonnet], [s.belt_rear, s.belt_front, s.belt_front - 0.06])
    belt = np.minimum(belt, top - 0.045)
    along = (x + s.tail) / (s.tail + s.bonnet) * 2 - 1
    return Profile(x, top, belt, s.width / 2 * (1 - 0.05 * np.abs(along) ** 3))


def build_car(who: Identity, steer: float, spin: float) -> Mesh:
    """Body, wheels and mirrors of a car."""
    profile = side_profile(who)
    return join([_body(who, profile), _inside(who), *_wheels(who, profile, steer, spin), *_mirrors(who, profile)])


def in_arch(who: Identity, x: np.ndarray, y: np.ndarray, margin: float = 0.0) -> np.ndarray:
    """Whether points of the sides lie in the opening of a wheel arch, or within `margin` of it."""
    radius = who.shape.wheel + ARCH + margin
    height = who.shape.wheel + 0.015
    return np.minimum(np.hypot(x - who.front_axle, y - height), np.hypot(x + who.shape.rear_axle, y - height)) < radius


def grid(rows: int, columns: int) -> np.ndarray:
    """Two triangles for each cell of a grid of vertices.  # int [F, 3]"""
    corner = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel()
    first = np.stack([corner, corner + columns, corner + 1], 1)
    second = np.stack([corner + 1, corner + columns, corner + columns + 1], 1)
    return np.concatenate([first, second])


def surface(points: np.ndarray, material: np.ndarray | int, rest: np.ndarray | None = None, flip: bool = False) -> Mesh:
    """A grid of vertices [R, C, 3] as a mesh; `material` is one number or that of every column of cells."""
    rows, columns = points.shape[:2]
    faces = grid(rows, columns)
    kinds = np.broadcast_to(material, (rows - 1, columns - 1)).ravel()
    flat = points.reshape(-1, 3).astype(np.float32)
    return Mesh(
        points=flat,
        rest=flat.copy() if rest is None else rest.reshape(-1, 3).astype(np.float32),
        faces=faces[:, ::-1] if flip else faces,
        material=np.uint8(np.concatenate([kinds, kinds])),
        cover=np.ones(len(flat), np.float32),
        occlusion=np.ones(len(flat), np.float32),
    )


def _body(who: Identity, profile: Profile) -> Mesh:
    """The painted shell with its windows."""
    x, shrink = _stations(who, profile)
    sections = _sections(who, profile, x, shrink)  # [S, C, 3]
    count = LOWER + len(UPPER) + 1
    kinds = np.full(sections.shape[1] - 1, TOP)
    kinds[: LOWER - 1] = kinds[1 - LOWER :] = SIDE
    kinds[LOWER - 1 : count - 1] = kinds[1 - count : 1 - LOWER] = CABIN
    shell = surface(sections, kinds)
    caps = []
    for end, material in ((0, REAR), (-1, FRONT)):
        left, right = sections[end, :count][:, None], sections[end, ::-1][:count][:, None]
        share = np.linspace(0, 1, ACROSS + 4)[None, :, None]
        cap = left * (1 - share) + right * share
        top = sections[end, count - 1 : 1 - count]
        rise = np.interp(share[0, :, 0], np.linspace(0, 1, len(top)), top[:, 1]) - top[0, 1]
        cap[:, :, 1] += rise * (np.linspace(0, 1, count) ** 2)[:, None]
        caps.append(surface(cap, material, flip=end == -1))
    body = join([shell, *caps])
    points = _bow(who, body.points.astype(np.float64))
    return Mesh(points.astype(np.float32), body.rest, body.faces, body.material, body.cover, body.occlusion)


def _stations(who: Identity, profile: Profile) -> tuple[np.ndarray, np.ndarray]:
    """Places of the cross sections [S], evenly spaced along the profile, and how much each is shrunk [S], metres."""
    s, radius = who.shape, who.rounding[0]
    length = np.concatenate([[0], np.cumsum(np.hypot(np.diff(profile.x), np.diff(profile.top)))])
    places = np.interp(np.linspace(0, length[-1], STATIONS), length, profile.x)
    middle = places[(places > -s.tail + radius) & (places < s.bonnet - radius)]
    if who.bed:
        middle = np.sort(np.append(middle, [-s.glass_end - 0.04, -s.glass_end - 0.05, -s.tail + radius + 0.01]))
    angle = np.linspace(0, np.pi / 2, ROUNDED + 1)
    out, shrink = radius * np.sin(angle), radius * (1 - np.cos(angle))
    x = np.concatenate([(-s.tail + radius - out)[::-1], middle, s.bonnet - radius + out])
    return x, np.concatenate([shrink[::-1], np.zeros(len(middle)), shrink])


def _sections(who: Identity, profile: Profile, x: np.ndarray, shrink: np.ndarray) -> np.ndarray:
    """Cross sections at x [S]: points [S, C, 3] from the right sill over the top to the left sill."""
    s = who.shape
    top, belt = profile.at("top", x) - 0.5 * shrink, profile.at("belt", x) - 0.5 * shrink
    half = profile.at("half", x) - shrink
    t = np.linspace(0, 1, LOWER)
    bulge = 0.93 + 0.07 * np.sin(np.pi / 2 * np.clip(t / 0.45, 0, 1)) - 0.035 * t**2  # share of the half width
    bulge += 0.012 * np.exp(-(((t - 0.75) / 0.1) ** 2))  # a crease
    lower_y = s.clearance + t * (belt[:, None] - s.clearance)  # [S, LOWER]
    lower_z = bulge * half[:, None]
    rise = (top - belt)[:, None]  # [S, 1]
    corner = np.minimum(0.07, 0.5 * rise)
    shoulder = bulge[-1] * half[:, None] - 0.02
    roof = np.maximum(shoulder - s.tumble * rise - 0.01, 0.3 * half[:, None])
    u = np.array(UPPER)
    upper_y = belt[:, None] + 0.008 + u * (rise - corner)
    upper_z = shoulder + (roof - shoulder) * u**1.35
    edge_y, edge_z = top[:, None] - 0.25 * corner, roof - 0.35 * corner
    side_y, side_z = np.hstack([lower_y, upper_y, edge_y]), np.hstack([lower_z, upper_z, edge_z])
    across = np.linspace(1, -1, ACROSS + 2)[1:-1]
    crown = np.where(rise > 0.2, 0.035, 0.05)
    middle_y = top[:, None] + crown * (1 - np.abs(across) ** 2.2) * np.clip(1 - shrink / 0.1, 0, 1)[:, None]
    if who.bed:
        sunk = (x < -s.glass_end - 0.045) & (x > -s.tail + who.rounding[0])
        middle_y[sunk, 1:-1] = top[sunk, None] - 0.42
        middle_y[sunk, 0] = middle_y[sunk, -1] = top[sunk]
    middle_z = across * edge_z
    y = np.hstack([side_y, middle_y, side_y[:, ::-1]])
    z = np.hstack([side_z, middle_z, -side_z[:, ::-1]])
    return np.stack([np.broadcast_to(x[:, None], y.shape), y, z], 2)


def _bow(who: Identity, points: np.ndarray) -> np.ndarray:
    """Bow the ends of the body and the windscreen in plan, and tilt the ends in the side view."""
    s = who.shape
    x, y, z = points.T
    aside = np.abs(z) / (s.width / 2)
    front = np.clip(x - s.bonnet + 1.0, 0, 1) ** 2  # over the last metre
    f = (y - s.clearance) / (s.nose - s.clearance)
    lean = 0.24 * np.clip(f - 0.45, 0, 1) ** 2 + np.clip(0.3 - f, 0, 1) ** 2
    moved = -front * (who.rounding[1] * aside**2.4 + lean)
    rear = np.clip(1.0 - s.tail - x, 0, 1) ** 2
    f = (y - s.clearance) / (s.deck - s.clearance)
    lean = 0.20 * np.clip(f - 0.5, 0, 1) ** 2 + np.clip(0.3 - f, 0, 1) ** 2
    moved += rear * np.where(y < s.deck + 0.02, 0.6 * who.rounding[1] * aside**2.4 + lean, 0.05)
    glass = np.clip((y - s.cowl) / 0.1, 0, 1) * np.clip((x + s.screen + 0.3) / 0.3, 0, 1) * (x > -s.screen - 0.3)
    moved -= 0.10 * glass * aside**2
    return np.stack([x + moved, y, z], 1)


def _inside(who: Identity) -> Mesh:
    """A dark box behind the wheel arches and under the body."""
    s = who.shape
    low, high, side = 0.75 * s.clearance, min(s.belt_front, s.belt_rear) - 0.12, s.width / 2 - TYRE_WIDTH - 0.10
    rear, front = -s.tail + 0.35, s.bonnet - 0.35
    ring = [(side, high), (side, low), (-side, low), (-side, high), (side, high)]
    ends = ((rear, 0), (rear, 1), (front, 1), (front, 0))  # closed by shrinking to a point
    points = np.array([[(x, low + k * (y - low), k * z) for z, y in ring] for x, k in ends])
    return surface(points, INSIDE, flip=True)


def _wheels(who: Identity, profile: Profile, steer: float, spin: float) -> list[Mesh]:
    """Four wheels. Their `rest` is (horizontal, vertical, depth) on the face, in outer radii, turned by `spin`."""
    r, rim = who.shape.wheel, who.rim_size
    #           radius, distance out of the plane of the tyre's outer wall, as shares of r
    rings = np.array([
        (0.0, -TYRE_WIDTH / r), (0.97, -TYRE_WIDTH / r), (1.0, -0.5 * TYRE_WIDTH / r), (1.0, -0.10), (0.965, -0.02),
        (0.86, 0.01), (rim + 0.02, -0.01), (rim, -0.03), (0.86 * rim, -0.09), (0.25 * rim, -0.05), (0.0, -0.04),
    ])  # fmt: skip
    angle = np.linspace(0, 2 * np.pi, SEGMENTS + 1)
    flat = rings[:, 0, None, None] * np.stack([np.cos(angle), np.sin(angle)], 1)  # [rings, SEGMENTS + 1, 2]
    out = np.broadcast_to(rings[:, 1, None], flat.shape[:2])
    turned = angle + spin
    rest = np.concatenate([rings[:, 0, None, None] * np.stack([np.cos(turned), np.sin(turned)], 1), out[..., None]], 2)
    wheels = []
    for axle, turn in ((who.front_axle, steer), (-who.shape.rear_axle, 0.0)):
        for side in (1, -1):
            face = profile.at("half", np.array(axle)) * 0.965
            x, y, z = flat[..., 0] * r, flat[..., 1] * r + r, out * r
            z = z * side
            cos, sin = np.cos(turn), np.sin(turn)
            points = np.stack([axle + cos * x - sin * z, y, side * face + sin * x + cos * z], 2)
            wheels.append(surface(points, WHEEL, rest, flip=side > 0))
    return wheels


def _mirrors(who: Identity, profile: Profile) -> list[Mesh]:
    """A mirror on each side, at the foot of the windscreen."""
    s = who.shape
    x = -0.30 * s.screen - 0.12
    big = 1.25 if s.roof > 1.6 else 1.0
    angle, turn = np.linspace(-np.pi / 2, np.pi / 2, 7), np.linspace(0, 2 * np.pi, 11)
    flat = np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** 0.7, np.sign(np.sin(turn)) * np.abs(np.sin(turn)) ** 0.7
    size = np.array([0.085, 0.085, 0.125]) * big
    ball = np.stack([
        np.cos(angle)[:, None] * flat[0], np.cos(angle)[:, None] * flat[1],
        np.sin(angle)[:, None] * np.ones_like(turn),
    ], 2)  # fmt: skip
    meshes = []
    for side in (1, -1):
        place = np.array([x, profile.at("belt", np.array(x)) + 0.09, side * (profile.at("half", np.array(x)) + 0.06)])
        meshes.append(surface(place + ball * size, MIRROR, flip=True))
    return meshes
