"""The identity of a head: shape, skin, hair, brows, eyes, beard, glasses and clothes, drawn from a random stream."""

import re
from dataclasses import dataclass

import numpy as np

from editgan.data.drawing.colour import Colour, as_colour, hsv
from editgan.data.heads.mesh import HeadMesh

# fmt: off
SKIN = np.array([  # from the lightest to the darkest
    [0.99, 0.88, 0.81], [0.96, 0.80, 0.70], [0.90, 0.70, 0.57], [0.78, 0.57, 0.43], [0.60, 0.42, 0.30],
    [0.44, 0.30, 0.21], [0.31, 0.21, 0.16],
])
HAIR = {
    "black": (0.07, 0.06, 0.06), "dark brown": (0.17, 0.11, 0.08), "brown": (0.31, 0.20, 0.13),
    "light brown": (0.47, 0.33, 0.21), "blond": (0.78, 0.62, 0.38), "light blond": (0.90, 0.80, 0.58),
    "red": (0.58, 0.24, 0.10), "auburn": (0.36, 0.14, 0.09), "grey": (0.58, 0.57, 0.56), "white": (0.88, 0.87, 0.85),
}
IRIS = [
    (0.22, 0.13, 0.08), (0.34, 0.21, 0.11), (0.42, 0.36, 0.18), (0.30, 0.44, 0.26), (0.28, 0.46, 0.62),
    (0.45, 0.60, 0.72), (0.42, 0.45, 0.47),
]
LIPSTICKS = [(0.75, 0.12, 0.18), (0.85, 0.35, 0.42), (0.55, 0.12, 0.22), (0.80, 0.40, 0.35)]
LID_SHADOWS = [(0.45, 0.30, 0.42), (0.30, 0.38, 0.52), (0.42, 0.28, 0.20)]
FRAMES = [
    (0.06, 0.06, 0.07), (0.25, 0.13, 0.07), (0.55, 0.10, 0.12), (0.12, 0.20, 0.45), (0.72, 0.60, 0.30),
    (0.62, 0.63, 0.66),
]
SPREAD = {  # standard deviation of the shape axes, by part of the head
    "head": 0.34, "forehead": 0.5, "eyes": 0.8, "nose": 0.9, "cheek": 0.75, "chin": 0.7, "ears": 0.6, "mouth": 0.36,
    "neck": 0.25,
}
HAIR_STYLES = (
    "bald", "buzz", "short", "side part", "fringe", "bob", "long", "curly", "afro", "bun", "receding", "horseshoe",
    "quiff", "long fringe",
)
BEARDS = ("none", "moustache", "goatee", "full", "chinstrap")
# fmt: on


@dataclass(frozen=True)
class Identity:
    """What is the same in every picture of one head."""

    weights: dict[str, float]  # shape targets
    masculine: float  # 0..1
    age: float  # 0 child, 0.5 young, 1 old
    skin: Colour
    blush: float  # 0..1
    lips: Colour
    lid: Colour  # colour of the upper lids
    lashes: float  # 0..1
    hair_style: str
    hair: Colour
    hair_volume: float  # factor, about 1
    hair_height: float  # decimetres, shifts the hairline of the forehead
    hair_length: float  # 0..1
    hair_side: float  # -1 or 1: side of the parting
    hair_phase: tuple[float, ...]  # phases of the waves of strands and curls
    brow: Colour
    brow_thickness: float  # decimetres
    brow_arch: float
    brow_tilt: float
    brow_height: float
    iris: Colour
    beard: str
    beard_length: float  # 0..1
    glasses: str  # none, round, square, oval
    frame: Colour
    clothing: Colour
    collar: str  # crew, v, turtleneck, shirt
    trim: Colour


def sample_identity(mesh: HeadMesh, rng: np.random.Generator) -> Identity:
    """Draw an identity."""
    masculine = float(np.clip(rng.beta(0.35, 0.35), 0, 1))
    age = float(rng.choice([rng.uniform(0.15, 0.4), rng.uniform(0.5, 0.7), rng.uniform(0.7, 0.9)], p=[0.1, 0.5, 0.4]))
    origin = rng.dirichlet([0.35, 0.35, 0.35])  # african, asian, caucasian
    weights = _macro_weights(mesh, origin, masculine, age, rng)
    for positive, negative in mesh.axes:
        value = float(np.clip(rng.normal(0, _spread(positive)), -1, 1))
        if value >= 0 and (negative is not None or value > 0.25):
            weights[positive] = value
        elif value < 0 and negative is not None:
            weights[negative] = -value

    depth = float(np.clip(origin @ [0.85, 0.36, 0.22] + rng.normal(0, 0.13), 0, 1))
    skin = _ramp(SKIN, depth) * rng.uniform(0.96, 1.04, 3)
    feminine = 1 - masculine
    lipstick = feminine > 0.5 and rng.random() < 0.45
    natural = skin * [0.88, 0.62, 0.62]
    painted = np.array(LIPSTICKS[rng.integers(len(LIPSTICKS))])
    lips = 0.25 * natural + 0.75 * painted if lipstick else natural * rng.uniform(0.9, 1.06)
    shadow = np.array(LID_SHADOWS[rng.integers(len(LID_SHADOWS))])
    made_up = feminine > 0.5 and rng.random() < 0.35
    lid = 0.45 * skin + 0.55 * shadow if made_up else skin * 0.93

    hair = _hair_colour(depth, age, rng)
    style = _hair_style(masculine, age, origin, rng)
    brow = 0.75 * np.array(hair) * rng.uniform(0.55, 1.0) + 0.25 * skin * 0.4
    beard = rng.choice(BEARDS, p=[0.80, 0.05, 0.06, 0.05, 0.04]) if masculine > 0.6 and age >= 0.5 else "none"
    fair = 1 - depth
    iris = IRIS[rng.integers(0, 2 + round(5 * min(1.0, fair * 1.2)) if fair > 0.45 else 2)]
    glasses = rng.choice(["none", "round", "square", "oval"], p=[0.84, 0.05, 0.06, 0.05])
    hue = rng.uniform(0, 1)
    clothing = hsv(hue, rng.uniform(0, 0.75), rng.uniform(0.15, 0.95))
    return Identity(
        weights=weights,
        masculine=masculine,
        age=age,
        skin=as_colour(skin),
        blush=float(rng.uniform(0.1, 1)),
        lips=as_colour(lips),
        lid=as_colour(lid),
        lashes=float(0.35 + 0.6 * feminine * rng.random()),
        hair_style=style,
        hair=as_colour(hair),
        hair_volume=float(rng.uniform(0.75, 1.35)),
        hair_height=float(np.clip(rng.normal(0, 0.07), -0.14, 0.16)),
        hair_length=float(rng.random()),
        hair_side=float(rng.choice([-1, 1])),
        hair_phase=tuple(float(x) for x in rng.uniform(0, 2 * np.pi, 8)),
        brow=as_colour(brow),
        brow_thickness=float(rng.uniform(0.022, 0.055) + 0.03 * masculine * rng.random()),
        brow_arch=float(rng.uniform(0, 0.075) * (1.2 - 0.5 * masculine)),
        brow_tilt=float(rng.normal(0, 0.018)),
        brow_height=float(rng.normal(0, 0.028)),
        iris=as_colour(iris),
        beard=str(beard),
        beard_length=float(rng.random()),
        glasses=str(glasses),
        frame=FRAMES[rng.integers(len(FRAMES))],
        clothing=clothing,
        collar=str(rng.choice(["crew", "v", "turtleneck", "shirt"], p=[0.4, 0.25, 0.15, 0.2])),
        trim=hsv(hue + rng.uniform(0.3, 0.7), rng.uniform(0, 0.6), rng.uniform(0.2, 0.98)),
    )


def _macro_weights(
    mesh: HeadMesh, origin: np.ndarray, masculine: float, age: float, rng: np.random.Generator
) -> dict[str, float]:
    """MakeHuman's macro targets are products of origin, sex and age (and of build, sex and age)."""
    ages = {"child": max(0.0, 1 - 2 * age), "young": 1 - abs(2 * age - 1), "old": max(0.0, 2 * age - 1)}
    sexes = {"male": masculine, "female": 1 - masculine}
    thin, heavy, muscle = rng.dirichlet([0.7, 0.7, 0.5]) * rng.uniform(0.3, 1)
    builds = {
        "averagemuscle-minweight": thin,
        "averagemuscle-maxweight": heavy * 0.8,
        "maxmuscle-averageweight": muscle,
        "averagemuscle-averageweight": 1 - thin - heavy - muscle,
    }
    weights = {}
    for sex, share in sexes.items():
        for stage, part in ages.items():
            for name, portion in zip(("african", "asian", "caucasian"), origin, strict=True):
                weights[f"macro/{name}-{sex}-{stage}"] = float(share * part * portion)
            for build, portion in builds.items():
                if stage != "child":
                    weights[f"macro/universal-{sex}-{stage}-{build}"] = float(share * part * portion)
    return {name: weight for name, weight in weights.items() if weight > 0.02 and name in mesh.targets}


def _spread(target: str) -> float:
    """Standard deviation of a shape axis."""
    folder = re.match(r"[a-z]+", target).group()  # the part of the face that it shapes
    if "scale-depth" in target and folder == "mouth" or "prognathism" in target or "jaw-drop" in target:
        return 0.25
    if "trans-in" in target or "trans-out" in target:
        return 0.12
    if "mouth-angles" in target or "mouth-scale" in target or folder == "eyebrows":
        return 0.2
    if folder in ("nose", "mouth") and "-trans-" in target:
        return 0.25
    return SPREAD[folder]


def _hair_colour(depth: float, age: float, rng: np.random.Generator) -> np.ndarray:
    names = list(HAIR)
    dark = np.array([6, 4, 1, 0.1, 0.05, 0, 0.1, 0.4, 0, 0])
    fair = np.array([1, 2, 2.5, 2, 2, 1.2, 1.2, 0.8, 0, 0])
    blend = float(np.clip((depth - 0.2) / 0.4, 0, 1))
    odds = blend * dark / dark.sum() + (1 - blend) * fair / fair.sum()
    if age > 0.74:
        odds = 0.45 * odds + 0.55 * np.array([0, 0, 0, 0, 0, 0, 0, 0, 0.6, 0.4])
    return np.array(HAIR[names[rng.choice(len(names), p=odds / odds.sum())]]) * rng.uniform(0.85, 1.12)


def _hair_style(masculine: float, age: float, origin: np.ndarray, rng: np.random.Generator) -> str:
    #                  bald buzz short part fringe bob long curly afro bun recede shoe quiff long fringe
    male = np.array([0.7, 1.5, 2.0, 1.6, 1.0, 0.2, 0.5, 1.0, 0.2, 0.1, 0.8, 0.5, 1.3, 0.1])
    female = np.array([0.05, 0.2, 0.5, 0.8, 0.6, 2.0, 2.4, 1.2, 0.2, 1.3, 0.0, 0.0, 0.4, 1.6])
    odds = masculine * male + (1 - masculine) * female
    odds[7] *= 1 + 1.5 * origin[0]
    odds[8] *= 1 + 8 * origin[0]
    if age < 0.5:
        odds[[0, 10, 11]] = 0
    return str(HAIR_STYLES[rng.choice(len(odds), p=odds / odds.sum())])


def _ramp(table: np.ndarray, position: float) -> np.ndarray:
    grid = np.linspace(0, 1, len(table))
    return np.array([np.interp(position, grid, table[:, k]) for k in range(3)])
