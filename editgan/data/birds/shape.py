"""The shape of a bird: head, body, wings, tail, beak, legs, feathers, and what it stands on.

The bird faces the viewer (z) with its left at x. Lengths along its plane of symmetry are written (forward, up).
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.interpolate import PchipInterpolator

from editgan.data.animals.surface import Surface, ball, grown, join, roots, rotated, surface, tangent, tube
from editgan.data.birds.identity import Bird
from editgan.data.drawing.colour import smoothstep, waves
from editgan.data.drawing.mesh import grid_faces

HEAD, BODY, WING, TAIL, BEAK, LEG, PERCH, GROUND, CREST = range(9)
RINGS, COLUMNS = 40, 34
SIDE = np.array([1.0, 0.0, 0.0])


@dataclass(frozen=True)
class Frame:
    """The body's axis from the head to the base of the tail, by share of its length 0..1."""

    path: PchipInterpolator  # forward, up, dorsal, ventral and lateral radius
    head: np.ndarray  # centre of the head
    shoulder: float  # share at which the body begins

    def at(self, share: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Points and dorsal unit vectors [R, 2] (forward, up), and radii [R, 3]; straight beyond the end."""
        inside = np.clip(share, 0, 1)
        values, slopes = self.path(inside), self.path(inside, 1)[:, :2]
        slopes = slopes / (np.linalg.norm(slopes, axis=1, keepdims=True) + 1e-9)
        beyond = (share - inside)[:, None] * np.linalg.norm(self.path([1.0], 1)[0, :2])
        return values[:, :2] + beyond * slopes, np.stack([slopes[:, 1], -slopes[:, 0]], 1), values[:, 2:]


def frame(who: Bird) -> Frame:
    """Lay out head, neck and body."""
    axis = np.array([np.cos(who.posture), np.sin(who.posture)])
    shoulder, rump, end = 0.36 * who.body * axis, -0.42 * who.body * axis, -0.62 * who.body * axis
    upright = 1.15 if who.neck < 0.3 else 1.25
    lift = np.array([np.cos(upright), np.sin(upright)])
    head = shoulder + (who.neck + 0.85 * who.head) * lift + 0.04 * axis
    middle = 0.5 * (head + shoulder) - 0.10 * who.neck * np.array([1.0, 0.0])
    thin = who.head * (0.85 if who.neck < 0.3 else 0.55)
    girth = who.girth
    rows = np.array([
        [*head, 0.8 * who.head, 0.8 * who.head, 0.75 * who.head],
        [*middle, thin, thin, thin],
        [*shoulder, 0.80 * girth, 1.02 * girth, 0.88 * girth],
        [*(-0.05 * who.body * axis), 0.84 * girth, 1.06 * girth, 1.0 * girth],
        [*rump, 0.50 * girth, 0.52 * girth, 0.58 * girth],
        [*end, 0.09, 0.08, 0.12],
    ])  # fmt: skip
    step = np.linalg.norm(np.diff(rows[:, :2], axis=0), axis=1)
    share = np.concatenate([[0], np.cumsum(step)]) / step.sum()
    return Frame(PchipInterpolator(share, rows), head, float(share[2]))


def place(forward: np.ndarray, up: np.ndarray, side: np.ndarray) -> np.ndarray:
    """Points [N, 3] from lengths along the plane of symmetry and to the left."""
    return np.stack(np.broadcast_arrays(side, up, forward), -1).astype(np.float64)


def body(who: Bird, along: Frame) -> Surface:
    """Neck and trunk; rest as of a tube, with the angle's sine 1 on the back."""
    points, dorsal, radii = along.at(np.linspace(0, 1, RINGS))
    centre = points + dorsal * ((radii[:, :1] - radii[:, 1:2]) / 2)
    path = place(centre[:, 0], centre[:, 1], np.zeros(RINGS))
    ups = place(dorsal[:, 0], dorsal[:, 1], np.zeros(RINGS))
    shade = np.tile(0.80 + 0.20 * np.sin(np.linspace(0, 2 * np.pi, COLUMNS)), RINGS)
    sides = np.tile(SIDE, (RINGS, 1))
    return tube(path, sides, ups, radii[:, 2], radii[:, :2].mean(1), COLUMNS, BODY, shade)


def head(who: Bird, along: Frame) -> Surface:
    """The head, its rest coordinates the directions from its centre, before it is turned aside."""
    size = who.head * np.array([0.90, 0.95, 1.05])
    one = ball(np.zeros(3), size, HEAD, rows=22, columns=33)
    bulge = smoothstep((one.rest[:, 2] - 0.5) / 0.5)[:, None] * np.array([0, -0.10, 0.10]) * who.head
    return surface(one.points + bulge, one.faces, one.rest, HEAD, 0.85 + 0.15 * one.rest[:, 1])


def beak(who: Bird) -> Surface:
    """A cone from the front of the head forwards and down; rest as of a tube."""
    rows = 12
    share = np.linspace(0, 1, rows)
    length = who.beak * who.beak_length
    bend = who.beak_curve * share**1.5
    steps = np.stack([np.cos(bend), -np.sin(bend)], 1) * length / (rows - 1)
    line = np.cumsum(steps, 0) - steps[0] + [0.93 * who.head, -0.12 * who.head]
    ups = place(np.sin(bend), np.cos(bend), np.zeros(rows))
    taper = np.sqrt(np.clip(1 - share ** (1.2 + who.beak_curve), 0.004, 1)) * (1 - 0.45 * share)
    if who.kind == "wader":
        taper = 1 - 0.85 * share
    path = place(line[:, 0], line[:, 1], np.zeros(rows))
    widths = 0.42 * who.beak_depth * taper
    return tube(path, np.tile(SIDE, (rows, 1)), ups, widths, 0.55 * who.beak_depth * taper, 15, BEAK)


def crest(who: Bird) -> list[Surface]:
    """A pointed crest on the crown."""
    if who.crest < 0.3:
        return []
    share = np.linspace(0, 1, 7)
    path = place(who.head * (0.35 - 1.25 * share), who.head * (0.75 + (0.75 * who.crest) * share), np.zeros(7))
    ups = np.tile([0.0, 0.85, 0.5], (7, 1))
    size = who.head * np.interp(share, [0, 0.3, 1], [0.30, 0.45, 0.03])
    one = tube(path, np.tile(SIDE, (7, 1)), ups, 0.6 * size, size, 13, CREST)
    return [one, feathers(who, one, 160, 11, 0.12, np.array([0.0, 0.5, -1.0]))]


def wings(who: Bird, along: Frame) -> list[Surface]:
    """Both wings, folded on the flanks or raised; rest: shoulder to tip (0..1), upper to lower edge (-1..1), side."""
    rows, columns = 26, 13
    a, b = (grid.ravel() for grid in np.meshgrid(np.linspace(0, 1, rows), np.linspace(-1, 1, columns), indexing="ij"))
    raised = smoothstep(np.array(who.wing_raised))
    start, end = along.shoulder - 0.02, 1.10
    share = start + (end - start) * a
    points, dorsal, radii = along.at(share)
    width = np.interp(a, [0, 0.12, 0.35, 0.6, 0.85, 1.0], [0.25, 0.55, 0.72, 0.52, 0.22, 0.02]) * who.girth
    middle = np.interp(a, [0, 0.3, 0.7, 1.0], [0.10, 0.10, 0.20, 0.28]) * who.girth
    offset = middle - b * width
    height = radii[:, :2].mean(1)
    around = np.sqrt(np.clip(1 - (np.clip(offset / (height + 0.03), -0.97, 0.97)) ** 2, 0.05, 1))
    out = np.maximum(radii[:, 2] * around, 0.05) + 0.035 + 0.03 * (1 - b**2)
    folded = np.column_stack([out, points + dorsal * offset[:, None]])  # side, forward, up
    hinge, _, hinge_radii = along.at(np.array([along.shoulder + 0.04]))
    span = 1.05 * who.body * a
    chord = np.interp(a, [0, 0.3, 0.6, 0.85, 1.0], [0.52, 0.60, 0.52, 0.34, 0.06]) * who.body
    back = np.array([-np.cos(who.posture), -np.sin(who.posture)])
    lower = (b + 1) / 2
    spread = np.column_stack([
        0.75 * hinge_radii[0, 2] + 0.35 * span,
        hinge[0, 0] + (0.10 - 0.45 * a**2) * who.body + 0.85 * chord * lower * back[0] - 0.2 * span * lower,
        hinge[0, 1] + 0.10 + 0.92 * span + 0.60 * chord * lower * (back[1] - 0.25),
    ])  # fmt: skip
    mixed = (1 - raised) * folded + raised * spread
    sheets = []
    for side in (-1, 1):
        points3 = place(mixed[:, 1], mixed[:, 2], side * mixed[:, 0])
        rest = np.column_stack([a, b, np.full(len(a), side)])
        faces = grid_faces(rows, columns)
        faces = faces if side < 0 else faces[:, ::-1]
        outer = surface(points3, faces.copy(), rest, WING, 0.8 + 0.2 * (1 - lower))
        inner = surface(points3 - 0.015 * outer.normals, faces[:, ::-1].copy(), rest, WING, 0.75)
        sheets += [outer, inner]
        flow = tangent(np.gradient(points3.reshape(rows, columns, 3), axis=0).reshape(-1, 3), outer.normals)
        sheets.append(feathers(who, outer, 420, 5, 0.10, flow))
    return sheets


def tail(who: Bird, along: Frame, level: float) -> list[Surface]:
    """A flat tail behind the body, above the ground; rest as of a tube. `level` of the feet."""
    rows = 14
    share = np.linspace(0, 1, rows)
    base = along.at(np.array([0.93]))[0]
    lean = np.clip(-who.posture * 0.85 + who.tail_slope, -1.35, 0.25)
    if who.perch == "ground":
        lean = max(lean, np.arcsin(np.clip((level + 0.1 - base[0, 1]) / (1.8 * who.tail + 0.12), -1, 1)))
    direction = np.array([-np.cos(lean), np.sin(lean)])
    length = who.tail * who.tail_length + 0.12
    line = base + share[:, None] * length * direction
    ups = place(np.full(rows, np.sin(lean)), np.full(rows, np.cos(lean)), np.zeros(rows))
    widths = who.tail_width * np.interp(share, [0, 0.2, 0.7, 0.95, 1], [0.8, 0.75, 1.0, 1.0, 0.75])
    heights = np.interp(share, [0, 0.2, 0.8, 1], [0.11, 0.075, 0.06, 0.012])
    path = place(line[:, 0], line[:, 1], np.zeros(rows))
    one = tube(path, np.tile(SIDE, (rows, 1)), ups, widths, heights, 21, TAIL, 0.9)
    return [one, feathers(who, one, 220, 6, 0.12, place(*direction, 0.0))]


def feathers(who: Bird, on: Surface, count: int, seed: int, length: float, flow: np.ndarray) -> Surface:
    """Small feathers that lie along `flow` ([3] or [V, 3]) on a surface."""
    flow = flow if flow.ndim == 2 else tangent(np.tile(flow, (len(on.points), 1)), on.normals)
    size = length * who.fluff
    where = roots(count, len(on.faces), seed)
    return grown(on, where, flow, lambda rest: np.full(len(rest), size), 0.05, lift=0.10, mess=0.18)


def coat(who: Bird, skull: Surface, trunk: Surface) -> list[Surface]:
    """Feathers of head and body."""
    backwards = tangent(skull.rest - np.array([0, -0.1, 1.15]), skull.normals)

    def length(rest: np.ndarray) -> np.ndarray:
        near = eye_distance(rest, who)
        size = (0.05 + 0.05 * smoothstep((0.9 - rest[:, 2]) / 0.6)) * who.fluff
        return np.where((near < 1.5) | (rest[:, 2] > 0.93), 0, np.minimum(size, 0.03 + 0.04 * near))

    on_head = grown(skull, roots(900, len(skull.faces), 7), backwards, length, 0.035, lift=0.12, mess=0.2)
    grid = trunk.points.reshape(RINGS, COLUMNS, 3)
    flow = tangent(np.gradient(grid, axis=0).reshape(-1, 3), trunk.normals)
    return [on_head, feathers(who, trunk, 1900, 8, 0.12, flow)]


def eye_distance(rest: np.ndarray, who: Bird) -> np.ndarray:
    """Distance of directions [N, 3] on the head from the nearer eye, in radii of the eye."""
    apart = np.stack([np.abs(rest[:, 0]) - 0.84, rest[:, 1] - 0.22, rest[:, 2] - 0.50], 1)
    return np.sqrt(np.einsum("nk,nk->n", apart, apart)) / who.eye_size


def legs(who: Bird, along: Frame) -> tuple[list[Surface], float]:
    """Thighs, legs and toes, and the level of the feet."""
    points, dorsal, radii = along.at(np.array([0.5 * (1 + along.shoulder) + 0.02]))
    hip = points[0] - 0.75 * radii[0, 1] * dorsal[0]
    level = hip[1] - who.legs
    foot = np.array([0.06 * who.body + 0.25 * hip[0], level])
    parts = []
    for side in (-1, 1):
        apart = side * 0.42 * who.girth
        share = np.linspace(0, 1, 5)
        knee = 0.5 * (hip + foot) - [0.06 * (1 + who.legs), 0.0]
        line = np.stack([np.interp(share, [0, 0.5, 1], [hip[k], knee[k], foot[k]]) for k in (0, 1)], 1)
        thick = np.interp(share, [0, 0.5, 1], [0.05, 0.032, 0.030])
        path = place(line[:, 0], line[:, 1], apart * np.linspace(1, 0.8, 5))
        ups = np.tile([0.0, 0.0, 1.0], (5, 1))
        parts.append(tube(path, np.tile(SIDE, (5, 1)), ups, thick, thick, 9, LEG, 0.75))
        for turn, size in ((-0.5, 0.17), (0.0, 0.20), (0.5, 0.17), (np.pi, 0.12)):
            tip = [0.8 * apart + size * np.sin(turn), level - 0.02, foot[0] + size * np.cos(turn)]
            ends = np.linspace([0.8 * apart, level + 0.02, foot[0]], tip, 4)
            across = np.array([np.cos(turn), 0, -np.sin(turn)])
            round_ = np.array([0.032, 0.03, 0.026, 0.006])
            parts.append(
                tube(ends, np.tile(across, (4, 1)), np.tile([0, 1.0, 0], (4, 1)), round_, round_, 7, LEG, 0.85)
            )
    return parts, float(level)


def stand(who: Bird, level: float) -> Surface:
    """A branch across the picture, the top of a post, or the ground. It is not turned with the bird."""
    if who.perch == "ground":
        x, z = np.meshgrid(np.linspace(-6, 6, 25), np.linspace(-9, 6.5, 21))
        points = np.column_stack([x.ravel(), np.full(x.size, level - 0.02), z.ravel()])
        return surface(points, grid_faces(21, 25), points, GROUND)
    rows = 40
    if who.perch == "post":
        high = np.linspace(0, -4, rows)
        path = np.column_stack([np.zeros(rows), level - 0.03 + high, np.zeros(rows)])
        size = np.full(rows, 0.30 + who.perch_radius)
        size[0] = 0.01
        path[1, 1] = path[0, 1]
        sides, ups = np.tile(SIDE, (rows, 1)), np.tile([0, 0, 1.0], (rows, 1))
    else:
        x = np.linspace(-3.2, 3.2, rows)
        sag = 0.05 * np.sin(1.7 * x + who.phase[0])
        sag = sag - 0.05 * np.sin(who.phase[0])
        path = np.column_stack([x, level - 0.01 - who.perch_radius + who.perch_slope * x + sag, 0.05 + 0 * x])
        size = who.perch_radius * (1 + 0.12 * np.sin(5 * x + who.phase[1]) + 0.08 * np.sin(11 * x + who.phase[2]))
        sides, ups = np.tile([0, 0, -1.0], (rows, 1)), np.tile([0, 1.0, 0], (rows, 1))
    one = tube(path, sides, ups, size, size, 21, PERCH)
    rough = 1 + 0.10 * waves(one.points, who.phase, 9)
    centre = np.repeat(path, 21, 0)
    return surface(centre + (one.points - centre) * rough[:, None], one.faces, one.points, PERCH)


def build_bird(who: Bird, yaw: float, pitch: float, roll: float) -> Surface:
    """All surfaces of a bird and its perch."""
    along = frame(who)
    skull, trunk = head(who, along), body(who, along)
    on_head, on_body = coat(who, skull, trunk)
    face = join([skull, on_head, beak(who), *crest(who)])
    face = rotated(face, who.look, 0.0, 0.0)
    face = replace(face, points=face.points + np.float32([0, along.head[1], along.head[0]]))
    limbs, level = legs(who, along)
    bird = join([face, trunk, on_body, *wings(who, along), *tail(who, along, level), *limbs])
    whole = join([rotated(bird, yaw, 0.0, 0.0), stand(who, level)])
    return rotated(whole, 0.0, pitch, roll)
