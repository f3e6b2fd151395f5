"""The place of a car: sky, background and ground of a picture, and the surroundings that a car reflects."""

import numpy as np

from editgan.data.cars.view import GROUNDS, Camera, View
from editgan.data.drawing.colour import smoothstep

TABLE = 64  # side of the table of random values behind all textures
Array = np.ndarray


class Noise:
    """Smooth random textures: a periodic table of values, interpolated."""

    def __init__(self, seed: int) -> None:
        self.table = np.random.default_rng(seed).random((TABLE, TABLE), np.float32)

    def cells(self, u: Array, v: Array) -> Array:
        """A random value in 0..1 for every unit cell."""
        return self.table[np.int64(np.floor(u)) % TABLE, np.int64(np.floor(v)) % TABLE]

    def smooth(self, u: Array, v: Array, octaves: int = 2) -> Array:
        """Values in 0..1 that vary over about one unit; each octave adds detail of half the size."""
        total, weight = 0.0, 0.0
        for k in range(octaves):
            a, b = np.float32(u) * 2**k + 17 * k, np.float32(v) * 2**k + 29 * k
            i, j = np.floor(a), np.floor(b)
            s, t = smoothstep(a - i), smoothstep(b - j)
            i, j = np.int64(i) % TABLE, np.int64(j) % TABLE
            n, m = (i + 1) % TABLE, (j + 1) % TABLE
            low = self.table[i, j] * (1 - s) + self.table[n, j] * s
            high = self.table[i, m] * (1 - s) + self.table[n, m] * s
            total, weight = total + (low * (1 - t) + high * t) / 2**k, weight + 1 / 2**k
        return total / weight


def linear(colour) -> Array:
    """sRGB -> linear, as the square."""
    return np.float32(colour) ** 2


def ground_colour(view: View) -> Array:
    """Mean linear albedo of the ground.  # [3]"""
    return linear(GROUNDS[view.ground][1]) * np.float32(view.tone)


def sky_light(view: View) -> Array:
    """Linear light of the sky from above.  # [3]"""
    return 0.55 * linear(view.zenith) + 0.25 * linear(view.horizon)


def ground_light(view: View) -> Array:
    """Linear light that comes back from open ground.  # [3]"""
    return ground_colour(view) * (np.float32(view.key) * view.sun[1] + sky_light(view))


def surroundings(view: View, directions: Array) -> Array:
    """Linear light [P, 3] that comes from directions [P, 3]: sky, a dark band at the horizon, and the ground."""
    up = directions[:, 1:2]
    sky = linear(view.horizon) + smoothstep(up / 0.7) * (linear(view.zenith) - linear(view.horizon))
    wall = np.float32(0.5) * (linear(view.colours[0]) + linear(view.colours[1])) * (0.5 + 0.5 * np.mean(view.key))
    bumps = 0.05 * np.sin(5 * np.arctan2(directions[:, 2:3], directions[:, 0:1]) + view.seed % 7)
    band = smoothstep((0.20 + bumps - up) / 0.08)
    below = smoothstep((0.02 - up) / 0.05)
    return sky + band * (wall - sky) + below * (ground_light(view) * 0.85 - wall) * band


def scenery(view: View, camera: Camera, size: int, shadow: Array, contact) -> Array:
    """Linear colours of the picture without the car.  # float32 [size, size, 3]

    Args:
        shadow: the sun's shadow on the ground, 0..1  # [size, size]
        contact: (x, z) of points on the ground [Q] -> how much of the sky the car covers, 0..1  # [Q]
    """
    noise = Noise(view.seed)
    rays = camera.rays(size)
    reach = -camera.position[1] / np.minimum(rays[..., 1], -1e-4)  # [size, size], to the ground
    down = rays[..., 1] < -1e-4
    picture = _sky(view, rays, noise)
    forward = np.array([camera.axes[2, 0], 0, camera.axes[2, 2]])
    forward /= np.linalg.norm(forward)
    behind, hit, height, along = _wall(view, camera, rays, forward)
    top, colour = _background(view, noise, along, height)
    wall = hit & (height < top) & (height > 0)
    picture[wall] = colour[wall]
    ground = down & ((reach < behind) | ~hit)
    picture[ground] = _ground(view, camera, rays[ground], reach[ground], shadow[ground], contact, noise)
    return picture


def _sky(view: View, rays: Array, noise: Noise) -> Array:
    up = rays[..., 1:2] / np.linalg.norm(rays, axis=-1, keepdims=True)
    sky = linear(view.horizon) + smoothstep(up / 0.6) * (linear(view.zenith) - linear(view.horizon))
    turn = np.arctan2(rays[..., 2], rays[..., 0])
    cloud = smoothstep((noise.smooth(turn * 6, up[..., 0] * 16, 3) - 0.5) / 0.25)[..., None]
    return (sky + 0.6 * cloud * (np.float32([0.95, 0.95, 0.96]) - sky)).astype(np.float32)


def _wall(view: View, camera: Camera, rays: Array, forward: Array) -> tuple[Array, Array, Array, Array]:
    """Distance along the rays to an upright plane behind the car, whether they hit it, and where: height, and along."""
    cos, sin = np.cos(view.turn), np.sin(view.turn)
    normal = np.array([cos * forward[0] - sin * forward[2], 0, sin * forward[0] + cos * forward[2]])
    side = np.array([-normal[2], 0, normal[0]])
    foot = np.array([camera.position[0], 0, camera.position[2]]) + forward * (view.distance + view.far)
    facing = np.float32(rays @ normal)
    hit = facing > 1e-3
    reach = np.where(hit, (foot - camera.position) @ normal / np.maximum(facing, 1e-3), np.inf)
    place = np.where(hit, reach, 0)
    height = camera.position[1] + place * rays[..., 1]
    along = place * np.float32(rays @ side) + (camera.position - foot) @ side
    return reach, hit, height, along


def _background(view: View, noise: Noise, along: Array, height: Array) -> tuple[Array, Array]:
    """Height of the background at places along it, and its linear colour there."""
    first, second = (linear(c) for c in view.colours)
    lit = (0.45 + 0.55 * np.float32(view.key)) * 0.9
    size = view.far + view.distance  # metres: details far away are larger
    match view.background:
        case "trees":
            top = (0.16 + 0.30 * noise.smooth(along / size * 9, 0 * along, 3)) * size
            mix = noise.smooth(along / size * 40, height / size * 40, 3)
            trunk = (height < 0.05 * size) & (noise.cells(along / size * 50, 0 * along) > 0.75)
            mix = np.where(trunk, 0.15, mix)
        case "hills":
            top = (0.06 + 0.10 * noise.smooth(along / size * 3, 0 * along, 2)) * size
            mix = 0.6 * noise.smooth(along / size * 20, height / size * 60, 2) + 0.4 * height / (0.2 * size)
        case "hedge":
            top = 1.2 + 0.12 * size * noise.smooth(along / 3, 0 * along, 1) * 0.5
            mix = noise.smooth(along * 4, height * 4, 2)
        case "brick":
            top = np.full_like(along, 2.4 + view.seed % 40 / 10)
            row = np.floor(height / 0.15)
            joint = (np.mod(height, 0.15) < 0.025) | (np.mod(along + 0.2 * (row % 2), 0.4) < 0.03)
            mix = np.where(joint, 1.0, 0.55 * noise.cells(np.floor((along + 0.2 * (row % 2)) / 0.4), row))
        case "building":
            top = np.full_like(along, 3.2 + view.seed % 50 / 8)
            floors, wide = 2.9, 1.6 + view.seed % 7 / 5
            pane = (np.mod(along, wide) > 0.35 * wide) & (np.abs(np.mod(height, floors) - 1.7) < 0.65)
            mix = 0.1 + 0.15 * noise.smooth(along, height, 2)
            dark = 0.05 + 0.25 * noise.cells(along / wide, height / floors)
            colour = (first + mix[..., None] * (second - first)) * lit
            return top, np.where(pane[..., None], dark[..., None] * linear(view.horizon), colour).astype(np.float32)
        case _:  # sea
            top = np.full_like(along, 0.02 * size)
            mix = noise.smooth(along / size * 10, height / size * 200, 2)
    colour = (first * 1.15 + np.clip(mix, 0, 1)[..., None] * (second * 0.6 - first * 1.15)) * lit
    haze = 0.25 if view.background == "hills" else 0.0
    return top, (colour + haze * (linear(view.horizon) - colour)).astype(np.float32)


def _ground(view: View, camera: Camera, rays: Array, reach: Array, shadow: Array, contact, noise: Noise) -> Array:
    """Lit ground at the ends of rays [Q, 3]: texture, markings, shadow of the car.  # [Q, 3]"""
    place = camera.position + reach[:, None] * rays
    x, z = place[:, 0], place[:, 2]
    fine = noise.smooth(x * 6, z * 6, 2) * np.clip(12 / reach, 0, 1)
    coarse = noise.smooth(x * 0.7, z * 0.7, 2)
    contrast = GROUNDS[view.ground][2]
    albedo = ground_colour(view) * (1 + contrast * 2 * (fine + coarse - 1))[:, None]
    if view.lines:
        stripe = (np.abs(z - view.lines) < 0.07) & ((np.mod(x, 4) < 2.4) | (view.seed % 2 == 0))
        albedo[stripe] = 0.62
    if view.ground == "concrete":
        albedo[(np.mod(x, 3.1) < 0.05) | (np.mod(z, 3.1) < 0.05)] *= 0.6
    if view.ground == "asphalt" and view.seed % 3 == 0:  # a verge behind the car
        verge = (z - 3.4 * np.sign(-camera.position[2])) * np.sign(-camera.position[2]) > 0
        albedo[verge] = np.float32([0.09, 0.15, 0.04]) * (0.6 + 0.8 * fine[verge, None])
    cover = contact(x, z)[:, None]
    sun = np.float32(view.key) * view.sun[1] * (1 - shadow[:, None]) * (1 - 0.6 * cover)
    haze = np.clip((reach[:, None] - 20) / 150, 0, 0.5)
    colour = albedo * (sun + sky_light(view) * (1 - 0.93 * cover))
    return (colour + haze * (linear(view.horizon) - colour)).astype(np.float32)
