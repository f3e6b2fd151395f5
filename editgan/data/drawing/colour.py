"""Colours, smooth fields and plain backgrounds."""

import numpy as np

Colour = tuple[float, float, float]  # sRGB, 0..1


def as_colour(values) -> Colour:
    """Three values, clipped to the colours that things have."""
    return tuple(float(v) for v in np.clip(values, 0.02, 1.0))


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """The colour of a hue (a turn of the colour circle is 1), saturation and value."""
    k = (np.array([5, 3, 1]) + hue * 6) % 6
    return as_colour(value - value * saturation * np.clip(np.minimum(k, 4 - k), 0, 1))


def smoothstep(x: np.ndarray) -> np.ndarray:
    """Rise from 0 to 1 between 0 and 1, level at both ends."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def waves(rest: np.ndarray, phase: tuple[float, ...], frequency: float) -> np.ndarray:
    """A smooth random field, about -1..1, at rest positions [V, 3]."""
    x, y, z = (rest * np.float32(frequency)).T
    return (
        np.sin(x + phase[0] + 1.3 * np.sin(y + phase[1]))
        + np.sin(y * 1.2 + phase[2] + np.sin(z + phase[3]))
        + np.sin(z + phase[4] + 1.1 * np.sin(x * 0.9 + phase[5]))
    ) / 3


def backdrop(view, size: int) -> np.ndarray:
    """Linear colour [size, size, 3] of the background of a view, which has backdrop, colours, angle and offset."""
    first, second = (np.float32(c) ** 2 for c in view.colours)
    grid = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
    x, y = grid[None, :], grid[:, None]
    along = np.cos(view.angle) * x + np.sin(view.angle) * y  # [size, size]
    mix = {
        "plain": np.zeros((size, size), np.float32),
        "gradient": 0.5 + 0.45 * along,
        "two-tone": (along - view.offset) * size / 4 + 0.5,
        "spot": np.hypot(x, y + 0.1) / 1.3,
    }[view.backdrop]
    return first + np.clip(mix, 0, 1)[:, :, None].astype(np.float32) * (second - first)
