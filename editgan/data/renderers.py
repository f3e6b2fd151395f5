"""The renderers behind `data.source`: heads, and classes without faces, whose modules share a small interface.

A class without faces is a module with

    CLASSES                                    its parts
    sample_identity(rng)                       what is the same in every picture of one thing
    sample_view(rng)                           what varies: camera, light, background
    attributes(identity, view)                 attributes of a picture, as numbers
    changed(identity, name, amount)            the same thing with one attribute changed
    render(identity, view, size, supersample)  image uint8 [size, size, 3] and part mask uint8 [size, size]
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import ModuleType

import numpy as np

from editgan.data import birds, cars, cats
from editgan.data.archive import Classes
from editgan.data.heads.head import sample_head
from editgan.data.heads.mesh import load_head_mesh
from editgan.data.heads.paint import CLASSES
from editgan.data.heads.render import LABELS_VERSION, VERSION, render
from editgan.data.protocol import SMILE, Protocol
from editgan.data.splits import IDENTITIES, IDENTITIES_PER_STREAM, is_changed

SUPERSAMPLE = 2  # samples per pixel and axis
Drawn = tuple[np.ndarray, np.ndarray, dict]  # image uint8 [H, W, 3], part mask uint8 [H, W], attributes


@dataclass(frozen=True)
class Renderer:
    """A class of pictures, as stage `data` uses it."""

    classes: Classes
    version: int  # raise when the same parameters would give different pictures
    labels_version: int  # raise when the same pictures would get different part masks
    draw: Callable[..., Drawn]  # (split, index, seed=, few_shot=, resolution=): picture `index` of a split
    prepare: Callable[[], object] = lambda: None  # called once in every worker process


def draw_head(split: str, index: int, *, seed: int, few_shot: int, resolution: int) -> Drawn:
    """Head `index` of a split."""
    mesh = load_head_mesh()
    head = sample_head(mesh, split, index, seed=seed, few_shot=few_shot)
    image, mask = render(mesh, head.who, head.expression, head.view, resolution=resolution, supersample=SUPERSAMPLE)
    return image, mask, head.attributes()


def draw_thing(
    module: ModuleType, change: tuple[str, float], split: str, index: int, *, seed: int, few_shot: int, resolution: int
) -> Drawn:
    """Picture `index` of a split of a class without faces.

    Where a head smiles in the test splits, a thing has the attribute `change` (name, amount) changed and nothing else.
    `few_shot` is unused: the parts of these classes are not rare, so the first pictures show them all.
    """
    stream = IDENTITIES[split]
    rng = np.random.default_rng([seed, stream, index])
    identity, view = module.sample_identity(rng), module.sample_view(rng)
    if is_changed(split, index):
        identity = module.changed(identity, *change)
    image, mask = module.render(identity, view, resolution, SUPERSAMPLE)
    number = stream * IDENTITIES_PER_STREAM + index
    return image, mask, {"identity": number, **module.attributes(identity, view)}


def of_things(module: ModuleType, change: str, amount: float) -> Renderer:
    """The renderer of a class without faces; `change` by `amount` is what draw_thing changes in the test splits."""
    draw = partial(draw_thing, module, (change, amount))
    return Renderer(module.CLASSES, module.VERSION, module.LABELS_VERSION, draw)


# The attribute of the benchmark is the one that `of_things` changes in the test splits, as it is visible.
PROTOCOLS = {
    "heads": SMILE,
    "cars": Protocol(
        attribute="wheel_size", parts=("wheels", "rims", "spokes"), low=0.345, high=0.375, growth=1.15,
        conditions=("length", "roof_height", "camera_distance"),
    ),
    "cats": Protocol(
        attribute="ear_length", parts=("left_ear", "right_ear", "left_inner_ear", "right_inner_ear"), low=0.75,
        high=0.81, growth=1.45, conditions=("width", "eye_width", "yaw"),
    ),
    "birds": Protocol(
        attribute="beak_reach", parts=("beak",), low=0.23, high=0.28, growth=1.5,
        conditions=("tail_length", "eye_size", "yaw"),
    ),
}  # fmt: skip
RENDERERS = {
    "heads": Renderer(CLASSES, VERSION, LABELS_VERSION, draw_head, load_head_mesh),
    "cars": of_things(cars, "wheel_size", 0.06),
    "cats": of_things(cats, "ear_size", 0.4),
    "birds": of_things(birds, "beak_length", 0.7),
}
