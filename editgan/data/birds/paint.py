"""Colour and part class of every visible sample of a bird, from its place on the plumage."""

from functools import partial

import numpy as np

from editgan.data.animals.draw import Painted, Samples
from editgan.data.animals.view import View
from editgan.data.archive import Classes
from editgan.data.birds.identity import Bird
from editgan.data.birds.shape import BEAK, BODY, CREST, GROUND, HEAD, LEG, PERCH, TAIL, WING, eye_distance
from editgan.data.drawing.colour import smoothstep, waves

COLOURS = {  # of the part classes, in the order of their numbers
    "background": (24, 26, 32),
    "beak": (250, 190, 60),
    "eye": (60, 170, 230),
    "crown": (214, 62, 88),
    "head": (236, 186, 150),
    "neck": (222, 150, 116),
    "breast": (250, 230, 120),
    "belly": (250, 250, 250),
    "back": (122, 78, 42),
    "wing": (60, 150, 90),
    "tail": (96, 66, 150),
    "legs": (20, 230, 220),
}
CLASSES = Classes(names=list(COLOURS), palette=np.array(list(COLOURS.values()), np.uint8))
CLASS = {name: number for number, name in enumerate(CLASSES.names)}


def painters(who: Bird, view: View, shoulder: float) -> dict:
    """A function for each material, from samples to albedo, gloss, class and normals. `shoulder`: share of the axis."""
    return {
        HEAD: partial(_paint_head, who),
        CREST: partial(_paint_crest, who),
        BODY: partial(_paint_body, who, shoulder),
        WING: partial(_paint_wing, who),
        TAIL: partial(_paint_tail, who),
        BEAK: partial(_paint_beak, who),
        LEG: partial(_paint_leg, who),
        PERCH: partial(_paint_perch, who),
        GROUND: partial(_paint_ground, who, view),
    }


def _spread(colour: tuple[float, float, float], count: int) -> np.ndarray:
    return np.repeat(np.float32([colour]), count, 0)


def _blend(albedo: np.ndarray, weight: np.ndarray, colour) -> np.ndarray:
    """Move albedo [P, 3] towards a colour by weights [P] in 0..1."""
    return albedo + np.clip(weight, 0, 1)[:, None].astype(np.float32) * (np.float32(colour) - albedo)


def _done(albedo: np.ndarray, gloss: float, name: str, normals: np.ndarray) -> Painted:
    count = len(albedo)
    return albedo, np.full(count, gloss, np.float32), np.full(count, CLASS[name], np.uint8), normals


def _paint_head(who: Bird, at: Samples) -> Painted:
    rest, count = at.rest, len(at.rest)
    x, y, z = np.abs(rest[:, 0]), rest[:, 1], rest[:, 2]
    noise = waves(rest, who.phase, 6)
    top = y - 0.42 + 0.12 * z + 0.05 * noise
    albedo = _blend(_spread(who.face, count), smoothstep(top / 0.12 + 0.5), who.crown)
    albedo = _blend(albedo, smoothstep((-0.30 - y + 0.05 * noise) / 0.2 + 0.3), who.throat)
    albedo = _blend(albedo, smoothstep((-0.45 - z - 0.3 * y) / 0.3) * (y < 0.6), who.back)
    near = eye_distance(rest, who)
    line = smoothstep(1.4 - np.abs(y - 0.22 - 0.05 * (z - 0.5)) / 0.10) * smoothstep((x - 0.25) / 0.2)
    albedo = _blend(albedo, 0.85 * who.mask * line * smoothstep((z + 0.35) / 0.2), (0.09, 0.08, 0.08))
    albedo = _blend(albedo, 0.8 * who.ring * smoothstep((1.5 - near) / 0.2), (0.88, 0.84, 0.76))
    gloss, label = np.full(count, 0.06, np.float32), np.full(count, CLASS["head"], np.uint8)
    label[top > 0] = CLASS["crown"]
    rim, eye = near < 1.12, near < 1.0
    albedo[rim] = [0.05, 0.045, 0.045]
    albedo[eye] = np.float32(who.eye) * 0.9
    albedo[near < 0.6] = [0.02, 0.02, 0.02]
    glint = np.linalg.norm(rest - np.stack([0.84 * np.sign(rest[:, 0]), 0 * x + 0.31, 0 * x + 0.56], 1), axis=1)
    albedo[(glint < 0.40 * who.eye_size) & rim] = [0.95, 0.95, 0.95]
    label[near < 1.15] = CLASS["eye"]
    gloss[eye] = 0.4
    return np.clip(albedo, 0, 1), gloss, label, at.normals


def _paint_crest(who: Bird, at: Samples) -> Painted:
    return _done(_spread(who.crown, len(at.rest)), 0.05, "crown", at.normals)


def _paint_body(who: Bird, shoulder: float, at: Samples) -> Painted:
    share, cos, sin = at.rest.T
    count = len(share)
    lower = np.clip((share - shoulder) / (1 - shoulder), -1, 1)  # 0 at the shoulder, 1 at the tail
    noise = waves(at.rest * [9, 1.5, 1.5], who.phase, 1.6)
    albedo = _blend(_spread(who.throat, count), smoothstep((share - 0.6 * shoulder) / (0.4 * shoulder)), who.breast)
    albedo = _blend(albedo, smoothstep((lower - 0.36 + 0.06 * noise) / 0.22), who.belly)
    albedo = _blend(albedo, smoothstep((lower - 0.78) / 0.15) * 0.5, (0.86, 0.84, 0.80))
    above = sin - 0.12 + 0.10 * noise
    albedo = _blend(albedo, smoothstep(above / 0.35 + 0.4), who.back)
    side = np.arctan2(np.abs(cos), -sin)
    dots = np.cos(34 * share + 2.5 * np.sin(9 * side)) * np.cos(11 * side + np.floor(34 * share / np.pi) * 1.7)
    streak = smoothstep((dots - 0.25) / 0.3) * smoothstep((0.1 - above) / 0.2) * smoothstep((0.75 - lower) / 0.3)
    albedo = _blend(albedo, 0.7 * who.streaks * streak, 0.45 * np.float32(who.back))
    scales = 0.05 * np.cos(60 * share + 1.5 * np.cos(14 * side)) + 0.05 * noise
    albedo = albedo * (1 + scales)[:, None].astype(np.float32)
    label = np.full(count, CLASS["breast"], np.uint8)
    label[lower > 0.38] = CLASS["belly"]
    label[above > 0.10] = CLASS["back"]
    label[share < 0.75 * shoulder] = CLASS["neck"]
    return np.clip(albedo, 0, 1), np.full(count, 0.05, np.float32), label, at.normals


def _paint_wing(who: Bird, at: Samples) -> Painted:
    a, b, _ = at.rest.T
    count = len(a)
    small = smoothstep((0.34 - a) / 0.10)  # the coverts near the shoulder
    albedo = _blend(_spread(who.wing, count), 0.6 * small, who.back)
    edge = np.abs(np.sin(np.pi * (5.5 * b + 1.2 * a)))  # borders of the flight feathers
    albedo = _blend(albedo, 0.55 * smoothstep((0.35 - edge) / 0.3) * (1 - small), 0.35 * np.float32(who.wing))
    pale = 0.35 * np.float32(who.wing) + 0.65 * np.float32([0.85, 0.83, 0.78])
    albedo = _blend(albedo, 0.35 * smoothstep((edge - 0.88) / 0.1) * (1 - small), pale)
    row = np.cos(2 * np.pi * (9 * a + 0.5 * np.cos(np.pi * 5 * b)))
    albedo = _blend(albedo, 0.30 * small * smoothstep((row - 0.2) / 0.5), 0.5 * np.float32(who.wing))
    ragged = 0.025 * np.cos(np.pi * 5.5 * b)
    bar = np.maximum(
        smoothstep(1.5 - np.abs(a - 0.24 + ragged) / 0.022), smoothstep(1.5 - np.abs(a - 0.40 + ragged) / 0.026)
    )
    albedo = _blend(albedo, who.bars * bar, (0.92, 0.90, 0.85))
    albedo = _blend(albedo, 0.6 * smoothstep((a - 0.72) / 0.2), 0.35 * np.float32(who.wing))
    normals = at.normals
    return _done(np.clip(albedo, 0, 1), 0.08, "wing", normals)


def _paint_tail(who: Bird, at: Samples) -> Painted:
    share, cos, sin = at.rest.T
    albedo = _spread(who.tail_colour, len(share))
    lines = smoothstep((0.3 - np.abs(np.sin(4.5 * np.pi * cos))) / 0.3)
    albedo = _blend(albedo, 0.45 * lines * (sin > 0), 0.4 * np.float32(who.tail_colour))
    albedo = _blend(albedo, who.bars * smoothstep((np.abs(cos) - 0.85) / 0.1) * (share > 0.3), (0.88, 0.87, 0.84))
    albedo = _blend(albedo, 0.4 * (sin < -0.2), (0.75, 0.72, 0.68))
    return _done(albedo, 0.08, "tail", at.normals)


def _paint_beak(who: Bird, at: Samples) -> Painted:
    share, cos, sin = at.rest.T
    albedo = _spread(who.beak_colour, len(share))
    albedo = _blend(albedo, 0.6 * smoothstep(1.4 - np.abs(sin + 0.15) / 0.12), 0.25 * np.float32(who.beak_colour))
    albedo = _blend(albedo, 0.5 * smoothstep((share - 0.6) / 0.4), 0.4 * np.float32(who.beak_colour))
    nostril = (np.abs(share - 0.22) < 0.06) & (np.abs(sin - 0.35) < 0.15)
    albedo[nostril] = [0.08, 0.07, 0.07]
    return _done(albedo, 0.35, "beak", at.normals)


def _paint_leg(who: Bird, at: Samples) -> Painted:
    rings = 1 - 0.12 * (np.sin(40 * at.rest[:, 0]) > 0.4)
    return _done(_spread(who.leg_colour, len(at.rest)) * rings[:, None].astype(np.float32), 0.12, "legs", at.normals)


def _paint_perch(who: Bird, at: Samples) -> Painted:
    grain = waves(at.rest * [0.25, 1, 1], who.phase, 22) + 0.6 * waves(at.rest, who.phase[::-1], 7)
    albedo = _spread(who.perch_colour, len(at.rest)) * (1 + 0.28 * grain)[:, None].astype(np.float32)
    return _done(np.clip(albedo, 0.02, 1), 0.02, "background", at.normals)


def _paint_ground(who: Bird, view: View, at: Samples) -> Painted:
    """Earth or grass, which blurs into the background with the distance."""
    near = smoothstep((at.rest[:, 2] + 5) / 6)
    bent = at.rest + 0.25 * np.sin(2.3 * at.rest[:, [2, 0, 0]] + who.phase[0])
    grain = (
        waves(bent, who.phase, 5)
        + (waves(bent[:, ::-1], who.phase[::-1], 13) + waves(bent, who.phase[2:] * 2, 33)) * near
    )
    earth = 0.5 * np.float32(who.perch_colour) + 0.5 * np.float32(view.spots) * 0.8
    albedo = _spread(tuple(earth), len(at.rest)) * (1 + 0.13 * grain)[:, None].astype(np.float32)
    albedo = _blend(albedo, 0.85 * (1 - near), 0.9 * np.float32(view.colours[0]))
    return _done(np.clip(albedo, 0.02, 1), 0.0, "background", at.normals)
