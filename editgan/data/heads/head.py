"""Heads of each split. Head `index` of a split does not depend on order, process or number of workers."""

import dataclasses
from dataclasses import dataclass, replace

import numpy as np

from editgan.data.heads.identity import Identity, sample_identity
from editgan.data.heads.mesh import HeadMesh
from editgan.data.heads.scene import Expression, View, sample_expression, sample_neutral, sample_view
from editgan.data.splits import IDENTITIES, IDENTITIES_PER_STREAM, is_changed

# The labelled heads cover every part class: each row fixes the hair, beard, glasses and smile of one head.
FEW_SHOT = (
    ("short", "none", "none", 0.0), ("long", "none", "none", 0.95), ("receding", "full", "none", 0.0),
    ("bun", "none", "round", 0.0), ("curly", "none", "none", 0.9), ("side part", "goatee", "square", 0.0),
    ("fringe", "none", "none", 0.5), ("bob", "none", "none", 0.0), ("buzz", "moustache", "none", 1.0),
    ("long fringe", "none", "oval", 0.0), ("quiff", "none", "none", 0.0), ("bald", "chinstrap", "none", 0.6),
    ("afro", "none", "none", 0.9), ("horseshoe", "none", "none", 0.0), ("side part", "none", "none", 0.3),
    ("bob", "none", "square", 0.85),
)  # fmt: skip


@dataclass(frozen=True)
class Head:
    """Everything that determines one picture."""

    identity: int
    who: Identity
    expression: Expression
    view: View

    def attributes(self) -> dict:
        """Attributes of the picture as JSON values."""
        who, view = self.who, self.view
        return {
            "identity": self.identity,
            **dataclasses.asdict(self.expression),
            "yaw": view.yaw,
            "pitch": view.pitch,
            "roll": view.roll,
            "light": list(view.light),
            "hair_style": who.hair_style,
            "beard": who.beard,
            "glasses": who.glasses,
            "masculine": who.masculine,
            "age": who.age,
        }


def sample_head(mesh: HeadMesh, split: str, index: int, *, seed: int, few_shot: int = 0) -> Head:
    """Head `index` of a split.

    Args:
        split: one of SPLITS; `test_smiling` is `test` with only the smile changed.
        seed: the seed of the run.
        few_shot: number of heads at the start of the pool that are arranged to cover every part class.
    """
    stream = IDENTITIES[split]
    rng = np.random.default_rng([seed, stream, index])
    who = sample_identity(mesh, rng)
    view = sample_view(rng)
    expression = sample_expression(rng)
    if split in ("test", "test_smiling", "reference"):
        expression = sample_neutral(rng)[int(is_changed(split, index))]
    if split == "pool" and index < few_shot:
        who, view, expression = _arrange(index, who, view, expression)
    return Head(identity=stream * IDENTITIES_PER_STREAM + index, who=who, expression=expression, view=view)


def _arrange(index: int, who: Identity, view: View, expression: Expression) -> tuple[Identity, View, Expression]:
    """A labelled head: hair, beard, glasses and smile from the table, seen nearly from the front."""
    style, beard, glasses, smile = FEW_SHOT[index % len(FEW_SHOT)]
    who = replace(who, hair_style=style, beard=beard, glasses=glasses, collar="crew")
    view = replace(view, yaw=0.6 * view.yaw, pitch=0.6 * view.pitch)
    opened = 0.9 if smile > 0.8 else 0.4
    expression = replace(expression, smile=smile, teeth=opened, mouth_open=0.0, frown=0.0, blink=0.0)
    return who, view, expression
