"""What varies between pictures of one car: camera, light, ground and background."""

from dataclasses import dataclass

import numpy as np

from editgan.data.drawing.colour import Colour, hsv

GROUNDS = {  # share, sRGB colour, contrast of its texture
    "asphalt": (0.40, (0.36, 0.36, 0.37), 0.10),
    "concrete": (0.20, (0.62, 0.60, 0.57), 0.08),
    "grass": (0.16, (0.33, 0.42, 0.20), 0.30),
    "gravel": (0.14, (0.55, 0.49, 0.41), 0.22),
    "snow": (0.04, (0.88, 0.90, 0.93), 0.05),
    "studio": (0.06, (0.72, 0.72, 0.73), 0.0),
}
BACKGROUNDS = {"trees": 0.36, "hills": 0.14, "building": 0.22, "brick": 0.10, "hedge": 0.12, "sea": 0.06}


@dataclass(frozen=True)
class View:
    """Camera, light, ground and background. Angles are in radians, seen from the car's centre."""

    azimuth: float  # direction to the camera: 0 in front of the car, pi / 2 at its right side, pi behind it
    height: float  # of the camera, metres
    distance: float  # of the camera, metres
    roll: float
    fill: float  # width of the car as a share of the picture's
    shift: tuple[float, float]  # centre of the car, as shares of the side
    steer: float  # angle of the front wheels
    spin: float  # turn of the wheels about their axles
    sun: tuple[float, float, float]  # direction to the sun: forward, up, right of the car
    key: Colour  # light of the sun
    zenith: Colour
    horizon: Colour
    ground: str  # a key of GROUNDS
    tone: float  # brightness of the ground
    background: str  # a key of BACKGROUNDS
    colours: tuple[Colour, Colour]  # of the background
    far: float  # distance of the background behind the car, metres
    turn: float  # of the background about the line of sight
    lines: float  # position of a marking on the road, metres beside the car; 0: none
    seed: int  # of the textures


@dataclass(frozen=True)
class Camera:
    """A pinhole camera for square pictures of side 1, x right and y down."""

    position: np.ndarray  # [3]
    axes: np.ndarray  # [3, 3]: right, up and forward
    scale: float
    offset: tuple[float, float]

    def project(self, points: np.ndarray) -> np.ndarray:
        """Points [V, 3] -> x, y and 1 / distance, which is linear in x and y.  # float32 [V, 3]"""
        seen = (points - self.position) @ self.axes.T
        x = self.offset[0] + self.scale * seen[:, 0] / seen[:, 2]
        y = self.offset[1] - self.scale * seen[:, 1] / seen[:, 2]
        return np.stack([x, y, 1 / seen[:, 2]], 1).astype(np.float32)

    def rays(self, size: int) -> np.ndarray:
        """Directions through the centres of the samples, with forward component 1.  # float32 [size, size, 3]"""
        grid = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / size
        x, y = np.broadcast_arrays((grid[None, :] - self.offset[0]), (self.offset[1] - grid[:, None]))
        right, up, forward = self.axes.astype(np.float32)
        return (x[..., None] * right + y[..., None] * up) / np.float32(self.scale) + forward


def camera(view: View, frame: tuple[float, float, float], width: float) -> Camera:
    """The camera of a view: it frames a box with the given bonnet, tail and roof, as wide as the car."""
    bonnet, tail, roof = frame
    centre = np.array([(bonnet - tail) / 2, 0.55, 0.0])
    around = np.array([np.cos(view.azimuth), 0, np.sin(view.azimuth)])
    position = centre * [1, 0, 1] + view.distance * around + [0, view.height, 0]
    forward = (centre - position) / np.linalg.norm(centre - position)
    right = np.cross(forward, [0, 1, 0])
    right /= np.linalg.norm(right)
    up = np.cross(right, forward)
    right, up = np.cos(view.roll) * right + np.sin(view.roll) * up, np.cos(view.roll) * up - np.sin(view.roll) * right
    axes = np.stack([right, up, forward])
    box = np.array([[x, y, z] for x in (-tail, bonnet) for y in (0, roof) for z in (-width / 2, width / 2)])
    x, y, _ = Camera(position, axes, 1.0, (0.0, 0.0)).project(box).T
    scale = view.fill / max(np.ptp(x), 1.25 * np.ptp(y))
    middle = (x.max() + x.min()) / 2, (y.max() + y.min()) / 2
    offset = tuple(float(0.5 + s - scale * m) for s, m in zip(view.shift, middle, strict=True))
    return Camera(position, axes, float(scale), offset)


def sample_view(rng: np.random.Generator) -> View:
    """Sample camera, light, ground and background."""
    kind = rng.choice(["front", "side", "rear", "any"], p=[0.48, 0.18, 0.26, 0.08])
    angle = {
        "front": rng.uniform(0.35, 1.15),
        "side": rng.uniform(1.35, 1.75),
        "rear": rng.uniform(2.0, 2.8),
        "any": rng.uniform(0, np.pi),
    }[str(kind)]
    azimuth = angle * rng.choice([-1, 1])
    beside, height = azimuth + rng.normal(0, 0.9), rng.uniform(0.35, 1.1)
    sun = np.array([np.cos(beside) * np.cos(height), np.sin(height), np.sin(beside) * np.cos(height)])
    overcast = rng.random() < 0.35
    power = rng.uniform(0.15, 0.5) if overcast else rng.uniform(0.9, 1.5)
    warmth = rng.normal(0.06, 0.05)
    blue = rng.uniform(0.02, 0.12) if overcast else rng.uniform(0.25, 0.6)
    names, shares = list(GROUNDS), np.array([row[0] for row in GROUNDS.values()])
    ground = str(rng.choice(names, p=shares / shares.sum()))
    background = str(rng.choice(list(BACKGROUNDS), p=list(BACKGROUNDS.values())))
    hue = {"trees": 0.27, "hills": 0.28, "building": 0.09, "brick": 0.04, "hedge": 0.28, "sea": 0.56}[background]
    saturation = {"building": 0.12, "brick": 0.5}.get(background, 0.4)
    bright = {"trees": 0.42, "hills": 0.42, "building": 0.66, "brick": 0.52, "hedge": 0.42, "sea": 0.5}[background]
    first = hsv(hue + rng.normal(0, 0.03), saturation * rng.uniform(0.4, 1.2), bright * rng.uniform(0.75, 1.25))
    second = hsv(hue + rng.normal(0, 0.06), saturation * rng.uniform(0.3, 1.2), bright * rng.uniform(0.5, 1.1))
    return View(
        azimuth=float(azimuth),
        height=float(rng.uniform(0.8, 2.3)),
        distance=float(rng.uniform(6.5, 13)),
        roll=float(rng.normal(0, 0.012)),
        fill=float(rng.uniform(0.86, 0.94)),
        shift=(float(rng.uniform(-0.015, 0.015)), float(rng.uniform(-0.01, 0.06))),
        steer=float(np.clip(rng.normal(0, 0.16), -0.4, 0.4)),
        spin=float(rng.uniform(0, 2 * np.pi)),
        sun=tuple(sun.tolist()),
        key=tuple((np.array([1 + warmth, 1.0, 1 - warmth]) * power).tolist()),
        zenith=hsv(0.59, blue, rng.uniform(0.75, 0.95)),
        horizon=hsv(0.58, blue * 0.3, rng.uniform(0.85, 1.0)),
        ground=ground,
        tone=float(rng.uniform(0.75, 1.15)),
        background=background,
        colours=(first, second),
        far=float(rng.uniform(4, 9) if background in ("building", "brick", "hedge") else rng.uniform(15, 40)),
        turn=float(rng.normal(0, 0.25)),
        lines=float(rng.uniform(1.4, 2.6) * rng.choice([-1, 1])) if ground == "asphalt" and rng.random() < 0.6 else 0.0,
        seed=int(rng.integers(2**31)),
    )
