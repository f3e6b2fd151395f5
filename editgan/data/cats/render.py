"""One picture of a cat's face, with its part mask."""

import numpy as np

from editgan.data.animals.draw import draw
from editgan.data.animals.view import View, sample_backdrop, sample_light
from editgan.data.cats.identity import Cat
from editgan.data.cats.paint import CLASSES, painters
from editgan.data.cats.shape import build_cat

VERSION = 1  # raise when the same parameters would give different pictures
LABELS_VERSION = 1  # raise when the same pictures would get different part masks
UNIT = 0.35  # one unit of the head as a share of the picture's side
CENTRE = (0.5, 0.60)  # of the head
HUES = ((0.09, 0.02), (0.12, 0.03), (0.58, 0.05), (0.27, 0.05))  # wood, walls, blue, garden: mean, spread


def sample_view(rng: np.random.Generator) -> View:
    """Sample pose, framing, light and background."""
    limits = np.array([0.6, 0.22, 0.16])
    yaw, pitch, roll = np.clip(rng.normal(0, [0.24, 0.09, 0.06]), -limits, limits).tolist()
    return View(
        yaw=yaw,
        pitch=pitch,
        roll=roll,
        shift=tuple(rng.uniform(-0.03, 0.03, 2).tolist()),
        zoom=float(rng.uniform(0.95, 1.12)),
        **sample_light(rng),
        **sample_backdrop(rng, HUES, (0.05, 0.12, 0.05, 0.08, 0.70), vivid=0.7),
    )


def render(identity: Cat, view: View, size: int, supersample: int) -> tuple[np.ndarray, np.ndarray]:
    """Image uint8 [size, size, 3] and part mask uint8 [size, size]; `supersample` samples per pixel and axis."""
    cat, whiskers = build_cat(identity, view.yaw, view.pitch, view.roll)
    return draw(
        cat, painters(identity, view.light), view, size=size, supersample=supersample, classes=len(CLASSES.names),
        unit=UNIT, centre=CENTRE, fine=whiskers,
    )  # fmt: skip
