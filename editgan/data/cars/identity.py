"""The identity of a car: proportions, lamps, grille, wheels and paint, drawn from a random stream.

Lengths are in metres. The base of the windscreen is the origin of x, which points forward; y points up from the ground.
"""

from dataclasses import dataclass, replace

import numpy as np

from editgan.data.drawing.colour import Colour, hsv
from editgan.errors import UserError

# fmt: off
BODIES = {  # share of the cars
    "saloon": 0.24, "coupe": 0.08, "hatchback": 0.20, "estate": 0.12, "SUV": 0.20, "pick-up": 0.09, "van": 0.07,
}
PROPORTIONS = {  # of the typical car of each body, in the order of BODIES; the fields of Shape
    "bonnet":         (1.22, 1.40, 1.02, 1.20, 1.16, 1.26, 0.74),
    "front_overhang": (0.86, 0.86, 0.78, 0.86, 0.80, 0.84, 0.80),
    "cowl":           (0.97, 0.92, 0.98, 0.97, 1.12, 1.16, 1.16),
    "nose":           (0.74, 0.68, 0.76, 0.74, 0.92, 1.00, 0.92),
    "screen":         (0.88, 0.90, 0.86, 0.88, 0.72, 0.66, 0.82),
    "roof":           (1.45, 1.30, 1.48, 1.47, 1.70, 1.78, 1.94),
    "drop":           (0.10, 0.08, 0.08, 0.06, 0.06, 0.05, 0.02),
    "roof_end":       (2.05, 1.55, 2.52, 3.00, 2.80, 1.78, 3.74),
    "glass_end":      (2.72, 2.62, 2.94, 3.40, 3.16, 1.92, 3.92),
    "tail":           (3.38, 3.05, 3.04, 3.50, 3.26, 4.00, 4.00),
    "deck":           (1.05, 0.96, 1.04, 1.02, 1.18, 1.14, 1.16),
    "rear_axle":      (2.36, 2.02, 2.34, 2.42, 2.32, 2.78, 2.98),
    "belt_front":     (0.92, 0.87, 0.94, 0.92, 1.06, 1.09, 1.08),
    "belt_rear":      (1.00, 0.95, 1.02, 1.00, 1.16, 1.14, 1.14),
    "width":          (1.80, 1.84, 1.76, 1.80, 1.88, 1.90, 1.92),
    "tumble":         (0.20, 0.22, 0.18, 0.19, 0.16, 0.14, 0.09),
    "clearance":      (0.19, 0.15, 0.18, 0.19, 0.26, 0.30, 0.22),
    "wheel":          (0.335, 0.345, 0.315, 0.335, 0.380, 0.395, 0.345),
}
# Share of the cars, hue, saturation, value and its spread. The shares of white, black, grey and silver are about those
# of Axalta's Global Automotive Color Popularity Reports of 2020 and 2021.
PAINTS = {
    "white":  (0.35, 0.12, 0.02, 0.94, 0.03),
    "black":  (0.19, 0.60, 0.10, 0.12, 0.05),
    "grey":   (0.17, 0.60, 0.05, 0.42, 0.10),
    "silver": (0.09, 0.58, 0.03, 0.74, 0.05),
    "blue":   (0.08, 0.60, 0.75, 0.50, 0.16),
    "red":    (0.05, 0.99, 0.86, 0.66, 0.12),
    "green":  (0.02, 0.38, 0.55, 0.38, 0.12),
    "brown":  (0.03, 0.07, 0.45, 0.36, 0.10),
    "yellow": (0.01, 0.14, 0.85, 0.90, 0.05),
    "orange": (0.01, 0.06, 0.88, 0.85, 0.06),
}
# fmt: on
GRILLES = ("bars", "mesh", "slats", "split")
PLATES = ((0.95, 0.95, 0.93), (0.95, 0.82, 0.25), (0.30, 0.42, 0.70))


@dataclass(frozen=True)
class Shape:
    """Proportions of a body."""

    bonnet: float  # from the base of the windscreen to the nose
    front_overhang: float  # from the front axle to the nose
    cowl: float  # height at the base of the windscreen
    nose: float  # height of the front edge of the bonnet
    screen: float  # horizontal run of the windscreen
    roof: float  # height of the roof
    drop: float  # how much lower the rear edge of the roof is
    roof_end: float  # rear edge of the roof, behind the base of the windscreen
    glass_end: float  # lower edge of the rear window, behind the base of the windscreen
    tail: float  # rear end, behind the base of the windscreen
    deck: float  # height of the boot lid or of the lower edge of the rear window
    rear_axle: float  # behind the base of the windscreen
    belt_front: float  # height of the lower edge of the side windows
    belt_rear: float
    width: float
    tumble: float  # how much the cabin narrows, per metre of height
    clearance: float  # height of the sill
    wheel: float  # outer radius of a wheel


@dataclass(frozen=True)
class Identity:
    """What is the same in every picture of one car."""

    body: str  # a key of BODIES
    shape: Shape
    frame: tuple[float, float, float]  # bonnet, tail and roof that the camera frames; `changed` keeps them
    bed: bool  # open bed behind the cabin
    doors: int  # on each side: 1 or 2
    rear_windows: bool  # of a van: windows behind the front doors
    paint: Colour
    paint_name: str
    metallic: float  # 0..1
    second: Colour  # colour of the roof
    trim: Colour  # of the frame of the grille and of the windows
    cladding: bool  # black sills and wheel arches
    black_bumpers: bool
    tint: float  # 0 clear, 1 black windows
    grille: str  # one of GRILLES
    grille_size: tuple[float, float]  # width as a share of the car's, height as a share of the front's
    lamp: tuple[float, float, float]  # headlights: height as a share of the front's, width of the car's, slant -1..1
    tail_lamp: tuple[float, float]  # height as a share of the rear's, width as a share of the car's
    plate: Colour
    rounding: tuple[float, float]  # radius of the corners in plan, bow of the front
    rim: Colour
    rim_size: float  # radius as a share of the wheel's
    spokes: int
    spoke_width: float  # share of the circle that the spokes cover
    headlights: float  # 0 off, 1 on

    @property
    def front_axle(self) -> float:
        return self.shape.bonnet - self.shape.front_overhang


def sample_identity(rng: np.random.Generator) -> Identity:
    """Draw a car: the proportions of its body type, mixed with those of another type and varied."""
    names, shares = list(BODIES), np.array(list(BODIES.values()))
    body, other = (str(name) for name in rng.choice(names, 2, p=shares / shares.sum()))
    bed = body == "pick-up"
    lone = bed or "pick-up" == other or "van" in (body, other)
    mix = 0.0 if lone else rng.uniform(0, 0.45) * (rng.random() < 0.6)
    table = np.array(list(PROPORTIONS.values()))  # [fields, bodies]
    typical = (1 - mix) * table[:, names.index(body)] + mix * table[:, names.index(other)]
    varied = typical * np.clip(rng.normal(1, 0.03, len(typical)), 0.94, 1.06)
    size = rng.normal(1, 0.025)
    shape = Shape(**{name: float(value * size) for name, value in zip(PROPORTIONS, varied, strict=True)})
    shape = replace(
        shape,
        roof=max(shape.roof, shape.cowl + 0.36),
        tail=max(shape.tail, shape.glass_end + 0.05),
        glass_end=max(shape.glass_end, shape.roof_end + 0.12),
        deck=max(shape.deck, shape.belt_rear + 0.02),
        belt_rear=max(shape.belt_rear, shape.belt_front),
        belt_front=min(shape.belt_front, shape.cowl - 0.03),
        wheel=float(np.clip(shape.wheel * rng.normal(1, 0.03), 0.29, 0.43)),
    )

    names, shares = list(PAINTS), np.array([row[0] for row in PAINTS.values()])
    paint_name = str(rng.choice(names, p=shares / shares.sum()))
    _, hue, saturation, value, spread = PAINTS[paint_name]
    hue, saturation = hue + rng.normal(0, 0.02), float(np.clip(saturation + rng.normal(0, 0.04), 0, 1))
    paint = hsv(hue, saturation, float(np.clip(rng.normal(value, spread), 0.06, 0.98)))
    black = (0.07, 0.07, 0.08)
    chrome = rng.random() < 0.5
    rugged = body in ("SUV", "pick-up")
    silver = float(rng.uniform(0.6, 0.85))
    rims = [(silver, silver, silver * 1.02), (0.30, 0.30, 0.32), (0.12, 0.12, 0.13)]
    return Identity(
        body=body,
        shape=shape,
        frame=(shape.bonnet, shape.tail, shape.roof),
        bed=bed,
        doors=1 if body in ("coupe", "van", "pick-up") or (body == "hatchback" and rng.random() < 0.25) else 2,
        rear_windows=bool(body != "van" or rng.random() < 0.5),
        paint=paint,
        paint_name=paint_name,
        metallic=float(rng.uniform(0, 1)),
        second=black if not bed and rng.random() < 0.12 else paint,
        trim=(0.75, 0.75, 0.76) if chrome else black,
        cladding=bool(rng.random() < (0.55 if rugged else 0.04)),
        black_bumpers=bool(rng.random() < (0.2 if body in ("van", "pick-up") else 0.04)),
        tint=float(rng.uniform(0.2, 1)),
        grille=str(rng.choice(GRILLES)),
        grille_size=(float(rng.uniform(0.34, 0.60)), float(rng.uniform(0.24, 0.42))),
        lamp=(float(rng.uniform(0.20, 0.32)), float(rng.uniform(0.17, 0.26)), float(rng.uniform(-0.3, 1))),
        tail_lamp=(float(rng.uniform(0.24, 0.44)), float(rng.uniform(0.12, 0.24))),
        plate=PLATES[rng.choice(3, p=[0.65, 0.25, 0.10])],
        rounding=(0.09, 0.08) if bed else (float(rng.uniform(0.12, 0.24)), float(rng.uniform(0.10, 0.26))),
        rim=rims[rng.choice(3, p=[0.66, 0.20, 0.14])],
        rim_size=float(rng.uniform(0.66, 0.78)),
        spokes=int(rng.choice([5, 6, 7, 8, 10], p=[0.4, 0.15, 0.15, 0.15, 0.15])),
        spoke_width=float(rng.uniform(0.36, 0.54)),
        headlights=float(rng.random() < 0.35),
    )


# What `changed` can change: lowest and highest amount, added to the identity's own value.
CHANGES = {
    "wheel_size": (-0.06, 0.08),  # metres, outer radius
    "spokes": (-4, 8),  # number of them, rounded
    "headlights": (-1, 1),  # 1 turns them on, -1 off
    "bonnet_length": (-0.25, 0.25),  # metres
    "roof_height": (-0.12, 0.25),  # metres
}


def changed(identity: Identity, name: str, amount: float) -> Identity:
    """The same car with one attribute changed by `amount`; camera and everything else stay as they are.

    Raises UserError: `name` is not one of CHANGES.
    """
    shape = identity.shape
    match name:
        case "wheel_size":
            return replace(identity, shape=replace(shape, wheel=shape.wheel + amount))
        case "spokes":
            return replace(identity, spokes=max(3, identity.spokes + round(amount)))
        case "headlights":
            return replace(identity, headlights=float(np.clip(identity.headlights + amount, 0, 1)))
        case "bonnet_length":
            return replace(identity, shape=replace(shape, bonnet=shape.bonnet + amount))
        case "roof_height":
            return replace(identity, shape=replace(shape, roof=shape.roof + amount))
    raise UserError(f"a car has no attribute {name!r} to change; known: {', '.join(CHANGES)}")
