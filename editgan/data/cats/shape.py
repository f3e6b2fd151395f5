"""The shape of a cat: head, ears, neck and chest, collar, fur and whiskers.

The head is a sphere of directions, stretched and displaced by smooth bumps: muzzle, pads, chin, bridge of the nose,
cheeks. A rest coordinate on the head is its direction; eyes, nose and mouth are painted there.
"""

from dataclasses import replace
from functools import cache

import numpy as np

from editgan.data.animals.surface import (
    Surface,
    both_sides,
    grown,
    join,
    roots,
    rotated,
    surface,
    tangent,
    tube,
    turned,
)
from editgan.data.cats.identity import Cat
from editgan.data.drawing.colour import smoothstep
from editgan.data.drawing.mesh import grid_faces, vertex_normals

HEAD, EAR, INNER_EAR, CHEST, TRUNK, COLLAR, TAG = range(7)
RINGS, COLUMNS = 60, 72
NOSE_LEVEL, MOUTH_LEVEL, MOUTH_WIDTH = -0.26, -0.425, 0.29


@cache
def directions() -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors [V, 3], denser towards the face, and the triangles between them."""
    theta = np.pi * np.linspace(0.004, 0.995, RINGS)[:, None] ** 1.35
    phi = np.linspace(0, 2 * np.pi, COLUMNS)[None]
    grid = [np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta) + 0 * phi]
    return np.stack(grid, -1).reshape(-1, 3), grid_faces(RINGS, COLUMNS)


def eye_field(rest: np.ndarray, who: Cat) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positive within the open eyes, with the place in the eye: outwards and up, in units of half its width."""
    x, y = np.abs(rest[:, 0]) - who.eye_spacing, rest[:, 1] - who.eye_level
    cos, sin = np.cos(who.eye_tilt), np.sin(who.eye_tilt)
    out, up = x * cos + y * sin, y * cos - x * sin
    half = who.eye_width * (1 + 0.10 * who.eyes_wide)
    high = who.eye_height * (1 + 0.35 * who.eyes_wide)
    arch = np.clip(1 - (np.abs(out) / half) ** 2.3, -1, 1)
    upper = high * (1 - who.eyes_closed) - 0.6 * high * who.eyes_closed
    inside = np.minimum(np.minimum(upper * arch - up, up + 0.75 * high * arch), half - np.abs(out))
    inside = np.where(rest[:, 2] > 0.2, inside, -1.0)
    return inside, out / half, up / half


def nose_field(rest: np.ndarray, who: Cat) -> np.ndarray:
    """Positive on the bare nose, a triangle that stands on its tip."""
    x, y = np.abs(rest[:, 0]), rest[:, 1] - NOSE_LEVEL
    half = np.interp(y, [-0.09, -0.04, 0.02, 0.055], [0.02, 0.5 * who.nose_width, who.nose_width, 0.9 * who.nose_width])
    return np.where(rest[:, 2] > 0.5, np.minimum(half - x, np.minimum(y + 0.09, 0.055 - y)), -1.0)


def mouth_line(rest: np.ndarray) -> np.ndarray:
    """Height of the line of the mouth: it falls from the middle and rises to the corners."""
    along = np.clip(np.abs(rest[:, 0]) / MOUTH_WIDTH, 0, 1)
    return MOUTH_LEVEL - 0.05 * np.sin(np.pi * along**0.8)


def head(who: Cat) -> Surface:
    """The head without ears, at the origin and turned to the viewer."""
    rest, faces = directions()
    x, y, z = rest.T
    side, ahead = np.abs(x), smoothstep((z + 0.1) / 0.6)
    points = rest * np.array([who.width, who.height, 0.92])

    points[:, 1] *= 1 - 0.17 * smoothstep((y - 0.2) / 0.7)  # flat between the ears

    def bump(centre_x: float, centre_y: float, wide: float, high: float) -> np.ndarray:
        return ahead * np.exp(-(((side - centre_x) / wide) ** 2) - ((y - centre_y) / high) ** 2)

    sign = np.sign(x)
    muzzle, pads = bump(0, -0.36, 0.36, 0.27), bump(0.17, -0.36, 0.15, 0.11)
    bridge, chin = bump(0, -0.10, 0.14, 0.28), bump(0, -0.60, 0.20, 0.12)
    cheeks, sockets = bump(0.78, -0.38, 0.30, 0.32), bump(who.eye_spacing - 0.03, who.eye_level, 0.19, 0.15)
    points[:, 2] += who.muzzle * 1.3 * muzzle + 0.13 * pads + 0.11 * bridge + who.chin * chin - 0.07 * sockets
    points[:, 2] -= 0.08 * bump(0, 0.25, 0.2, 0.12)  # the stop above the nose
    points[:, 0] += sign * (who.cheeks * cheeks + 0.05 * pads - 0.05 * bump(0.55, -0.62, 0.25, 0.2))
    points[:, 1] += -0.02 * muzzle - 0.03 * cheeks + 0.03 * bump(0, -0.75, 0.6, 0.2)
    if who.mouth_open > 0:
        line = mouth_line(rest)
        below = smoothstep((line - y) / 0.07) * ahead * np.exp(-((side / 0.36) ** 4))
        strip = smoothstep((line - y + 0.01) / 0.03) * smoothstep((y - line + 0.09) / 0.03)
        strip = strip * ahead * (side < MOUTH_WIDTH)
        points[:, 1] -= 0.24 * who.mouth_open * below
        points[:, 2] -= who.mouth_open * (0.05 * below + 0.16 * strip)
    under = np.exp(-(((y - mouth_line(rest) + 0.05) / 0.06) ** 2)) * ahead * smoothstep((0.42 - side) / 0.15)
    openness = 1 - 0.30 * sockets - 0.25 * smoothstep((-y - 0.55) / 0.4) - 0.35 * under
    openness = openness - 0.22 * bump(0.36, -0.22, 0.08, 0.16) - 0.15 * bump(0.6, 0.62, 0.25, 0.12)
    return surface(points, faces, rest, HEAD, np.clip(openness, 0.2, 1))


def ears(who: Cat) -> list[Surface]:
    """Two sheets, hollow towards the front, with skin inside; rest: across (-1..1), up (0..1), side (-1 or 1)."""
    rows, columns = 14, 13
    up, across = np.meshgrid(np.linspace(0, 1, rows), np.linspace(-1, 1, columns), indexing="ij")
    up, across = up.ravel(), across.ravel()
    faces = grid_faces(rows, columns)
    size = who.ear_size
    height, width = who.ear_height * size, 1.16 * who.ear_width * (0.35 + 0.65 * size)
    profile = (1 - up ** (1.15 + 1.6 * who.ear_tip)) ** (0.95 - 0.3 * who.ear_tip)
    lean = 0.10 * up**2  # the tip bends inwards
    sheets = []
    for side in (-1, 1):
        x = width * across * profile * side
        y = -0.22 + (height + 0.22) * up
        z = -0.42 * width * (1 - (across * 0.9) ** 2) * (1 - 0.55 * up)
        if who.ear_fold:
            over = np.clip(up - 0.42, 0, 1) * who.ear_fold
            y = y - 1.4 * height * over
            z = z + 1.1 * height * np.clip(over, 0, 0.25) + 0.1 * over
        local = np.column_stack([x - side * lean, y, z])
        placed = turned(local, side * 0.30, 0.10, 0.0)
        placed = turned(placed, 0, 0, -side * who.ear_spread)
        base = np.array([side * 0.60 * who.width, 0.57 * who.height, 0.0])
        points = placed + base
        rest = np.column_stack([across, up, np.full(len(up), side)])
        wound = faces if side > 0 else faces[:, ::-1]
        if vertex_normals(points.astype(np.float32), wound)[:, 2].mean() < 0:
            wound = wound[:, ::-1]
        shade = np.clip(0.6 + 0.45 * np.abs(across) + 0.2 * up, 0, 1)
        front = surface(points, wound.copy(), rest, INNER_EAR, shade)
        back = surface(points - 0.02 * front.normals, wound[:, ::-1].copy(), rest, EAR, 0.9)
        sheets += [front, back]
    return sheets


def chest(who: Cat) -> Surface:
    """Neck, chest and shoulders below the head; rest as of a tube: the angle's sine is 1 in front."""
    level = np.array([0.1, -0.35, -0.65, -0.95, -1.25, -1.6, -2.1, -2.7])
    wide = np.array([0.60, 0.74, 0.84, 0.93, 1.05, 1.22, 1.42, 1.55]) * who.neck * (1 + 0.5 * who.fur)
    deep = np.array([0.5, 0.6, 0.68, 0.76, 0.88, 1.0, 1.1, 1.15])
    back = np.array([-0.35, -0.35, -0.34, -0.30, -0.26, -0.22, -0.18, -0.15])
    fine = np.linspace(0.1, -2.7, 24)
    wide, deep, back = (np.interp(-fine, -level, one) for one in (wide, deep, back))
    path = np.column_stack([np.zeros(24), fine, back])
    shade = np.interp(fine, [-2.7, -1.5, -1.0, -0.75, 0.1], [1.0, 0.95, 0.72, 0.5, 0.3])
    one = np.ones(24)
    return tube(path, np.outer(one, [1, 0, 0]), np.outer(one, [0, 0, 1]), wide, deep, 40, CHEST, np.repeat(shade, 40))


def trunk(who: Cat) -> Surface:
    """The body behind the chest; rest as of a tube."""
    share = np.linspace(0, 1, 12)
    path = np.column_stack([who.trunk * 1.9 * share**0.8, -1.75 + 0.15 * share, -0.5 - 1.7 * share])
    size = np.interp(share, [0, 0.4, 0.8, 1], [1.0, 1.22, 1.1, 0.2]) * (1 + 0.4 * who.fur)
    one = np.ones(12)
    return tube(path, np.outer(one, [1, 0, 0]), np.outer(one, [0, 1.0, 0]), size, size, 30, TRUNK, 0.8)


def collar(who: Cat) -> list[Surface]:
    """A band around the neck, lower in front, and perhaps a tag."""
    if not who.collar:
        return []
    size = who.neck * (1 + 0.5 * who.fur)
    rows = 4
    share = np.linspace(0, 1, rows)
    path = np.column_stack([np.zeros(rows), -0.86 - 0.17 * share, -0.31 + 0.03 * share])
    one = np.ones(rows)
    bulge = 0.03 + 0.03 * np.sin(np.pi * share)
    sides, ups = np.outer(one, [1, 0, 0]), np.outer(one, [0, -0.16, 1.0])
    band = tube(path, sides, ups, (0.905 + 0.06 * share) * size + bulge, 0.755 + 0.06 * share + bulge, 40, COLLAR)
    if not who.tag:
        return [band]
    turn = np.linspace(0, 2 * np.pi, 15)
    edge = np.column_stack([0.085 * np.cos(turn), -1.24 + 0.085 * np.sin(turn), np.full(15, 0.66)])
    points = np.vstack([[0, -1.24, 0.68], edge])
    fan = np.array([[0, k, k + 1] for k in range(1, 15)])
    return [band, surface(points, fan, points, TAG)]


def whiskers(who: Cat) -> Surface:
    """Thin bent strips from the pads outwards."""
    pieces, faces = [], []
    t = np.linspace(0, 1, 7)
    for side in (-1, 1):
        for number in range(6):
            row = number % 3
            length = who.whisker * (0.65 + 0.08 * number)
            start = np.array([side * (0.17 + 0.02 * number), -0.33 - 0.04 * row, 0.98 + who.muzzle * 1.1])
            rise = 0.22 - 0.16 * row + 0.05 * np.sin(who.phase[number])
            x = start[0] + side * length * t
            y = start[1] + length * (rise * t - 0.28 * t**2)
            z = start[2] - 0.55 * length * t**1.5
            thick = 0.008 * (1 - 0.7 * t)
            strip = np.stack([np.column_stack([x, y + thick, z]), np.column_stack([x, y - thick, z])], 0).reshape(-1, 3)
            pieces.append(strip)
            faces.append(grid_faces(2, 7) + 14 * len(faces))
    points = np.vstack(pieces)
    one = surface(points, np.concatenate(faces), points, 0)
    one = both_sides(one)
    bright = 0.85 if sum(who.ground) > 0.8 else 0.6
    return replace(one, tone=np.full(len(one.points), bright, np.float32))


def fur(who: Cat, on: Surface, kind: int) -> Surface:
    """Hairs on the head, an ear's back, its inner edge, or the chest."""
    if kind == HEAD:
        away = on.rest - np.array([0, -0.22, 0.95])
        flow = tangent(away + np.outer(smoothstep((np.abs(on.rest[:, 0]) - 0.5) / 0.4), [0, -0.35, 0]), on.normals)

        def length(rest: np.ndarray) -> np.ndarray:
            near = np.hypot(rest[:, 0], rest[:, 1] + 0.2)
            size = who.fur * (0.42 + 0.75 * smoothstep((near - 0.25) / 0.6))
            jowl = smoothstep((np.abs(rest[:, 0]) - 0.6) / 0.3) * smoothstep((0.1 - rest[:, 1]) / 0.3)
            size = size * (1 + 0.6 * jowl)
            nose, below = nose_field(rest, who), mouth_line(rest) - rest[:, 1]
            corner = np.where(rest[:, 2] > 0.4, MOUTH_WIDTH - np.abs(rest[:, 0]), -1.0)
            gap = 0.06 * (who.mouth_open > 0)
            mouth = np.minimum(np.minimum(below + 0.01, 0.06 + gap - below), corner)
            bare = np.maximum(np.maximum(eye_field(rest, who)[0], nose), mouth)
            # An expression moves no hair: those around the eyes are as short as around wide eyes.
            widest = eye_field(rest, replace(who, eyes_closed=0.0, eyes_wide=1.0))[0]
            edge = np.maximum(np.maximum(widest, nose), np.minimum(np.minimum(below + 0.01, 0.12 - below), corner))
            short = (np.abs(rest[:, 0]) < 0.62) & (edge > -0.12) & (rest[:, 2] > 0.4)
            size = np.where(short, np.minimum(size, np.clip(-edge, 0, 1) * 0.8 + 0.03), size)
            return np.where(bare > -0.02, 0, size)

        return grown(on, roots(5600, len(on.faces), 1), flow, length, 0.034, lift=0.2, mess=0.24)
    if kind == CHEST:
        flow = tangent(np.tile([0.0, -1.0, 0.15], (len(on.points), 1)), on.normals)

        def length(rest: np.ndarray) -> np.ndarray:
            trimmed = 0.7 * who.collar * smoothstep((0.395 - rest[:, 0]) / 0.02)
            return who.fur * (0.9 + 0.7 * smoothstep((rest[:, 0] - 0.25) / 0.2)) * (1 - trimmed)

        return grown(on, roots(2200, len(on.faces), 2), flow, length, 0.045, lift=0.25)
    up = tangent(np.tile([0.0, 1.0, 0.0], (len(on.points), 1)) + 0.3 * on.normals, on.normals)
    if kind == EAR:

        def length(rest: np.ndarray) -> np.ndarray:
            return np.full(len(rest), 0.05 + 0.25 * who.fur)

        return grown(on, roots(420, len(on.faces), 3), up, length, 0.03, lift=0.2, mess=0.25)
    inward = up - 0.8 * np.outer(np.sign(on.rest[:, 0] * on.rest[:, 2]), [1, 0, 0])

    def length(rest: np.ndarray) -> np.ndarray:
        tuft = smoothstep((np.abs(rest[:, 0]) - 0.45) / 0.3) * (1 - rest[:, 1])
        return np.where(tuft > 0.12, (0.10 + 0.9 * who.fur) * tuft, 0)

    return grown(on, roots(420, len(on.faces), 4), inward, length, 0.028, lift=0.25, mess=0.3)


def build_cat(who: Cat, yaw: float, pitch: float, roll: float) -> tuple[Surface, Surface]:
    """All surfaces of a cat with its head turned, and its whiskers."""
    skull = head(who)
    parts = [skull, fur(who, skull, HEAD)]
    for number, sheet in enumerate(ears(who)):
        parts += [sheet, fur(who, sheet, EAR if number % 2 else INNER_EAR)]
    upper = rotated(join(parts), yaw, pitch, roll)
    front, behind = chest(who), trunk(who)
    lower = [front, fur(who, front, CHEST), behind, fur(who, behind, CHEST), *collar(who)]
    lower = rotated(join(lower), 0.45 * yaw, 0.0, 0.3 * roll)
    return join([upper, lower]), rotated(whiskers(who), yaw, pitch, roll)
