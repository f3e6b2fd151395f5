"""Colour and part class of every visible sample, computed from its position on the base head.

Brows, beards, collars and the borders between parts are painted on the base head, so they follow the skin exactly for
any shape, expression and pose.
"""

from functools import partial

import numpy as np

from editgan.data.archive import Classes
from editgan.data.drawing.colour import smoothstep, waves
from editgan.data.heads.hair import azimuth
from editgan.data.heads.identity import Identity
from editgan.data.heads.mesh import BODY, GLASSES, HAIR, LASHES, LEFT_EYE, RIGHT_EYE, TEETH, TONGUE, HeadMesh

COLOURS = {  # of the part classes, in the order of their numbers
    "background": (24, 26, 32),
    "skin": (236, 186, 150),
    "left_brow": (122, 78, 42),
    "right_brow": (168, 112, 56),
    "left_eye": (60, 170, 230),
    "right_eye": (40, 110, 200),
    "nose": (250, 214, 120),
    "upper_lip": (214, 62, 88),
    "lower_lip": (160, 30, 70),
    "mouth_interior": (250, 250, 250),
    "left_ear": (120, 200, 120),
    "right_ear": (60, 150, 90),
    "hair": (96, 66, 150),
    "neck": (222, 150, 116),
    "facial_hair": (130, 130, 60),
    "glasses": (20, 230, 220),
    "clothing": (200, 90, 200),
}
CLASSES = Classes(names=list(COLOURS), palette=np.array(list(COLOURS.values()), np.uint8))
CLASS = {name: number for number, name in enumerate(CLASSES.names)}
MOUTH_LINE = 6.612  # decimetres, height where the lips of the base head meet


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
    strap = np.minimum(jaw, 6.40 + 0.9 * smoothstep((x - 0.42) / 0.25) - y)
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


Painted = tuple[np.ndarray, np.ndarray, np.ndarray]  # albedo float32 [P, 3], gloss float32 [P], part class uint8 [P]


def paint(
    mesh: HeadMesh, rest: np.ndarray, material: np.ndarray, parts: dict[str, np.ndarray], who: Identity
) -> Painted:
    """Albedo (sRGB), gloss and part class of P visible samples.

    Args:
        rest: positions on the base head  # float32 [P, 3]
        material: uint8 [P]
        parts: weights in 0..1, for samples on the body  # float32 [P] each
    """
    count = len(material)
    albedo = np.empty((count, 3), np.float32)
    gloss = np.zeros(count, np.float32)
    label = np.zeros(count, np.uint8)
    for number, painter in _PAINTERS.items():
        here = np.flatnonzero(material == number)
        if len(here):
            here_parts = {name: weight[here] for name, weight in parts.items()}
            albedo[here], gloss[here], label[here] = painter(mesh, rest[here], here_parts, who)
    return albedo, gloss, label


def _paint_body(mesh: HeadMesh, rest: np.ndarray, parts: dict[str, np.ndarray], who: Identity) -> Painted:
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


def _plain(count: int, colour: tuple[float, float, float], gloss: float, name: str) -> Painted:
    """The same colour, gloss and class for every sample."""
    albedo = np.repeat(np.float32([colour]), count, 0)
    return albedo, np.full(count, gloss, np.float32), np.full(count, CLASS[name], np.uint8)


def _paint_eye(side: int, name: str, mesh: HeadMesh, rest: np.ndarray, parts: dict, who: Identity) -> Painted:
    centre = mesh.rest[mesh.eye_vertices(side)].mean(0)
    distance = np.hypot(rest[:, 0] - centre[0], rest[:, 1] - centre[1])  # from the axis of the eye, decimetres
    ring = smoothstep((distance - 0.025) / 0.045)[:, None]
    colour = np.float32(who.iris) * (1.35 - 0.75 * ring)
    colour = np.where(distance[:, None] < 0.03, np.float32([0.03, 0.03, 0.035]), colour)
    white = np.float32([0.95, 0.94, 0.93]) * (1 - 0.10 * smoothstep((distance - 0.1) / 0.05))[:, None]
    _, gloss, label = _plain(len(rest), who.iris, 1.0, name)
    return np.where(distance[:, None] < 0.07, colour, white).astype(np.float32), gloss, label


def _paint_teeth(mesh: HeadMesh, rest: np.ndarray, parts: dict, who: Identity) -> Painted:
    gaps = 1 - 0.10 * (np.abs(np.sin(rest[:, 0] * 32)) < 0.2)
    albedo, gloss, label = _plain(len(rest), (0.97, 0.95, 0.90), 0.2, "mouth_interior")
    return albedo * gaps[:, None].astype(np.float32), gloss, label


def _paint_tongue(mesh: HeadMesh, rest: np.ndarray, parts: dict, who: Identity) -> Painted:
    return _plain(len(rest), (0.68, 0.28, 0.28), 0.2, "mouth_interior")


def _paint_lashes(mesh: HeadMesh, rest: np.ndarray, parts: dict, who: Identity) -> Painted:
    albedo, gloss, label = _plain(len(rest), (0.08, 0.06, 0.05), 0.0, "right_eye")
    label[rest[:, 0] > 0] = CLASS["left_eye"]
    return albedo, gloss, label


def _paint_glasses(mesh: HeadMesh, rest: np.ndarray, parts: dict, who: Identity) -> Painted:
    return _plain(len(rest), who.frame, 0.3, "glasses")


def _paint_hair(mesh: HeadMesh, rest: np.ndarray, parts: dict, who: Identity) -> Painted:
    curly = who.hair_style in ("curly", "afro")
    if curly:
        strands = waves(rest, who.hair_phase, 24)
    else:
        turn = azimuth(rest) * np.sign(rest[:, 0] + 1e-6)
        strands = 0.6 * np.sin(17 * turn + who.hair_phase[3] + 2 * np.sin(3 * rest[:, 1] + who.hair_phase[4]))
        strands = strands + 0.4 * np.sin(41 * turn + who.hair_phase[5])
    _, gloss, label = _plain(len(rest), who.hair, 0.04 if curly else 0.16, "hair")
    tone = np.float32(who.hair) * (1 + (0.24 if curly else 0.17) * strands[:, None])
    return np.clip(tone, 0, 1), gloss * (1 + 0.6 * strands), label


_PAINTERS = {
    BODY: _paint_body,
    LEFT_EYE: partial(_paint_eye, LEFT_EYE, "left_eye"),
    RIGHT_EYE: partial(_paint_eye, RIGHT_EYE, "right_eye"),
    TEETH: _paint_teeth,
    TONGUE: _paint_tongue,
    LASHES: _paint_lashes,
    HAIR: _paint_hair,
    GLASSES: _paint_glasses,
}
