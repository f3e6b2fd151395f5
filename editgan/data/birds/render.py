"""One picture of a bird on its perch, with its part mask."""

import numpy as np

from editgan.data.animals.draw import draw
from editgan.data.animals.view import View, sample_backdrop, sample_light
from editgan.data.birds.identity import Bird
from editgan.data.birds.paint import CLASSES, painters
from editgan.data.birds.shape import build_bird, frame

VERSION = 1  # raise when the same parameters would give different pictures
LABELS_VERSION = 1  # raise when the same pictures would get different part masks
UNITS = {
    "songbird": 0.405,
    "corvid": 0.365,
    "wader": 0.335,
    "parrot": 0.375,
    "raptor": 0.40,
    "waterfowl": 0.34,
}  # shares of the side
CENTRE = {
    "songbird": 0.59,
    "corvid": 0.57,
    "wader": 0.60,
    "parrot": 0.55,
    "raptor": 0.56,
    "waterfowl": 0.60,
}  # height of the body
AHEAD = {
    "songbird": 0.06,
    "corvid": 0.07,
    "wader": -0.08,
    "parrot": 0.02,
    "raptor": 0.03,
    "waterfowl": 0.0,
}  # room for tail and beak
HUES = ((0.28, 0.06), (0.22, 0.05), (0.57, 0.04), (0.10, 0.02))  # leaves, meadow, sky and water, earth: mean, spread


def sample_view(rng: np.random.Generator) -> View:
    """Sample pose, framing, light and background: from the side, or half turned to the viewer."""
    turn = np.pi / 2 - abs(rng.normal(0, 0.42)) if rng.random() < 0.8 else np.pi / 2 + abs(rng.normal(0, 0.25))
    return View(
        yaw=float(rng.choice([-1, 1]) * np.clip(turn, 0.6, 2.1)),
        pitch=float(np.clip(rng.normal(0.10, 0.07), -0.02, 0.26)),
        roll=float(np.clip(rng.normal(0, 0.04), -0.1, 0.1)),
        shift=tuple(rng.uniform(-0.03, 0.03, 2).tolist()),
        zoom=float(rng.uniform(0.92, 1.08)),
        **sample_light(rng),
        **sample_backdrop(rng, HUES, (0.04, 0.16, 0.02, 0.10, 0.68), vivid=0.85),
    )


def render(identity: Bird, view: View, size: int, supersample: int) -> tuple[np.ndarray, np.ndarray]:
    """Image uint8 [size, size, 3] and part mask uint8 [size, size]; `supersample` samples per pixel and axis."""
    bird = build_bird(identity, view.yaw, view.pitch, view.roll)
    centre = (0.5 + AHEAD[identity.kind] * np.sin(view.yaw), CENTRE[identity.kind])
    return draw(
        bird, painters(identity, view, frame(identity).shoulder), view, size=size, supersample=supersample,
        classes=len(CLASSES.names), unit=UNITS[identity.kind], centre=centre,
    )  # fmt: skip
