"""The identity of a bird: shape, plumage, eyes and perch, with its wings and tail, drawn from a random stream."""

from dataclasses import dataclass, fields, replace

import numpy as np

from editgan.data.drawing.colour import Colour
from editgan.errors import UserError

# fmt: off
KINDS = ("songbird", "corvid", "wader", "parrot", "raptor", "waterfowl")
SHAPE = {  # posture, body, girth, head, neck, beak length, depth and curve, legs, tail length and width
    "songbird": (0.62, 1.00, 0.335, 0.270, 0.10, 0.21, 0.105, 0.05, 0.30, 0.62, 0.13),
    "corvid":   (0.50, 1.05, 0.310, 0.245, 0.14, 0.32, 0.120, 0.12, 0.34, 0.85, 0.15),
    "wader":    (0.22, 1.00, 0.270, 0.165, 0.72, 0.55, 0.075, 0.05, 0.80, 0.30, 0.13),
    "parrot":   (0.98, 1.00, 0.300, 0.270, 0.08, 0.22, 0.210, 0.85, 0.16, 0.90, 0.13),
    "raptor":   (0.95, 1.10, 0.350, 0.245, 0.10, 0.20, 0.140, 0.70, 0.24, 0.55, 0.17),
    "waterfowl": (0.08, 1.25, 0.340, 0.200, 0.34, 0.27, 0.110, 0.15, 0.24, 0.26, 0.17),
}
BLACK, WHITE, GREY, BROWN = (0.10, 0.10, 0.11), (0.92, 0.91, 0.89), (0.48, 0.50, 0.53), (0.42, 0.32, 0.23)
PALE, BUFF, RUST = (0.82, 0.78, 0.70), (0.76, 0.64, 0.48), (0.72, 0.36, 0.14)
YELLOW, ORANGE, RED = (0.93, 0.78, 0.15), (0.88, 0.45, 0.13), (0.78, 0.14, 0.12)
BLUE, SKY, GREEN, OLIVE = (0.16, 0.30, 0.68), (0.36, 0.56, 0.82), (0.22, 0.58, 0.20), (0.46, 0.47, 0.26)
HORN, DUSK = (0.72, 0.62, 0.42), (0.20, 0.19, 0.20)
PLUMAGE = {  # kind; crown, face, throat, breast, belly, back, wing, tail, beak, legs; bars, streaks, mask, crest
    "american robin": ("songbird", DUSK, DUSK, DUSK, ORANGE, RUST, GREY, (.36, .34, .33), DUSK, YELLOW, BROWN,
        0, 0, 0, 0),
    "robin": ("songbird", BROWN, ORANGE, ORANGE, ORANGE, PALE, BROWN, BROWN, BROWN, DUSK, BROWN, 0, 0, 0, 0),
    "goldfinch": ("songbird", BLACK, YELLOW, YELLOW, YELLOW, WHITE, YELLOW, BLACK, BLACK, ORANGE, BUFF, 1, 0, 0, 0),
    "house finch": ("songbird", RED, RED, RED, (.72, .32, .26), PALE, BROWN, BROWN, BROWN, HORN, BROWN, .4, 1, 0, 0),
    "junco": ("songbird", DUSK, DUSK, DUSK, (.30, .30, .32), WHITE, (.36, .35, .36), DUSK, DUSK, (.9, .72, .66),
        BUFF, 0, 0, 0, 0),
    "bunting": ("songbird", BLUE, BLUE, BLUE, SKY, SKY, BLUE, (.20, .30, .52), BLUE, GREY, DUSK, 0, 0, 0, 0),
    "brambling": ("songbird", BLACK, DUSK, ORANGE, ORANGE, WHITE, (.25, .20, .17), BLACK, BLACK, YELLOW, BROWN,
        1, .2, 0, 0),
    "chickadee": ("songbird", BLACK, WHITE, BLACK, PALE, BUFF, GREY, (.36, .38, .41), GREY, BLACK, GREY, .5, 0, 0, 0),
    "sparrow": ("songbird", (.45, .26, .15), PALE, WHITE, PALE, PALE, BROWN, (.36, .25, .17), BROWN, HORN, BUFF,
        .6, .8, 1, 0),
    "blue tit": ("songbird", SKY, WHITE, YELLOW, YELLOW, YELLOW, OLIVE, SKY, BLUE, DUSK, GREY, .8, 0, 1, 0),
    "bulbul": ("songbird", BLACK, DUSK, DUSK, (.55, .47, .40), PALE, BROWN, BROWN, DUSK, BLACK, BLACK, 0, 0, 0, .7),
    "cardinal": ("songbird", RED, RED, RED, RED, RED, (.62, .13, .12), (.55, .12, .12), RED, ORANGE, BROWN, 0, 0, 1, 1),
    "jay": ("corvid", BLUE, SKY, WHITE, PALE, WHITE, (.30, .42, .70), BLUE, BLUE, BLACK, BLACK, 1, 0, 1, 1),
    "magpie": ("corvid", BLACK, BLACK, BLACK, BLACK, WHITE, BLACK, (.12, .18, .32), (.10, .20, .22), BLACK,
        BLACK, 1, 0, 0, 0),
    "crow": ("corvid", BLACK, BLACK, BLACK, BLACK, BLACK, BLACK, (.13, .13, .17), BLACK, BLACK, BLACK, 0, 0, 0, 0),
    "egret": ("wader", WHITE, WHITE, WHITE, WHITE, WHITE, WHITE, WHITE, WHITE, YELLOW, BLACK, 0, 0, 0, 0),
    "heron": ("wader", (.33, .22, .32), BLUE, (.30, .34, .48), (.30, .36, .48), (.28, .34, .46),
        (.30, .37, .50), (.27, .33, .46), GREY, GREY, OLIVE, 0, 0, 0, 0),
    "stork": ("wader", WHITE, WHITE, WHITE, WHITE, WHITE, WHITE, BLACK, WHITE, RED, RED, 0, 0, 0, 0),
    "sandpiper": ("wader", BROWN, BUFF, PALE, BUFF, WHITE, BROWN, BROWN, BROWN, BLACK, ORANGE, .5, .8, 0, 0),
    "macaw": ("parrot", BLUE, WHITE, YELLOW, YELLOW, YELLOW, BLUE, BLUE, BLUE, BLACK, DUSK, 0, 0, 1, 0),
    "red macaw": ("parrot", RED, WHITE, RED, RED, RED, RED, (.15, .36, .62), RED, HORN, DUSK, 1, 0, 0, 0),
    "parakeet": ("parrot", YELLOW, GREEN, GREEN, (.42, .70, .25), GREEN, GREEN, (.18, .45, .20), BLUE, RED,
        GREY, 0, 0, 0, 0),
    "lorikeet": ("parrot", BLUE, BLUE, ORANGE, ORANGE, GREEN, GREEN, GREEN, GREEN, RED, GREY, 0, 0, 0, 0),
    "grey parrot": ("parrot", GREY, PALE, GREY, GREY, PALE, GREY, (.36, .37, .40), RED, BLACK, GREY, 0, .3, 0, 0),
    "eagle": ("raptor", WHITE, WHITE, WHITE, (.28, .20, .15), (.26, .19, .14), (.30, .22, .16), (.24, .18, .13),
        WHITE, YELLOW, YELLOW, 0, .2, 0, 0),
    "kite": ("raptor", PALE, PALE, PALE, (.66, .42, .24), RUST, BROWN, (.30, .22, .17), RUST, DUSK, YELLOW, .4,
        1, 0, 0),
    "hawk": ("raptor", BROWN, BROWN, PALE, WHITE, PALE, BROWN, (.36, .27, .20), RUST, DUSK, YELLOW, .3, 1, 0, 0),
    "mallard": ("waterfowl", (.08, .32, .20), (.07, .30, .20), (.10, .28, .18), (.36, .22, .15), PALE, BROWN,
        (.52, .49, .46), WHITE, YELLOW, ORANGE, .4, 0, 0, 0),
    "duck": ("waterfowl", BROWN, BUFF, BUFF, (.55, .42, .28), BUFF, BROWN, (.40, .31, .23), BROWN, ORANGE, ORANGE,
        .5, .8, 1, 0),
    "goose": ("waterfowl", BLACK, BLACK, BLACK, PALE, PALE, BROWN, (.38, .31, .25), BLACK, BLACK, BLACK, 0, .2, 0, 0),
    "white goose": ("waterfowl", WHITE, WHITE, WHITE, WHITE, WHITE, WHITE, WHITE, WHITE, ORANGE, ORANGE, 0, 0, 0, 0),
}
ODDS = {"songbird": 0.52, "corvid": 0.12, "wader": 0.10, "parrot": 0.09, "raptor": 0.09, "waterfowl": 0.08}
EYES = [(0.05, 0.04, 0.04), (0.20, 0.09, 0.05), (0.80, 0.62, 0.12), (0.62, 0.16, 0.08)]
# fmt: on
LIMITS = {"beak_length": (0.5, 2.2), "wing_raised": (0.0, 1.0), "tail_length": (0.4, 2.2)}


@dataclass(frozen=True)
class Bird:
    """What is the same in every picture of one bird. Lengths are in units of about the length of its body."""

    kind: str
    posture: float  # radians, slope of the body
    body: float
    girth: float
    head: float  # radius
    neck: float
    beak: float
    beak_depth: float
    beak_curve: float  # radians, downwards
    legs: float
    tail: float
    tail_width: float
    tail_slope: float  # radians, upwards against the body
    look: float  # radians, the head turned aside
    crown: Colour
    face: Colour
    throat: Colour
    breast: Colour
    belly: Colour
    back: Colour
    wing: Colour
    tail_colour: Colour
    beak_colour: Colour
    leg_colour: Colour
    bars: float  # 0..1, pale bars of the wing
    streaks: float  # 0..1, dark streaks of the breast
    mask: float  # 0..1, dark line through the eye
    crest: float  # 0..1
    ring: float  # 0..1, pale ring around the eye
    eye: Colour
    eye_size: float
    fluff: float  # factor of the length of the feathers
    phase: tuple[float, ...]
    perch: str  # branch, post, ground
    perch_colour: Colour
    perch_slope: float  # radians
    perch_radius: float
    beak_length: float = 1.0  # factor
    wing_raised: float = 0.0  # 0 folded, 1 raised and spread
    tail_length: float = 1.0  # factor


def sample_identity(rng: np.random.Generator) -> Bird:
    """Draw a bird: the plumage of a species, varied, or a mixture of two of one kind."""
    kind = str(rng.choice(KINDS, p=[ODDS[name] for name in KINDS]))
    species = [name for name, row in PLUMAGE.items() if row[0] == kind]
    first, second = (PLUMAGE[species[k]] for k in rng.integers(len(species), size=2))
    mixed = rng.random(14) < (0.35 if rng.random() < 0.3 else 0.0)
    chosen = [second[k + 1] if mixed[k] else first[k + 1] for k in range(14)]
    tint, light = rng.normal(1, 0.05, 3), rng.uniform(0.85, 1.1)
    colours = [tuple(np.clip(np.array(c) * tint * light, 0.04, 0.95).tolist()) for c in chosen[:10]]
    size = np.array(SHAPE[kind]) * np.clip(rng.normal(1, 0.08, 11), 0.8, 1.2)
    depth = size[6] * (rng.uniform(0.8, 1.5) if kind == "songbird" else 1.0)
    on_the_ground, off_it = [0.06, 0.04, 0.9], [0.8, 0.2, 0.0]
    odds = {"wader": on_the_ground, "waterfowl": on_the_ground, "parrot": off_it, "raptor": off_it}
    perch = str(rng.choice(["branch", "post", "ground"], p=odds.get(kind, [0.68, 0.14, 0.18])))
    bark = np.array([[0.38, 0.30, 0.23], [0.52, 0.48, 0.43], [0.24, 0.19, 0.15], [0.48, 0.44, 0.30]])[rng.integers(4)]
    dark = EYES[rng.choice(4, p=[0.7, 0.3, 0, 0] if kind in ("songbird", "corvid") else [0.35, 0.1, 0.35, 0.2])]
    return Bird(
        kind=kind,
        posture=float(size[0]),
        body=float(size[1]),
        girth=float(size[2]),
        head=float(size[3]),
        neck=float(size[4]),
        beak=float(size[5]),
        beak_depth=float(depth),
        beak_curve=float(size[7]),
        legs=float(size[8]),
        tail=float(size[9]),
        tail_width=float(size[10]),
        tail_slope=float(rng.normal(0.0, 0.14)),
        look=float(np.clip(rng.normal(0, 0.3), -0.7, 0.7)),
        crown=colours[0],
        face=colours[1],
        throat=colours[2],
        breast=colours[3],
        belly=colours[4],
        back=colours[5],
        wing=colours[6],
        tail_colour=colours[7],
        beak_colour=colours[8],
        leg_colour=colours[9],
        bars=float(chosen[10]),
        streaks=float(chosen[11]),
        mask=float(chosen[12]),
        crest=float(chosen[13]),
        ring=float(rng.random() < 0.35),
        eye=dark,
        eye_size=float(rng.uniform(0.19, 0.25)),
        fluff=float(rng.uniform(0.8, 1.3)),
        phase=tuple(rng.uniform(0, 2 * np.pi, 8).tolist()),
        perch=perch,
        perch_colour=tuple((bark * rng.uniform(0.75, 1.2)).tolist()),
        perch_slope=float(rng.normal(0, 0.12)),
        perch_radius=float(rng.uniform(0.07, 0.15)),
        beak_length=float(rng.uniform(0.8, 1.25)),
        wing_raised=float(rng.uniform(0.45, 1.0) if rng.random() < 0.16 else 0.0),
        tail_length=float(rng.uniform(0.75, 1.3)),
    )


def changed(identity: Bird, name: str, amount: float) -> Bird:
    """The same bird with `amount` added to one attribute, within its limits.

    Attributes: beak_length (factor, 0.5..2.2), wing_raised (0..1) and tail_length (factor, 0.4..2.2).

    Raises:
        UserError: another attribute.
    """
    if name not in LIMITS:
        raise UserError(f"birds have no attribute {name!r} to change; known: {', '.join(LIMITS)}")
    low, high = LIMITS[name]
    return replace(identity, **{name: float(np.clip(getattr(identity, name) + amount, low, high))})


def attributes(identity: Bird, view) -> dict[str, float]:
    """The numbers of a bird and a view. Each kind, each perch and `faces_right` (of the picture) is 1 or 0.

    `beak_reach` is the length of the beak as seen, in the unit of the others."""
    values = {field.name: getattr(identity, field.name) for field in fields(Bird)}
    numbers = {name: float(value) for name, value in values.items() if isinstance(value, float)}
    kinds = {f"kind_{name}": float(identity.kind == name) for name in KINDS}
    perches = {f"perch_{name}": float(identity.perch == name) for name in ("branch", "post", "ground")}
    more = {"faces_right": float(view.yaw > 0), "beak_reach": identity.beak * identity.beak_length}
    return numbers | kinds | perches | view.attributes() | more
