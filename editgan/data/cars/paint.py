"""Surface and part class of every visible sample, computed from its place on the car."""

from dataclasses import dataclass

import numpy as np

from editgan.data.archive import Classes
from editgan.data.cars.body import CABIN, FRONT, INSIDE, MIRROR, REAR, SIDE, TOP, WHEEL, Profile, in_arch
from editgan.data.cars.identity import Identity

COLOURS = {  # of the part classes, in the order of their numbers
    "background": (24, 26, 32),
    "body": (214, 84, 60),
    "bonnet": (244, 162, 70),
    "roof": (150, 96, 60),
    "doors": (120, 190, 110),
    "windscreen": (90, 200, 240),
    "windows": (40, 110, 200),
    "bumpers": (170, 70, 160),
    "headlights": (255, 246, 150),
    "lit_headlights": (255, 255, 225),
    "tail_lights": (230, 20, 40),
    "grille": (60, 150, 90),
    "plate": (250, 250, 250),
    "mirrors": (240, 120, 190),
    "wheels": (84, 84, 96),
    "rims": (150, 150, 170),
    "spokes": (214, 214, 226),
}
CLASSES = Classes(names=list(COLOURS), palette=np.array(list(COLOURS.values()), np.uint8))
CLASS = {name: number for number, name in enumerate(CLASSES.names)}
RUBBER = (0.13, 0.13, 0.135)
PLASTIC = (0.16, 0.16, 0.165)
DARK = (0.05, 0.05, 0.055)


@dataclass
class Surfaces:
    """What P samples are made of."""

    albedo: np.ndarray  # sRGB float32 [P, 3]
    mirror: np.ndarray  # float32 [P], reflectance seen at right angles; 0: dull
    gloss: np.ndarray  # float32 [P], strength of the sun's highlight
    glow: np.ndarray  # linear float32 [P, 3], light of its own
    label: np.ndarray  # uint8 [P]

    def set(self, where: np.ndarray, colour, mirror: float, gloss: float, label: str | None = None) -> None:
        """Give some samples one material, and a part class."""
        self.albedo[where], self.mirror[where], self.gloss[where] = colour, mirror, gloss
        if label is not None:
            self.label[where] = CLASS[label]


def paint(who: Identity, profile: Profile, rest: np.ndarray, material: np.ndarray) -> Surfaces:
    """Surfaces of P visible samples at `rest` [P, 3], with their `material` [P]."""
    count = len(material)
    made = Surfaces(
        np.tile(np.float32(who.paint), (count, 1)), np.full(count, 0.05, np.float32), np.ones(count, np.float32),
        np.zeros((count, 3), np.float32), np.full(count, CLASS["body"], np.uint8),
    )  # fmt: skip
    x, y, z = rest.T
    _paint_side(who, profile, made, material, x, y)
    _paint_cabin(who, profile, made, material, x, y)
    _paint_top(who, profile, made, material, x, z)
    _paint_front(who, made, material, x, y, z)
    _paint_rear(who, made, material, x, y, z)
    _paint_wheel(who, made, material, x, y, z)
    mirror = material == MIRROR
    made.label[mirror] = CLASS["mirrors"]
    made.set(material == INSIDE, (0.03, 0.03, 0.03), 0, 0, "wheels")
    return made


def _door_edges(who: Identity) -> list[float]:
    """x of the vertical edges of the doors, from the front to the rear."""
    s = who.shape
    front = -0.10
    if who.body == "van":
        return [front, front - 1.05]
    if who.bed:
        rear = -s.glass_end + 0.06
    else:
        rear = max(-s.rear_axle - 0.05, -s.roof_end - 0.10) if who.doors == 2 else -1.35
    return [front, rear] if who.doors == 1 else [front, 0.52 * rear + 0.48 * front - 0.06, rear]


def _paint_side(who: Identity, profile: Profile, made: Surfaces, material: np.ndarray, x, y) -> None:
    """Lower sides: doors with handles and gaps, sills, arches."""
    s, side = who.shape, material == SIDE
    edges = _door_edges(who)
    sill = s.clearance + 0.10
    door = side & (x < edges[0]) & (x > edges[-1]) & (y > sill) & ~in_arch(who, x, y, 0.07)
    made.label[door] = CLASS["doors"]
    gap = np.min([np.abs(x - edge) for edge in edges], 0) < 0.012
    gap = door & gap | side & (np.abs(y - sill) < 0.012) & (x < edges[0]) & (x > edges[-1])
    made.set(gap, DARK, 0, 0)
    for rear in edges[1:]:
        handle = door & (x > rear + 0.07) & (x < rear + 0.23) & (np.abs(y - profile.at("belt", x) + 0.13) < 0.016)
        made.set(handle, who.trim if sum(who.paint) > 0.5 else (0.6, 0.6, 0.6), 0.2, 1)
    if who.body == "van":
        made.set(side & (x < edges[-1] - 0.04) & (np.abs(y - profile.at("belt", x) + 0.03) < 0.014), DARK, 0, 0)
    low = side & (y < sill - 0.03)
    if who.cladding:
        made.set(side & (in_arch(who, x, y, 0.055) | (y < sill + 0.04)), PLASTIC, 0.02, 0.1)
    else:
        made.albedo[low] *= 0.7
        made.set(side & in_arch(who, x, y, 0.012), DARK, 0, 0)


def _paint_cabin(who: Identity, profile: Profile, made: Surfaces, material: np.ndarray, x, y) -> None:
    """Sides above the belt: windows between the pillars."""
    s, cabin = who.shape, material == CABIN
    belt = profile.at("belt", x)
    pillar = 0.16 if who.body in ("saloon", "coupe") else 0.13
    roof = np.minimum(profile.at("top", x + 0.07), profile.at("top", x - pillar)) - 0.075
    edges = _door_edges(who)
    rear = -s.glass_end if who.rear_windows else edges[-1] + 0.05
    inside = cabin & (y > belt + 0.025) & (y < roof) & (x < edges[0] - 0.02) & (x > rear)
    posts = edges[1:] if who.doors == 2 or who.bed else edges[1:2]
    post = np.min([np.abs(x - edge) for edge in posts], 0) < 0.035
    near = cabin & (y > belt + 0.005) & (y < roof + 0.025) & (x < edges[0]) & (x > rear - 0.03)
    made.set(cabin & (profile.at("top", x) > belt + 0.15), who.second, 0.05, 1)
    made.set(near, who.trim, 0.3 if sum(who.trim) > 1 else 0.04, 0.5)
    made.set(inside & post, DARK, 0.04, 0.3)
    _glass(who, made, inside & ~post, "windows", y - belt)
    made.label[cabin & (y > profile.at("top", x) - 0.06) & (y > belt + 0.3)] = CLASS["roof"]


def _glass(who: Identity, made: Surfaces, where: np.ndarray, label: str, height: np.ndarray) -> None:
    """Windows: a dark interior, lighter where one sees the sky through the opposite window."""
    light = 0.10 + 0.16 * (1 - who.tint) + 0.10 * (1 - who.tint) * np.clip(height[where] / 0.3, 0, 1)
    made.set(where, 0, 0.12, 1, label)
    made.albedo[where] = light[:, None] * np.float32([0.95, 1.0, 1.02])


def _paint_top(who: Identity, profile: Profile, made: Surfaces, material: np.ndarray, x, z) -> None:
    """Bonnet, windscreen, roof, rear window, boot lid and bed."""
    s, top = who.shape, material == TOP
    bonnet = top & (x > 0.02) & (x < s.bonnet - 0.05)
    made.label[bonnet] = CLASS["bonnet"]
    made.set(top & (np.abs(x) < 0.035), DARK, 0.02, 0)
    roof = top & (x < -s.screen) & (x > -s.roof_end)
    made.set(roof, who.second, 0.05, 1, "roof")
    half = (profile.at("half", x) * 0.965 - 0.02 - s.tumble * (profile.at("top", x) - profile.at("belt", x))) - 0.03
    depth = profile.at("top", x)
    screen = top & (x < -0.03) & (x > -s.screen - 0.02)
    pane = np.abs(z) < half - 0.05
    made.label[screen] = CLASS["body"]
    _glass(who, made, screen & pane, "windscreen", np.clip(depth - s.cowl, 0, 0.3))
    back = top & (x < -s.roof_end - 0.01) & (x > -s.glass_end + 0.02)
    made.set(back, who.paint, 0.05, 1, "body")
    if who.rear_windows or who.body == "van":
        _glass(who, made, back & pane & (depth > s.deck + 0.03), "windows", np.clip(depth - s.deck, 0, 0.3))
    if who.bed:
        bed = top & (x < -s.glass_end - 0.04) & (x > -s.tail + who.rounding[0]) & (np.abs(z) < s.width / 2 * 0.8)
        made.set(bed, PLASTIC, 0, 0.05)


def _paint_front(who: Identity, made: Surfaces, material: np.ndarray, x, y, z) -> None:
    """Front: bumper, grille, intake, plate and headlights, which reach around the corners."""
    s = who.shape
    near = np.isin(material, (FRONT, SIDE, CABIN, TOP)) & (x > s.bonnet - 0.42)
    front = material == FRONT
    f = (y - s.clearance) / (s.nose - s.clearance)
    aside = np.abs(z) / (s.width / 2)
    bumper = near & (f < 0.55) & ~in_arch(who, x, y, 0.05) & (material != TOP)
    made.label[bumper] = CLASS["bumpers"]
    if who.black_bumpers:
        made.set(bumper, PLASTIC, 0.02, 0.1)
    made.set(front & (np.abs(f - 0.56) < 0.02), DARK, 0, 0)
    made.set(front & (f > 0.07) & (f < 0.27) & (aside < 0.62), DARK, 0, 0)
    made.set(near & (material != TOP) & (f < 0.05), DARK, 0, 0)
    width, height = who.grille_size
    bottom = 0.92 - height
    inside = front & (f > bottom) & (f < 0.92) & (aside < width - 0.10 * (0.92 - f) / height)
    rows = np.mod((f - bottom) / height * (4 if who.grille != "slats" else 2), 1)
    columns = np.mod(z / 0.09, 1)
    made.set(inside, DARK, 0.03, 0.2, "grille")
    bars = {
        "bars": rows < 0.38, "mesh": (rows < 0.3) | (columns < 0.3), "slats": columns < 0.4,
        "split": (np.abs(z) < 0.05) | (rows < 0.2),
    }[who.grille]  # fmt: skip
    bright = (0.62, 0.62, 0.64) if sum(who.trim) > 1 else (0.2, 0.2, 0.21)
    made.set(inside & bars, bright, 0.25, 1)
    frame = inside & ((f > 0.89) | (f < bottom + 0.03) | (aside > width - 0.10 * (0.92 - f) / height - 0.025))
    made.set(frame, who.trim, 0.4 if sum(who.trim) > 1 else 0.05, 1)
    badge = front & (np.hypot(z, (f - 0.82) * (s.nose - s.clearance)) < 0.05)
    made.set(badge, (0.8, 0.8, 0.82), 0.5, 1)

    tall, wide, slant = who.lamp
    low, high = 0.90 - tall + 0.10 * slant * (aside - 0.8), 0.93 + 0.22 * slant * (aside - 0.8)
    lamp = near & (f > low) & (f < high) & (aside > 0.97 - wide * 2) & ((x > s.bonnet - 0.26) | front)
    made.set(lamp, (0.62, 0.65, 0.68), 0.35, 1.5, "headlights")
    centre = np.hypot((aside - (0.97 - 1.1 * wide)) * s.width / 2, (f - (low + high) / 2) * (s.nose - s.clearance))
    made.set(lamp & (centre < 0.075), (0.95, 0.95, 0.95), 0.5, 1.5)
    edge = lamp & ((f < low + 0.035) | (f > high - 0.03) | (aside < 1.0 - wide * 2))
    made.set(edge, (0.15, 0.15, 0.16), 0.1, 0.5)
    if who.headlights:
        beam = np.where(centre < 0.10, 2.6, 0.7)[lamp] * who.headlights
        made.glow[lamp] = beam[:, None] * np.float32([1.0, 0.97, 0.88])
        if who.headlights > 0.5:
            made.label[lamp] = CLASS["lit_headlights"]
    _plate(who, made, front & (np.abs(f - 0.40) * (s.nose - s.clearance) < 0.06), z)


def _plate(who: Identity, made: Surfaces, band: np.ndarray, z: np.ndarray) -> None:
    """A number plate in the middle of a band, with some dark characters."""
    plate = band & (np.abs(z) < 0.27)
    made.set(plate, who.plate, 0.02, 0.1, "plate")
    made.albedo[plate & (np.abs(z) < 0.22) & (np.mod(z / 0.075 + 0.25, 1) < 0.5)] *= 0.55
    made.albedo[plate & (np.abs(z) > 0.255)] *= 0.5


def _paint_rear(who: Identity, made: Surfaces, material: np.ndarray, x, y, z) -> None:
    """Rear: bumper, boot lid, plate and tail lights, which reach around the corners."""
    s = who.shape
    near = np.isin(material, (REAR, SIDE, CABIN, TOP)) & (x < 0.42 - s.tail)
    rear = material == REAR
    f = (y - s.clearance) / (s.deck - s.clearance)
    aside = np.abs(z) / (s.width / 2)
    bumper = near & (f < 0.44) & ~in_arch(who, x, y, 0.05) & (material != TOP)
    made.label[bumper] = CLASS["bumpers"]
    if who.black_bumpers:
        made.set(bumper, PLASTIC, 0.02, 0.1)
    made.set(rear & (np.abs(f - 0.45) < 0.014), DARK, 0, 0)
    made.set(near & (material != TOP) & (f < 0.14), (0.09, 0.09, 0.09), 0.01, 0)
    made.set(rear & (np.abs(aside - 0.78) < 0.012) & (f > 0.45), DARK, 0, 0)
    tall, wide = who.tail_lamp
    low, high = (0.94 - tall, 0.94) if not (who.bed or who.body in ("van", "SUV")) else (0.88 - 1.3 * tall, 0.93)
    wide = wide if not (who.bed or who.body == "van") else 0.09
    lamp = near & (f > low) & (f < high) & (aside > 0.97 - wide * 2) & (material != TOP)
    lamp &= (x < 0.22 - s.tail) | rear
    made.set(lamp, (0.72, 0.03, 0.04), 0.10, 1, "tail_lights")
    made.glow[lamp] = np.float32([0.10, 0.0, 0.0])
    inner = lamp & (np.abs(f - (low + high) / 2) < 0.18 * (high - low)) & (aside > 0.85 - wide)
    made.set(inner, (0.85, 0.45, 0.40), 0.2, 1)
    height = 0.64 if who.body not in ("van", "pick-up") else 0.52
    made.set(rear & (np.abs(f - height - 0.12) < 0.02) & (np.abs(z) < 0.33), who.trim, 0.3, 1)
    _plate(who, made, rear & (np.abs(f - height) * (s.deck - s.clearance) < 0.06), z)


def _paint_wheel(who: Identity, made: Surfaces, material: np.ndarray, x, y, z) -> None:
    """Tyres, rims and spokes, in polar coordinates of the wheel's face."""
    wheel = np.flatnonzero(material == WHEEL)
    radius, angle = np.hypot(x[wheel], y[wheel]), np.arctan2(y[wheel], x[wheel])
    made.set(wheel, RUBBER, 0.01, 0.08, "wheels")
    rim = who.rim_size
    inside = (radius < rim) & (z[wheel] > -0.2)
    made.set(wheel[inside], (0.07, 0.07, 0.075), 0.02, 0, "rims")
    turn = np.mod(angle * who.spokes / (2 * np.pi), 1)
    share = who.spoke_width * (0.85 + 0.35 * (rim - radius) / rim)
    spoke = inside & (np.abs(turn - 0.5) < share / 2) & (radius < 0.92 * rim)
    made.set(wheel[spoke], who.rim, 0.18, 1, "spokes")
    lip = inside & (radius > 0.88 * rim)
    hub = inside & (radius < 0.20 * rim)
    made.set(wheel[lip | hub], who.rim, 0.18, 1, "rims")
    made.set(wheel[inside & (radius < 0.08 * rim)], (0.2, 0.2, 0.2), 0.05, 0.5)
