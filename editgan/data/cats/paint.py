"""Colour and part class of every visible sample of a cat, from its place on the skin."""

from dataclasses import replace
from functools import partial

import numpy as np

from editgan.data.animals.draw import Painted, Samples
from editgan.data.archive import Classes
from editgan.data.cats.identity import Cat
from editgan.data.cats.shape import (
    CHEST,
    COLLAR,
    EAR,
    HEAD,
    INNER_EAR,
    MOUTH_WIDTH,
    NOSE_LEVEL,
    TAG,
    TRUNK,
    eye_field,
    mouth_line,
    nose_field,
)
from editgan.data.drawing.colour import smoothstep, waves

COLOURS = {  # of the part classes, in the order of their numbers
    "background": (24, 26, 32),
    "fur": (222, 168, 104),
    "left_ear": (120, 200, 120),
    "right_ear": (60, 150, 90),
    "left_inner_ear": (250, 170, 190),
    "right_inner_ear": (214, 120, 150),
    "left_eye": (60, 170, 230),
    "right_eye": (40, 110, 200),
    "left_pupil": (250, 250, 120),
    "right_pupil": (214, 200, 60),
    "nose": (214, 62, 88),
    "mouth": (120, 20, 40),
    "muzzle": (250, 230, 190),
    "whisker_pads": (236, 200, 150),
    "neck": (150, 110, 80),
    "collar": (200, 90, 200),
}
CLASSES = Classes(names=list(COLOURS), palette=np.array(list(COLOURS.values()), np.uint8))
CLASS = {name: number for number, name in enumerate(CLASSES.names)}


def painters(who: Cat, light: tuple[float, float, float]) -> dict:
    """A function for each material, from samples to albedo, gloss, class and normals."""
    return {
        HEAD: partial(_paint_head, who, light),
        EAR: partial(_paint_ear, who, False),
        INNER_EAR: partial(_paint_ear, who, True),
        CHEST: partial(_paint_chest, who, True),
        TRUNK: partial(_paint_chest, who, False),
        COLLAR: partial(_paint_plain, who.collar_colour, 0.25),
        TAG: partial(_paint_plain, (0.85, 0.72, 0.35), 0.6),
    }


def coat(place: np.ndarray, who: Cat) -> np.ndarray:
    """Albedo of the fur [P, 3] at places on the head, or below it for the chest."""
    x, y, z = np.abs(place[:, 0]), place[:, 1], place[:, 2]
    ground, dark, pale = (np.float32(c) for c in (who.ground, who.dark, who.pale))
    coarse, fine = waves(place, who.phase, 4.0), waves(place, who.phase[::-1], 26.0)
    body = smoothstep((-0.78 - y) / 0.1)
    colour = np.repeat(ground[None], len(place), 0) * (1 + 0.07 * coarse + 0.06 * fine)[:, None]
    if who.coat == "tortoiseshell":
        patch = waves(place * [1, 1, 1], who.phase, 5.5) + 0.5 * waves(place, who.phase[::-1], 11) + 0.25 * fine
        patch = patch + 0.35 * np.sin(who.phase[2]) * np.sign(place[:, 0]) - 0.05
        colour += smoothstep(patch / 0.2 + 0.5)[:, None] * (dark - colour)
    if who.coat == "points":
        near = np.hypot(x / 0.62, (y + 0.16) / 0.58) + 0.10 * coarse
        mask = smoothstep((1.25 - near) / 0.55) * smoothstep((z - 0.1) / 0.3) * (1 - body)
        colour += (0.95 * mask)[:, None] * (dark - colour)
        colour *= 1 - 0.12 * (body * smoothstep((x - 0.4) / 0.5))[:, None]
    if who.stripes:
        inside, out, up = eye_field(place, replace(who, eyes_closed=0.0, eyes_wide=0.0))
        front = smoothstep(z / 0.3)
        brow = np.cos(18.5 * who.banding * x * (1 - 0.35 * (y - 0.5)) + 1.2 * coarse - 2.2) + 0.45 * fine
        brow = smoothstep((brow - 0.05) / 0.5) * smoothstep((y - 0.20) / 0.14) * smoothstep((0.62 - x) / 0.18)
        cheek = np.sin(15.5 * who.banding * (y + 0.5 * x) + 1.6 * coarse + who.phase[1]) + 0.4 * fine
        cheek = smoothstep((cheek - 0.1) / 0.5) * smoothstep((x - 0.50) / 0.14) * smoothstep((y + 0.85) / 0.1)
        flank = np.sin(10.5 * who.banding * y + 2.2 * x + 1.8 * coarse + who.phase[2]) + 0.4 * fine
        flank = smoothstep((flank - 0.05) / 0.5) * body * (0.35 + 0.65 * smoothstep((x - 0.25) / 0.3))
        line = smoothstep(1.3 - np.abs(up + 0.1 * (out - 1)) / 0.22) * smoothstep((out - 0.95) / 0.15) * front
        line = line * smoothstep((2.6 - out) / 0.6) * (1 - body)
        stripe = np.clip(np.maximum(np.maximum(brow, cheek), np.maximum(flank, line)), 0, 1) * who.stripes
        light = 0.75 * smoothstep((0.10 + inside) / 0.07) * (inside < 0.02)
        light = np.maximum(light, smoothstep((1.1 - np.hypot(x / 0.40, (y + 0.52) / 0.26)) / 0.4)) * front * (1 - body)
        light = np.maximum(light, 0.55 * body * smoothstep((0.45 - x) / 0.3) * smoothstep(z / 0.4))
        colour += (0.85 * light)[:, None] * (pale - colour)
        muzzle = smoothstep((np.hypot(x / 0.36, (y + 0.38) / 0.30) - 0.85) / 0.2)
        colour += (0.9 * stripe * np.maximum(muzzle, body) * (1 - 0.7 * light))[:, None] * (dark - colour)
    if who.white:
        half = np.interp(y, [-0.8, -0.55, -0.3, 0.0, 0.3, 0.7], [1.2, 0.75, 0.48, 0.20, 0.09, -0.05])
        edge = half * who.white + 0.06 * coarse + 0.03 * fine + 0.10 * np.sin(who.phase[3]) * np.sign(place[:, 0])
        patch = smoothstep((edge - x) / 0.06) * np.maximum(smoothstep(z / 0.2), body * (z > -0.2))
        colour += patch[:, None] * (np.float32([0.93, 0.92, 0.90]) - colour)
    return colour.astype(np.float32)


def _paint_head(who: Cat, light: tuple[float, float, float], at: Samples) -> Painted:
    rest, count = at.rest, len(at.rest)
    x, y, z = np.abs(rest[:, 0]), rest[:, 1], rest[:, 2]
    left = rest[:, 0] > 0
    albedo, normals = coat(rest, who), at.normals.copy()
    gloss, label = np.full(count, 0.05, np.float32), np.full(count, CLASS["fur"], np.uint8)
    front = z > 0.3
    label[(np.hypot(x / 0.42, (y + 0.40) / 0.34) < 1) & front] = CLASS["muzzle"]
    label[(np.hypot((x - 0.18) / 0.17, (y + 0.365) / 0.115) < 1) & front] = CLASS["whisker_pads"]
    spots = np.cos(46 * x) * np.cos(52 * y + 1) > 0.55
    pads = (np.hypot((x - 0.17) / 0.12, (y + 0.36) / 0.07) < 1) & spots & front
    albedo[pads] *= 0.72

    line = mouth_line(rest)
    across = MOUTH_WIDTH - x
    gap = 0.055 * min(1.0, 3 * who.mouth_open)
    below = line - y
    mouth = (np.minimum(np.minimum(below + 0.026, 0.026 + gap - below), across) > 0) & front
    split = (x < 0.02) & (y < NOSE_LEVEL - 0.08) & (y > line) & front
    albedo[mouth | split] = 0.2 * albedo[mouth | split] + 0.8 * np.float32([0.13, 0.07, 0.07])
    if who.mouth_open > 0:
        inside = mouth & (below > 0.0) & (below < gap)
        depth = np.clip(below / max(gap, 1e-6), 0, 1)
        tongue = smoothstep((depth - 0.45) / 0.15) * smoothstep((0.17 - x) / 0.04)
        cavity = np.float32([0.34, 0.10, 0.11]) + tongue[:, None] * np.float32([0.52, 0.32, 0.33])
        albedo[inside] = cavity[inside]
        fang = inside & (np.abs(x - 0.12) < 0.024 * (1 - depth / 0.5)) & (depth < 0.5)
        albedo[fang] = [0.96, 0.94, 0.88]
    label[mouth | split] = CLASS["mouth"]

    nose = nose_field(rest, who)
    bare = smoothstep(nose / 0.012 + 0.5)[:, None]
    albedo += bare * (np.float32(who.nose) - albedo)
    nostril = (np.hypot((x - 0.62 * who.nose_width) / 0.032, (y - NOSE_LEVEL + 0.035) / 0.018) < 1) & (nose > -0.02)
    albedo[nostril] = [0.10, 0.06, 0.06]
    label[nose > 0] = CLASS["nose"]
    gloss[nose > 0] = 0.22

    eye, out, up = eye_field(rest, who)
    rim = smoothstep((eye + 0.045) / 0.02)[:, None]
    albedo += rim * (np.float32(who.rim) - albedo)
    seen = eye > 0
    if seen.any():
        e_out, e_up, sign = out[seen], up[seen], np.where(left[seen], 1.0, -1.0)
        gx, gy = e_out * sign - 0.16 * who.gaze[0], e_up - 0.10 * who.gaze[1] - 0.02
        distance = np.hypot(gx, gy)
        turn = np.arctan2(gy, gx)
        rays = 1 + 0.10 * np.sin(11 * turn + who.phase[4]) * np.sin(17 * turn + who.phase[5])
        iris = np.float32(who.iris) * (rays * (1.10 - 0.25 * smoothstep((distance - 0.3) / 0.5)))[:, None]
        iris *= (1 - 0.6 * smoothstep((distance - 0.66) / 0.25))[:, None]  # the dark edge of the iris
        iris *= (0.45 + 0.55 * smoothstep(eye[seen] / 0.055))[:, None]  # in the shade of the lids
        iris *= (1 - 0.30 * smoothstep((e_up - 0.1) / 0.5))[:, None]
        half = 0.13 + 0.33 * who.pupil
        tall = max(0.62, half)
        pupil = np.hypot(gx / half, gy / tall) < 1
        iris[pupil] = [0.025, 0.025, 0.03]
        shine = np.hypot(e_out * sign - 0.30 * np.sign(light[0] + 1e-6), e_up - 0.26) < 0.13
        iris[shine] = [1.0, 1.0, 1.0]
        albedo[seen] = iris / (1 + at.tone[seen, None])
        label[seen] = np.where(left[seen], CLASS["left_eye"], CLASS["right_eye"])
        label[np.flatnonzero(seen)[pupil]] = np.where(left[seen][pupil], CLASS["left_pupil"], CLASS["right_pupil"])
        bulge = np.stack([e_out * sign * 0.6, e_up * 0.6, np.full(len(e_up), 0.8)], 1)
        normals[seen] = 0.35 * normals[seen] + 0.65 * bulge
        gloss[seen] = 0.9
    return albedo, gloss, label, normals


def _paint_ear(who: Cat, front: bool, at: Samples) -> Painted:
    across, up, side = at.rest.T
    left, count = side > 0, len(side)
    place = np.column_stack([side * (0.62 + 0.12 * across), 0.72 + 0.2 * up, np.full(count, 0.35)])
    hair = coat(place, who) * np.float32(0.9 if who.coat in ("tabby", "bicolour") else 1.0)
    if who.coat == "points":
        hair = np.repeat(np.float32([who.dark]), count, 0)
    edge = smoothstep((np.abs(across) - 0.62) / 0.12) + smoothstep((up - 0.78) / 0.08)
    label = np.where(left, CLASS["left_ear"], CLASS["right_ear"]).astype(np.uint8)
    if not front:
        return hair, np.full(count, 0.04, np.float32), label, at.normals
    skin = np.float32(who.skin) * (0.62 + 0.38 * np.abs(across) + 0.1 * up)[:, None]
    pale = 0.5 * np.float32(who.pale) + 0.5 * np.float32(who.ground) + 0.1
    skin = np.where((np.abs(at.tone) > 0)[:, None], np.clip(pale, 0, 0.95), skin)
    albedo = skin + np.clip(edge, 0, 1)[:, None] * (hair - skin)
    inner = edge < 0.5
    label[inner] = np.where(left[inner], CLASS["left_inner_ear"], CLASS["right_inner_ear"])
    return albedo.astype(np.float32), np.full(count, 0.04, np.float32), label, at.normals


def _paint_chest(who: Cat, front: bool, at: Samples) -> Painted:
    """Neck and chest, or the body behind them, which has no white in front."""
    share, cos, sin = at.rest.T
    depth = sin if front else np.full_like(sin, -1.0)
    place = np.column_stack([1.1 * cos, np.minimum(0.1 - 2.8 * share, -0.9), depth]).astype(np.float32)
    albedo = coat(place, who)
    count = len(share)
    return albedo, np.full(count, 0.04, np.float32), np.full(count, CLASS["neck"], np.uint8), at.normals


def _paint_plain(colour: tuple[float, float, float], gloss: float, at: Samples) -> Painted:
    count = len(at.rest)
    albedo = np.repeat(np.float32([colour]), count, 0)
    return albedo, np.full(count, gloss, np.float32), np.full(count, CLASS["collar"], np.uint8), at.normals
