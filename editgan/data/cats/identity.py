"""The identity of a cat: build, coat, eyes, ears and collar, with its expression, drawn from a random stream."""

from dataclasses import dataclass, fields, replace

import numpy as np

from editgan.data.drawing.colour import Colour, hsv
from editgan.errors import UserError

# fmt: off
TABBY = {  # ground, stripes, pale parts
    "brown": ((0.58, 0.48, 0.36), (0.17, 0.13, 0.10), (0.84, 0.77, 0.66)),
    "silver": ((0.66, 0.64, 0.62), (0.20, 0.19, 0.19), (0.90, 0.89, 0.87)),
    "orange": ((0.86, 0.61, 0.36), (0.66, 0.36, 0.16), (0.97, 0.87, 0.74)),
    "grey": ((0.55, 0.53, 0.50), (0.25, 0.23, 0.22), (0.82, 0.79, 0.75)),
    "cream": ((0.90, 0.77, 0.60), (0.76, 0.57, 0.39), (0.97, 0.91, 0.82)),
}
SOLID = {
    "black": (0.13, 0.12, 0.12), "blue": (0.46, 0.47, 0.50), "white": (0.93, 0.92, 0.90),
    "cream": (0.88, 0.76, 0.62), "chocolate": (0.33, 0.22, 0.17),
}
POINTS = {"seal": (0.20, 0.14, 0.12), "blue": (0.40, 0.40, 0.44), "chocolate": (0.38, 0.25, 0.19),
          "flame": (0.76, 0.50, 0.32)}
IRIS = [(0.62, 0.68, 0.34), (0.50, 0.64, 0.42), (0.76, 0.70, 0.34), (0.80, 0.60, 0.28), (0.74, 0.46, 0.22)]
BLUE_IRIS = [(0.35, 0.58, 0.85), (0.45, 0.68, 0.90)]
COATS = ("solid", "tabby", "bicolour", "tortoiseshell", "points")
BUILDS = ("domestic", "round", "flat", "slender")
BUILD_SHAPE = {  # width, height, cheeks, muzzle, eye width, eye height, eye tilt, ear height, ear width, ear spread
    "domestic": (0.96, 0.90, 0.10, 0.22, 0.205, 0.145, 0.20, 0.78, 0.36, 0.22),
    "round": (1.02, 0.91, 0.19, 0.18, 0.212, 0.168, 0.12, 0.64, 0.34, 0.30),
    "flat": (1.03, 0.92, 0.20, 0.05, 0.215, 0.182, 0.06, 0.55, 0.31, 0.42),
    "slender": (0.87, 0.92, 0.00, 0.30, 0.205, 0.135, 0.30, 0.98, 0.42, 0.28),
}
# fmt: on
LIMITS = {"ear_size": (0.5, 1.6), "eyes_closed": (0.0, 1.0), "eyes_wide": (0.0, 1.0), "mouth_open": (0.0, 1.0)}


@dataclass(frozen=True)
class Cat:
    """What is the same in every picture of one cat. Lengths are in units of about half the width of its head."""

    build: str
    width: float
    height: float
    cheeks: float
    muzzle: float
    chin: float
    eye_width: float
    eye_height: float
    eye_tilt: float  # radians
    eye_spacing: float
    eye_level: float
    pupil: float  # 0 slit, 1 round and wide
    iris: Colour
    ear_height: float
    ear_width: float
    ear_spread: float  # radians, outwards
    ear_tip: float  # 0 pointed, 1 round
    ear_fold: float  # 0 upright, 1 folded forwards
    nose_width: float
    fur: float  # length of the hair
    coat: str
    ground: Colour
    dark: Colour
    pale: Colour
    stripes: float  # strength of the stripes, 0..1
    banding: float  # factor of their number
    white: float  # extent of white, 0 none
    phase: tuple[float, ...]
    nose: Colour
    skin: Colour  # inside of the ears
    rim: Colour  # edge of the lids
    collar: bool
    collar_colour: Colour
    tag: bool
    neck: float
    trunk: float  # -1..1, side to which the body lies
    whisker: float
    ear_size: float = 1.0  # factor
    eyes_closed: float = 0.0  # 0 open, 1 closed
    eyes_wide: float = 0.0  # 0..1
    mouth_open: float = 0.0  # 0..1
    gaze: tuple[float, float] = (0.0, 0.0)


def sample_identity(rng: np.random.Generator) -> Cat:
    """Draw a cat."""
    build = str(rng.choice(BUILDS, p=[0.62, 0.14, 0.12, 0.12]))
    shape = np.array(BUILD_SHAPE[build])
    size = shape * np.clip(rng.normal(1, 0.06, 10), 0.85, 1.15)
    odds = {"slender": [0.2, 0.25, 0.1, 0.05, 0.4], "flat": [0.4, 0.15, 0.2, 0.1, 0.15]}
    coat = str(rng.choice(COATS, p=odds.get(build, [0.14, 0.50, 0.20, 0.11, 0.05])))
    tabby = list(TABBY)[rng.choice(len(TABBY), p=[0.36, 0.16, 0.28, 0.14, 0.06])]
    ground, dark, pale = TABBY[tabby]
    stripes, white = float(rng.uniform(0.45, 1.0)), 0.0
    if coat == "solid" or (coat == "bicolour" and rng.random() < 0.5):
        name = list(SOLID)[rng.choice(len(SOLID), p=[0.22, 0.25, 0.25, 0.18, 0.10])]
        if coat == "bicolour":
            name = str(rng.choice(["black", "blue"]))
        ground = dark = pale = SOLID[name]
        stripes = 0.0
    if coat == "bicolour" or rng.random() < 0.2:
        white = float(rng.uniform(0.45, 1.0))
    if coat == "tortoiseshell":
        ground, dark, pale = (0.80, 0.52, 0.28), (0.15, 0.13, 0.12), (0.90, 0.76, 0.56)
    if coat == "points":
        ground, pale, white = (0.90, 0.83, 0.73), (0.94, 0.89, 0.81), 0.0
        dark = POINTS[list(POINTS)[rng.choice(len(POINTS), p=[0.5, 0.2, 0.15, 0.15])]]
    shade = rng.uniform(0.88, 1.08)
    ground, dark, pale = (tuple(np.clip(np.array(c) * shade, 0.03, 0.97).tolist()) for c in (ground, dark, pale))
    blue = coat == "points" or (sum(ground) > 2.7 and rng.random() < 0.4)
    irises = BLUE_IRIS if blue else IRIS
    iris = np.array(irises[rng.integers(len(irises))]) * rng.uniform(0.85, 1.1)
    lightness = sum(ground) / 3
    pink, dusk = np.array([0.86, 0.58, 0.55]), np.array([0.30, 0.22, 0.21])
    bare = pink if lightness > 0.5 and coat != "points" or white > 0.6 else dusk
    long = {"flat": 0.75, "slender": 0.05}.get(build, 0.25)
    return Cat(
        build=build,
        width=float(size[0]),
        height=float(size[1]),
        cheeks=float(size[2]),
        muzzle=float(size[3]),
        chin=float(rng.uniform(0.04, 0.12)),
        eye_width=float(size[4]),
        eye_height=float(size[5]),
        eye_tilt=float(size[6]),
        eye_spacing=float(rng.uniform(0.37, 0.42)),
        eye_level=float(rng.uniform(0.02, 0.09)),
        pupil=float(rng.beta(1.2, 1.0)),
        iris=tuple(np.clip(iris, 0, 1).tolist()),
        ear_height=float(size[7]),
        ear_width=float(size[8]),
        ear_spread=float(size[9] + rng.normal(0, 0.05)),
        ear_tip=float(rng.uniform(0.1, 0.6)),
        ear_fold=float(rng.uniform(0.7, 1.0) if build == "round" and rng.random() < 0.3 else 0.0),
        nose_width=float(rng.uniform(0.115, 0.15)),
        fur=float(rng.uniform(0.20, 0.30) if rng.random() < long else rng.uniform(0.11, 0.19)),
        coat=coat,
        ground=ground,
        dark=dark,
        pale=pale,
        stripes=stripes if coat in ("tabby", "bicolour") else 0.0,
        banding=float(rng.uniform(0.85, 1.45)),
        white=white,
        phase=tuple(rng.uniform(0, 2 * np.pi, 8).tolist()),
        nose=tuple((bare * rng.uniform(0.85, 1.1)).tolist()),
        skin=tuple((0.75 * np.array([0.93, 0.70, 0.65]) + 0.25 * np.array(ground)).tolist()),
        rim=tuple((np.array([0.10, 0.08, 0.07]) if lightness < 0.88 else np.array([0.62, 0.45, 0.42])).tolist()),
        collar=bool(rng.random() < 0.45),
        collar_colour=hsv(rng.random(), rng.uniform(0.3, 0.95), rng.uniform(0.25, 0.9)),
        tag=bool(rng.random() < 0.6),
        neck=float(rng.uniform(0.9, 1.12)),
        trunk=float(rng.uniform(-1, 1)),
        whisker=float(rng.uniform(0.7, 1.3)),
        eyes_closed=float(rng.uniform(0.85, 1.0) if rng.random() < 0.05 else rng.uniform(0, 0.25)),
        eyes_wide=float(rng.uniform(0, 0.6)),
        mouth_open=float(rng.uniform(0.25, 1.0) if rng.random() < 0.14 else 0.0),
        gaze=tuple(np.clip(rng.normal(0, 0.3, 2), -0.8, 0.8).tolist()),
    )


def changed(identity: Cat, name: str, amount: float) -> Cat:
    """The same cat with `amount` added to one attribute, within its limits.

    Attributes: ear_size (factor of the ears' size, 0.5..1.6), eyes_closed, eyes_wide and mouth_open (0..1).

    Raises:
        UserError: another attribute.
    """
    if name not in LIMITS:
        raise UserError(f"cats have no attribute {name!r} to change; known: {', '.join(LIMITS)}")
    low, high = LIMITS[name]
    return replace(identity, **{name: float(np.clip(getattr(identity, name) + amount, low, high))})


def attributes(identity: Cat, view) -> dict[str, float]:
    """The numbers of a cat and a view. Each build and each coat is 1 or 0."""
    numbers = {
        field.name: float(getattr(identity, field.name))
        for field in fields(Cat)
        if isinstance(getattr(identity, field.name), (bool, float))
    }
    kinds = {f"build_{name}": float(identity.build == name) for name in BUILDS}
    coats = {f"coat_{name}": float(identity.coat == name) for name in COATS}
    ears = {"ear_length": identity.ear_height * identity.ear_size}
    return numbers | ears | kinds | coats | view.attributes()
