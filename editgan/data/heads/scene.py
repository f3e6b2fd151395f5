"""What varies between pictures of one head: facial expression and view."""

from dataclasses import dataclass, replace

import numpy as np

from editgan.data.drawing.colour import Colour, hsv


@dataclass(frozen=True)
class Expression:
    """Intensities of face units; all 0 is a neutral face."""

    smile: float = 0.0  # 0..1
    teeth: float = 0.0  # 0..1, how far a smile opens the lips
    mouth_open: float = 0.0  # 0..1
    brow_raise: float = 0.0  # 0..1
    frown: float = 0.0  # 0..1
    blink: float = 0.0  # 0 open, 1 closed
    gaze_x: float = 0.0  # -1..1, to the person's left
    gaze_y: float = 0.0  # -1..1, up

    def units(self) -> dict[str, float]:
        """Weights of the mesh's face units."""
        s = self.smile
        part = s * self.teeth
        both = {
            "mouthSmile": 1.6 * s,
            "cheekSquint": 1.1 * s,
            "eyeSquint": 0.3 * s,
            "mouthUpperUp": 1.1 * part,
            "mouthLowerDown": 0.85 * part,
            "mouthStretch": 0.3 * s,
            "mouthFrown": 0.8 * self.frown,
            "browDown": 0.8 * self.frown,
            "browOuterUp": 0.8 * self.brow_raise,
            "eyeBlink": self.blink,
            "eyeWide": 0.45 + 0.4 * self.brow_raise,
            "eyeLookUp": max(0.0, self.gaze_y),
            "eyeLookDown": max(0.0, -self.gaze_y),
        }
        weights = {f"unit/{name}{side}": w for name, w in both.items() for side in ("Left", "Right") if w > 0}
        left, right = max(0.0, self.gaze_x), max(0.0, -self.gaze_x)
        gaze = {"eyeLookOutLeft": left, "eyeLookInRight": left, "eyeLookInLeft": right, "eyeLookOutRight": right}
        jaw = {"jawOpen": 0.3 * part + 0.55 * self.mouth_open, "browInnerUp": 0.4 * self.brow_raise}
        return weights | {f"unit/{name}": w for name, w in (gaze | jaw).items() if w > 0}


@dataclass(frozen=True)
class View:
    """Pose of the head, framing, light and background."""

    yaw: float  # radians, positive turns the face to the right of the picture
    pitch: float  # radians, positive looks down
    roll: float  # radians
    shift: tuple[float, float]  # fractions of the side
    zoom: float
    light: tuple[float, float, float]  # direction to the light: right, up, towards the viewer
    key: Colour
    ambient: Colour
    backdrop: str  # plain, gradient, two-tone, spot
    colours: tuple[Colour, Colour]
    angle: float  # radians, direction of the gradient or the border
    offset: float  # -1..1, position of the border


def sample_expression(rng: np.random.Generator) -> Expression:
    """Sample a training expression: about half smile, at varying intensity; most others have the mouth closed."""
    kind = rng.random()
    strength, width, gap = rng.uniform(0.15, 1.0), rng.uniform(0.2, 1), rng.uniform(0.1, 1)
    shown = {}
    if kind < 0.55:
        shown = {"smile": strength, "teeth": width}
    elif kind < 0.65:
        shown = {"mouth_open": gap}
    elif kind < 0.72:
        shown = {"frown": gap}
    raised, blinking = min(1.0, max(0.0, rng.normal(-0.15, 0.45))), rng.random()
    lids = rng.uniform(0.85, 1.0) if blinking < 0.04 else rng.uniform(0, 0.12)
    gaze_x, gaze_y = np.clip(rng.normal(0, [0.35, 0.2]), -0.9, 0.9).tolist()
    return Expression(**shown, brow_raise=raised * ("frown" not in shown), blink=lids, gaze_x=gaze_x, gaze_y=gaze_y)


def sample_neutral(rng: np.random.Generator) -> tuple[Expression, Expression]:
    """A neutral face and the same face truly smiling: identical except for the smile."""
    raised, lids = min(0.4, max(0.0, rng.normal(-0.2, 0.2))), rng.uniform(0, 0.1)
    gaze_x, gaze_y = np.clip(rng.normal(0, [0.3, 0.15]), -0.7, 0.7).tolist()
    calm = Expression(brow_raise=raised, blink=lids, gaze_x=gaze_x, gaze_y=gaze_y)
    return calm, replace(calm, smile=rng.uniform(0.9, 1.0), teeth=rng.uniform(0.8, 1.0))


def sample_view(rng: np.random.Generator) -> View:
    """Sample pose, framing, light and background."""
    limits = np.array([0.45, 0.18, 0.07])
    yaw, pitch, roll = np.clip(rng.normal(0, [0.19, 0.06, 0.03]), -limits, limits).tolist()
    turn, height = rng.normal(0, 0.7), rng.uniform(0.15, 0.8)
    light = np.array([np.sin(turn) * np.cos(height), np.sin(height), np.cos(turn) * np.cos(height)])
    warmth, level = rng.normal(0, 0.05), rng.uniform(0.85, 1.1)
    key = np.array([1 + warmth, 1.0, 1 - warmth]) * level
    ambient = np.array([1 - warmth / 2, 1.0, 1 + warmth / 2]) * rng.uniform(0.34, 0.55)
    hue = rng.random()
    first = hsv(hue, rng.uniform(0, 0.55), rng.uniform(0.2, 0.95))
    second = hsv(hue + rng.normal(0, 0.12), rng.uniform(0, 0.6), rng.uniform(0.15, 0.95))
    return View(
        yaw=yaw,
        pitch=pitch,
        roll=roll,
        shift=tuple(rng.uniform(-0.012, 0.012, 2).tolist()),
        zoom=rng.uniform(0.97, 1.03),
        light=tuple(light.tolist()),
        key=tuple(key.tolist()),
        ambient=tuple(ambient.tolist()),
        backdrop=str(rng.choice(["plain", "gradient", "two-tone", "spot"], p=[0.2, 0.4, 0.15, 0.25])),
        colours=(first, second),
        angle=rng.uniform(0, 2 * np.pi),
        offset=rng.uniform(-0.5, 0.5),
    )
