"""Colour and part class of every visible sample, computed from its position on the base head.

Brows, beards, collars and the borders between parts are painted on the base head, so they follow the skin exactly for
any shape, expression and pose.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from editgan.data.archive import Classes
from editgan.data.hair import azimuth, smoothstep, waves
from editgan.data.identity import Identity
from editgan.data.mesh import BODY, GLASSES, HAIR, LASHES, LEFT_EYE, RIGHT_EYE, TEETH, TONGUE, HeadMesh

CLASSES = Classes(
    names=[
        "background",
        "skin",
        "left_brow",
        "right_brow",
        "left_eye",
        "right_eye",
        "nose",
        "upper_lip",
        "lower_lip",
        "mouth_interior",
        "left_ear",
        "right_ear",
        "hair",
        "neck",
        "facial_hair",
        "glasses",
        "clothing",
    ],
    palette=np.array(
        [
            [24, 26, 32],
            [236, 186, 150],
            [122, 78, 42],
            [168, 112, 56],
            [60, 170, 230],
            [40, 110, 200],
            [250, 214, 120],
            [214, 62, 88],
            [160, 30, 70],
            [250, 250, 250],
            [120, 200, 120],
            [60, 150, 90],
            [96, 66, 150],
            [222, 150, 116],
            [130, 130, 60],
            [20, 230, 220],
            [200, 90, 200],
        ],
        np.uint8,
    ),
)
CLASS = {name: number for number, name in enumerate(CLASSES.names)}
MOUTH_LINE = 6.612  # decimetres, height where the lips of the base head meet


@dataclass(frozen=True)
class Samples:
    """P visible samples, in the coordinates of the base head."""

    rest: np.ndarray  # float32 [P, 3]
    material: np.ndarray  # uint8 [P]
    parts: dict[str, np.ndarray]  # float32 [P] in 0..1, for samples on the body


def brow_field(rest: np.ndarray, who: Identity) -> np.ndarray:
    """Positive within the brows; decimetres from the edge."""
    along = (np.abs(rest[:, 0]) - 0.115) / 0.40  # 0 at the inner end, 1 at the outer one
    middle = (
        7.505
        + who.brow_height
        + who.brow_tilt * (along - 0.4)
        + who.brow_arch * np.sin(np.pi * np.clip(along, 0, 1) ** 0.85)
        - 0.055 * np.clip(along, 0, 1.2) ** 2
    )
    half = who.brow_thickness * np.clip(1.05 - 0.65 * along**2, 0.05, 1)
    inside = half - np.abs(rest[:, 1] - middle)
    return np.where((along > 0) & (along < 1) & (rest[:, 2] > 0.9), inside, -1.0)


def beard_field(rest: np.ndarray, lips: np.ndarray, who: Identity) -> np.ndarray:
    """Positive where facial hair grows; decimetres from its edge. `lips` is the weight of the lips [P]."""
    x, y, z = np.abs(rest[:, 0]), rest[:, 1], rest[:, 2]
    moustache = np.minimum(0.042 - np.abs(y - (6.785 - 0.8 * x**2)), 0.31 - x)
    chin = np.minimum(np.minimum(0.26 - x, 6.50 - y), y - 6.02)
    around = np.minimum(np.minimum(x - 0.235, 0.33 - x), np.minimum(6.76 - y, y - 6.38))
    cheek_line = 6.60 + 0.62 * smoothstep((x - 0.30) / 0.42)
    jaw = np.minimum(np.minimum(cheek_line - y, y - (6.08 + 0.75 * np.clip(1.35 - z, 0, 1))), z - 0.62)
    strap = np.minimum(jaw, np.maximum(y - 6.02, 0) * 0 + (6.40 + 0.9 * smoothstep((x - 0.42) / 0.25) - y))
    field = {
        "none": np.full(len(rest), -1.0),
        "moustache": moustache,
        "goatee": np.maximum(np.maximum(moustache, around), chin),
        "full": np.maximum(np.maximum(moustache, jaw), around),
        "chinstrap": strap,
    }[who.beard]
    return np.where((lips > 0.3) | (z < 0.55), -1.0, field)


def neck_field(rest: np.ndarray) -> np.ndarray:
    """Positive below the jaw; decimetres from its line."""
    return 6.17 + 0.8 * np.clip(1.42 - rest[:, 2], 0, 0.85) - rest[:, 1]


def collar_field(rest: np.ndarray, who: Identity) -> np.ndarray:
    """Positive where clothes cover the body; decimetres from the edge."""
    x, y, z = np.abs(rest[:, 0]), rest[:, 1], rest[:, 2]
    front = smoothstep((z - 0.4) / 0.8)
    edge = {
        "crew": 5.97 - 0.10 * front,
        "v": 5.99 - 0.75 * front * np.clip(1 - x / 0.55, 0, 1),
        "turtleneck": 6.22 - 0.08 * front,
        "shirt": 6.08 - 0.50 * front * np.clip(1 - x / 0.28, 0, 1),
    }[who.collar]
    return edge - y


def nose_field(rest: np.ndarray) -> np.ndarray:
    """Positive on the nose; decimetres from its edge."""
    x, y, z = np.abs(rest[:, 0]), rest[:, 1], rest[:, 2]
    half = np.interp(y, [6.84, 6.90, 6.98, 7.06, 7.20, 7.36], [0.13, 0.195, 0.19, 0.135, 0.10, 0.075])
    return np.minimum(np.minimum(half - x, y - 6.845), np.minimum(7.38 - y, z - 1.3))


def paint(mesh: HeadMesh, samples: Samples, who: Identity) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Albedo float32 [P, 3] (sRGB), gloss float32 [P] and part class uint8 [P] of visible samples."""
    count = len(samples.material)
    albedo = np.empty((count, 3), np.float32)
    gloss = np.zeros(count, np.float32)
    label = np.zeros(count, np.uint8)
    for material, painter in _PAINTERS.items():
        here = np.flatnonzero(samples.material == material)
        if len(here):
            parts = {name: weight[here] for name, weight in samples.parts.items()}
            albedo[here], gloss[here], label[here] = painter(mesh, samples.rest[here], parts, who)
    return albedo, gloss, label


def _paint_body(mesh: HeadMesh, rest: np.ndarray, parts: dict[str, np.ndarray], who: Identity):
    x, y, z = rest.T
    skin, count = np.float32(who.skin), len(rest)
    left = x > 0
    albedo = np.repeat(skin[None], count, 0)
    gloss = np.full(count, 0.10, np.float32)
    label = np.full(count, CLASS["skin"], np.uint8)

    red = np.exp(-(((np.abs(x) - 0.42) / 0.2) ** 2) - ((y - 6.95) / 0.2) ** 2) * (z > 0.8)
    red = red + 0.6 * np.exp(-((x / 0.16) ** 2) - ((y - 6.95) / 0.12) ** 2) * (z > 1.4) + 0.6 * parts["ears"]
    albedo *= 1 - (0.22 * who.blush * red)[:, None] * np.float32([0.05, 0.8, 0.75])
    beside = np.exp(-(((np.abs(x) - 0.31) / 0.15) ** 2) - ((y - 7.39) / 0.035) ** 2) * (z > 1.0)  # upper lids
    albedo += (0.9 * beside)[:, None] * (np.float32(who.lid) - skin)
    rim = smoothstep(parts["eyelids"] * 1.2)[:, None] * who.lashes * np.where(y > 7.28, 0.8, 0.1)[:, None]
    albedo = albedo * (1 - rim) + rim * np.float32([0.10, 0.07, 0.06])

    neck = neck_field(rest) > 0
    label[neck] = CLASS["neck"]
    albedo[neck] *= 0.96
    nose = nose_field(rest) > 0
    label[nose] = CLASS["nose"]
    gloss[nose] = 0.2
    ear = parts["ears"] > 0.5
    label[ear & left], label[ear & ~left] = CLASS["left_ear"], CLASS["right_ear"]

    brow = brow_field(rest, who)
    hairs = 0.5 + 0.5 * np.sin(95 * x * np.sign(x) + 60 * y)
    strength = smoothstep(brow / 0.02 + 0.5) * (0.86 + 0.14 * hairs)
    albedo += (strength[:, None] * (np.float32(who.brow) - albedo)).astype(np.float32)
    label[(brow > 0) & left], label[(brow > 0) & ~left] = CLASS["left_brow"], CLASS["right_brow"]

    beard = beard_field(rest, parts["lips"], who)
    if who.beard != "none":
        tone = np.float32(who.hair) * np.float32(0.85 if sum(who.hair) < 2 else 1.0)
        strands = 1 + 0.16 * waves(rest, who.hair_phase, 55)
        strength = smoothstep(beard / 0.05 + 0.6)[:, None] * (0.55 + 0.35 * who.beard_length)
        albedo += strength * (tone * strands[:, None].astype(np.float32) - albedo)
        label[beard > 0] = CLASS["facial_hair"]
        gloss[beard > 0] = 0.02

    lips = smoothstep((parts["lips"] - 0.25) / 0.5)[:, None]
    tint = np.float32(who.lips) * np.where(y > MOUTH_LINE, 0.92, 1.04)[:, None].astype(np.float32)
    albedo += lips * (tint - albedo)
    lip = parts["lips"] > 0.5
    label[lip] = np.where(y[lip] > MOUTH_LINE, CLASS["upper_lip"], CLASS["lower_lip"])
    gloss[lip] = 0.3
    inside = (parts["mouth_inside"] > 0.5) & ~lip
    albedo[inside] = [0.30, 0.09, 0.09]
    label[inside] = CLASS["mouth_interior"]

    collar = collar_field(rest, who)
    dressed = (collar > 0) & ~ear
    fabric = np.float32(who.clothing) * (1 + 0.03 * np.sin(40 * x)[:, None].astype(np.float32))
    edge = (collar < (0.14 if who.collar == "shirt" else 0.05)) & (who.collar != "turtleneck")
    albedo[dressed] = np.where(edge[dressed, None], np.float32(who.trim), fabric[dressed])
    label[dressed] = CLASS["clothing"]
    gloss[dressed] = 0.0
    return np.clip(albedo, 0, 1), gloss, label


def _paint_eye(side: int, name: str):
    def painter(mesh: HeadMesh, rest: np.ndarray, parts: dict[str, np.ndarray], who: Identity):
        centre = mesh.rest[mesh.eye_vertices(side)].mean(0)
        distance = np.hypot(rest[:, 0] - centre[0], rest[:, 1] - centre[1])  # from the axis of the eye, decimetres
        iris = np.float32(who.iris)
        ring = smoothstep((distance - 0.025) / 0.045)[:, None]
        colour = iris * (1.35 - 0.75 * ring)
        colour = np.where(distance[:, None] < 0.03, np.float32([0.03, 0.03, 0.035]), colour)
        white = np.float32([0.95, 0.94, 0.93]) * (1 - 0.10 * smoothstep((distance - 0.1) / 0.05))[:, None]
        albedo = np.where(distance[:, None] < 0.07, colour, white).astype(np.float32)
        return albedo, np.full(len(rest), 1.0, np.float32), np.full(len(rest), CLASS[name], np.uint8)

    return painter


def _paint_teeth(mesh: HeadMesh, rest: np.ndarray, parts: dict[str, np.ndarray], who: Identity):
    gaps = 1 - 0.10 * (np.abs(np.sin(rest[:, 0] * 32)) < 0.2)
    albedo = np.float32([0.97, 0.95, 0.90]) * gaps[:, None].astype(np.float32)
    return albedo, np.full(len(rest), 0.2, np.float32), np.full(len(rest), CLASS["mouth_interior"], np.uint8)


def _paint_tongue(mesh: HeadMesh, rest: np.ndarray, parts: dict[str, np.ndarray], who: Identity):
    albedo = np.repeat(np.float32([[0.68, 0.28, 0.28]]), len(rest), 0)
    return albedo, np.full(len(rest), 0.2, np.float32), np.full(len(rest), CLASS["mouth_interior"], np.uint8)


def _paint_lashes(mesh: HeadMesh, rest: np.ndarray, parts: dict[str, np.ndarray], who: Identity):
    albedo = np.repeat(np.float32([[0.08, 0.06, 0.05]]), len(rest), 0)
    label = np.where(rest[:, 0] > 0, CLASS["left_eye"], CLASS["right_eye"]).astype(np.uint8)
    return albedo, np.zeros(len(rest), np.float32), label


def _paint_hair(mesh: HeadMesh, rest: np.ndarray, parts: dict[str, np.ndarray], who: Identity):
    curly = who.hair_style in ("curly", "afro")
    if curly:
        strands = waves(rest, who.hair_phase, 24)
    else:
        turn = azimuth(rest) * np.sign(rest[:, 0] + 1e-6)
        strands = 0.6 * np.sin(17 * turn + who.hair_phase[3] + 2 * np.sin(3 * rest[:, 1] + who.hair_phase[4]))
        strands = strands + 0.4 * np.sin(41 * turn + who.hair_phase[5])
    tone = np.float32(who.hair) * (1 + (0.24 if curly else 0.17) * strands[:, None])
    gloss = np.full(len(rest), 0.04 if curly else 0.16, np.float32) * (1 + 0.6 * strands)
    return np.clip(tone, 0, 1), gloss, np.full(len(rest), CLASS["hair"], np.uint8)


def _paint_glasses(mesh: HeadMesh, rest: np.ndarray, parts: dict[str, np.ndarray], who: Identity):
    albedo = np.repeat(np.float32([who.frame]), len(rest), 0)
    return albedo, np.full(len(rest), 0.3, np.float32), np.full(len(rest), CLASS["glasses"], np.uint8)


_PAINTERS = {
    BODY: _paint_body,
    LEFT_EYE: _paint_eye(LEFT_EYE, "left_eye"),
    RIGHT_EYE: _paint_eye(RIGHT_EYE, "right_eye"),
    TEETH: _paint_teeth,
    TONGUE: _paint_tongue,
    LASHES: _paint_lashes,
    HAIR: _paint_hair,
    GLASSES: _paint_glasses,
}
