"""What varies between pictures of one animal: pose, framing, light and background."""

from dataclasses import dataclass

import numpy as np

from editgan.data.drawing.colour import Colour, backdrop, hsv, smoothstep


@dataclass(frozen=True)
class View:
    """Pose, framing, light and background. The backgrounds are those of the heads, and `blurred`: a scene out of focus.

    `key`, `ambient`, `light`, `colours`, `angle` and `offset` are as in `editgan.data.heads.scene.View`.
    """

    yaw: float  # radians, positive turns the animal's face to the right of the picture
    pitch: float  # radians, positive looks down
    roll: float  # radians
    shift: tuple[float, float]  # fractions of the side
    zoom: float
    light: tuple[float, float, float]
    key: Colour
    ambient: Colour
    backdrop: str  # plain, gradient, two-tone, spot, blurred
    colours: tuple[Colour, Colour]
    spots: Colour  # of half of the blurred spots
    angle: float
    offset: float
    blobs: tuple[tuple[float, float, float], ...]  # centre (-1..1) and radius of each blurred spot

    def attributes(self) -> dict[str, float]:
        """Pose and framing as numbers."""
        return {"yaw": self.yaw, "pitch": self.pitch, "roll": self.roll, "zoom": self.zoom}


def sample_light(rng: np.random.Generator) -> dict:
    """Direction and colours of the key light, and colour of the sky."""
    turn, height = rng.normal(0, 0.7), rng.uniform(0.3, 1.0)
    light = np.array([np.sin(turn) * np.cos(height), np.sin(height), np.cos(turn) * np.cos(height)])
    warmth, level = rng.normal(0, 0.05), rng.uniform(0.8, 1.2)
    key = np.array([1 + warmth, 1.0, 1 - warmth]) * level
    ambient = np.array([1 - warmth / 2, 1.0, 1 + warmth / 2]) * rng.uniform(0.26, 0.5)
    return {"light": tuple(light.tolist()), "key": tuple(key.tolist()), "ambient": tuple(ambient.tolist())}


def sample_backdrop(
    rng: np.random.Generator, hues: tuple[tuple[float, float], ...], odds: tuple[float, ...], vivid: float = 1.0
) -> dict:
    """Kind and colours of the background. `hues`: mean and spread of the hue of each kind of scene, in turns.

    `vivid` scales the saturation.
    """
    mean, spread = hues[rng.integers(len(hues))]
    hue, saturation, value = rng.normal(mean, spread), vivid * rng.beta(1.4, 3.6), rng.uniform(0.15, 0.95)
    colours = [hsv(hue % 1, saturation, value)]
    for _ in range(2):
        near = hue + rng.normal(0, 0.04)
        bright = float(np.clip(value + rng.normal(0, 0.2), 0.08, 0.98))
        colours.append(hsv(near % 1, float(np.clip(saturation + rng.normal(0, 0.15), 0, 0.8)), bright))
    blobs = np.column_stack([rng.uniform(-1.1, 1.1, (9, 2)), rng.uniform(0.12, 0.55, 9)])
    return {
        "backdrop": str(rng.choice(["plain", "gradient", "two-tone", "spot", "blurred"], p=odds)),
        "colours": tuple(colours[:2]),
        "spots": colours[2],
        "angle": float(rng.uniform(0, 2 * np.pi)),
        "offset": float(rng.uniform(-0.5, 0.5)),
        "blobs": tuple(tuple(row) for row in blobs.tolist()),
    }


def background(view: View, size: int) -> np.ndarray:
    """Linear colour [size, size, 3] behind the animal."""
    if view.backdrop != "blurred":
        return backdrop(view, size)
    first, second, third = (np.float32(c) ** 2 for c in (*view.colours, view.spots))
    grid = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
    x, y = grid[None, :], grid[:, None]
    along = 0.5 + 0.5 * (np.cos(view.angle) * x + np.sin(view.angle) * y)
    colour = first + np.clip(along, 0, 1)[:, :, None] * (second - first)
    for number, (left, top, radius) in enumerate(view.blobs):
        inside = smoothstep(1.6 - np.hypot(x - left, y - top) / np.float32(radius))[:, :, None]
        colour = colour + 0.55 * inside * ((third if number % 2 else 0.5 * second) - colour)
    return colour.astype(np.float32)
