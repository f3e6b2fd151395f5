"""The edits of `edits.yaml`: which parts an edit changes, and how to derive its target mask from a head's mask."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import yaml
from pydantic import Field, ValidationError, model_validator

from editgan.config import Section, parse_yaml
from editgan.editing.masks import (
    EYES,
    bend_parts,
    erase_parts,
    eye_centres,
    grow_parts,
    move_parts,
    open_parts,
    size_ratio,
    transplant_parts,
)
from editgan.errors import UserError
from editgan.images import read_mask

RULE = re.compile(r"(\w+)\s*(>=|!=|<|=)\s*([^=\s].*)")
NAME = re.compile(r"[a-z][a-z0-9_]*")
PICTURES = "pictures"  # entry of the edits file that holds for all its edits


class Step(Section):
    """One operation on a mask. `parts` are part names. Lengths are fractions of the image side."""

    parts: tuple[str, ...] = Field(min_length=1)

    def class_ids(self, names: Sequence[str]) -> list[int]:
        return [names.index(part) for part in self.parts]


class Covering(Step):
    """An operation that may extend parts onto pixels of other labels."""

    over: tuple[str, ...] | None = None  # labels that the parts may overwrite; null: any

    def over_ids(self, names: Sequence[str]) -> list[int] | None:
        return None if self.over is None else [names.index(part) for part in self.over]


class Transplant(Covering):
    """Copy the parts of a labelled head (the donor), at their size relative to the distance between its eyes."""

    donor: str  # rule on the donor's attributes, e.g. "smile >= 0.8"; of the matches, the first by `least` is used
    at: Literal["parts", "eyes"] = "parts"  # position: where the parts were, or as on the donor relative to the eyes
    add: bool = False  # keep the parts that are already there; otherwise they are erased first


class Move(Step):
    """Move, scale and rotate each part about its own centre, or all parts about their common centre (`together`)."""

    x: float = 0.0  # to the right
    y: float = 0.0  # down
    scale: tuple[float, float] = (1.0, 1.0)
    degrees: float = 0.0  # clockwise
    together: bool = False


class Grow(Covering):
    """Grow the parts; negative values shrink them."""

    x: float
    y: float


class Bend(Step):
    """Raise the left and right ends of the parts and keep their middle: a smile without a donor."""

    y: float  # upward shift of the outermost columns; negative lowers them


class Repaint(Step):
    """Relabel the parts; "nearest" takes the label of the nearest pixel outside them."""

    to: str = Field(alias="as")


class Open(Section):
    """Move the `lower` part down and fill the gap to `upper` with `inside`."""

    upper: str
    lower: str
    inside: str
    y: float = Field(gt=0)


class Painted(Section):
    """A mask painted by hand: a PNG of part labels. The path is relative to the edits file."""

    file: str


class Operation(Section):
    """One list entry of an edit: exactly one of these operations."""

    transplant: Transplant | None = None
    move: Move | None = None
    grow: Grow | None = None
    bend: Bend | None = None
    repaint: Repaint | None = None
    open: Open | None = None
    painted: Painted | None = None

    @model_validator(mode="after")
    def _one(self) -> "Operation":
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one operation per list entry: {', '.join(type(self).model_fields)}")
        return self


class Pictures(Section):
    """What the attributes of the pictures to learn from must be, and which of these pictures come first."""

    learn_from: tuple[str, ...] = ()  # rules that a picture must satisfy
    prefer: tuple[str, ...] = ()  # rules; pictures that satisfy more of them come first
    least: tuple[str, ...] = ()  # numbers; then pictures with the smallest sum of their absolute values come first


PicturesT = TypeVar("PicturesT", bound=Pictures)


class Edit(Pictures):
    """One entry of the edits file."""

    about: str  # one-line description
    region: tuple[str, ...] = Field(min_length=1)  # Q_edit: the parts that the edit may change
    mask: tuple[Operation, ...] = Field(min_length=1)  # applied in this order
    adds: bool = False  # the edit adds parts, so the segmentation need not find them before the edit
    strength: float = 1.0  # default strength of the vector; 1 is the learned one


def load_edits(path: str | Path, class_names: Sequence[str]) -> dict[str, Edit]:
    """Read an edits file and check its part names. Each edit gets what its file says of the pictures of all edits.

    Raises:
        UserError: missing or unreadable file, an unknown key, part or operation, or an invalid edit name.
    """
    path = Path(path)
    try:
        content = parse_yaml(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: edits file not found") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path}: expected edits by name, found {content!r}")
    shared, edits = _section(Pictures, path, PICTURES, content.pop(PICTURES, {})), {}
    for name, entry in content.items():
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise UserError(f"{path}: invalid edit name {name!r}; use lowercase letters, digits and _")
        edit = _section(Edit, path, name, entry)
        order = {key: getattr(shared, key) for key in ("prefer", "least") if key not in edit.model_fields_set}
        edits[name] = edit.model_copy(update={"learn_from": shared.learn_from + edit.learn_from, **order})
        unknown = [part for part in named_parts(edits[name]) if part not in class_names]
        if unknown:
            raise UserError(f"{path}: {name}: unknown part {unknown[0]!r}; known are {', '.join(class_names)}")
    if not edits:
        raise UserError(f"{path}: expected edits by name, found only {PICTURES!r}")
    return edits


def _section(section: type[PicturesT], path: Path, name: str, entry: object) -> PicturesT:
    """An entry of the file. Raises UserError: it has a fault, which is named."""
    try:
        return section.model_validate(entry)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in (name, *fault["loc"]))
        raise UserError(f"{path}: {where}: {fault['msg']} (given {fault['input']!r})") from None


def named_parts(edit: Edit) -> list[str]:
    """All parts that an edit refers to."""
    parts = list(edit.region)
    for operation in edit.mask:
        for step in (operation.transplant, operation.move, operation.grow, operation.bend, operation.repaint):
            if step is not None:
                parts += [*step.parts, *(getattr(step, "over", None) or ())]
        if operation.repaint is not None and operation.repaint.to != "nearest":
            parts.append(operation.repaint.to)
        if operation.open is not None:
            parts += [operation.open.upper, operation.open.lower, operation.open.inside]
    return parts


def fits(attributes: dict, rule: str) -> bool:
    """Whether a picture's attributes satisfy a rule: "beard != none", "hair_style = long", "smile >= 0.8", "blink < 1".

    Raises:
        UserError: an invalid rule, or an unknown attribute.
    """
    match = RULE.fullmatch(rule.strip())
    if match is None or match[1] not in attributes:
        raise UserError(
            f"invalid rule {rule!r}; write e.g. size >= 0.8 or colour != red, with one of the attributes "
            + ", ".join(attributes)
        )
    value, wanted = attributes[match[1]], match[3]
    if isinstance(value, (int, float)):
        try:
            wanted = float(wanted)
        except ValueError:
            raise UserError(f"{rule!r}: {match[1]} is a number") from None
    elif match[2] in (">=", "<"):
        raise UserError(f"{rule!r}: {match[1]} is not a number; use = or !=")
    if match[2] in (">=", "<"):
        return (value >= wanted) == (match[2] == ">=")
    return (value == wanted) == (match[2] == "=")


def distance(attributes: dict, least: Sequence[str]) -> float:
    """Sum of the absolute values of the attributes `least`, e.g. how far a head is rotated away from frontal.

    Raises:
        UserError: a picture has no number of this name.
    """
    for name in least:
        if not isinstance(attributes.get(name), (int, float)):
            raise UserError(f"least: a picture has no number {name!r}; its attributes are {', '.join(attributes)}")
    return sum(abs(attributes[name]) for name in least)


def suitable_pictures(described: Edit, attributes: Sequence[dict]) -> list[int]:
    """Indices of the pictures to learn an edit from: those that satisfy its rules, the preferred ones first."""
    found = [i for i, row in enumerate(attributes) if all(fits(row, rule) for rule in described.learn_from)]

    def order(index: int) -> tuple[int, float]:
        row = attributes[index]
        return sum(not fits(row, rule) for rule in described.prefer), distance(row, described.least)

    return sorted(found, key=order)


def choose_donor(
    rule: str, parts: Sequence[int], masks: np.ndarray, attributes: Sequence[dict], least: Sequence[str] = ()
) -> int:
    """Index of the labelled picture that satisfies the rule and misses the fewest parts; ties go by `distance`.

    Raises:
        UserError: no picture satisfies the rule and shows at least one of the parts.
    """
    candidates = [i for i, row in enumerate(attributes) if fits(row, rule) and np.isin(masks[i], parts).any()]
    if not candidates:
        raise UserError(
            f"none of the {len(attributes)} labelled pictures satisfies {rule!r}; label more pictures (data.few_shot) "
            "or change the rule in the edits file"
        )

    def order(index: int) -> tuple[int, float]:
        return sum(not (masks[index] == part).any() for part in parts), distance(attributes[index], least)

    return min(candidates, key=order)


def target_mask(
    edit: Edit,
    mask: np.ndarray,
    *,
    class_names: Sequence[str],
    donors: np.ndarray,
    donor_attributes: Sequence[dict],
    folder: Path = Path(),
    palette: np.ndarray | None = None,
) -> tuple[np.ndarray, str]:
    """Apply an edit to the mask of a head.

    Args:
        mask: labels  # uint8 [H, W]
        donors: masks of the labelled heads  # uint8 [N, H, W]
        folder: paths of painted masks are relative to this folder
        palette: colours of the classes, uint8 [K, 3], by which painted masks are read
    Returns:
        (the edited mask  # uint8 [H, W], the source of transplanted parts, e.g. "pool/00003")
    """
    side, origin = mask.shape[-1], ""

    def pixels(length: float) -> int:
        """A fraction of the side in pixels; a nonzero length is at least one pixel."""
        return int(np.sign(length)) * max(1, round(abs(length) * side)) if length else 0

    for operation in edit.mask:
        if (step := operation.transplant) is not None:
            ids = step.class_ids(class_names)
            donor = choose_donor(step.donor, ids, donors, donor_attributes, edit.least)
            mask = transplanted(step, mask, donors[donor], class_names)
            origin = f"pool/{donor:05d}"
        elif (step := operation.move) is not None:
            ids = step.class_ids(class_names)
            for group in [ids] if step.together else [[one] for one in ids]:
                by = (pixels(step.x), pixels(step.y))
                mask = move_parts(mask, group, by=by, scale=step.scale, degrees=step.degrees)
        elif (step := operation.grow) is not None:
            reach = (pixels(step.x), pixels(step.y))
            mask = grow_parts(mask, step.class_ids(class_names), reach, step.over_ids(class_names))
        elif (step := operation.bend) is not None:
            mask = bend_parts(mask, step.class_ids(class_names), pixels(step.y))
        elif (step := operation.repaint) is not None:
            ids = step.class_ids(class_names)
            if step.to == "nearest":
                mask = erase_parts(mask, ids)
            else:
                mask = np.where(np.isin(mask, ids), class_names.index(step.to), mask).astype(mask.dtype)
        elif (step := operation.open) is not None:
            upper, lower, inside = (class_names.index(part) for part in (step.upper, step.lower, step.inside))
            mask = open_parts(mask, upper, lower, inside, pixels(step.y))
        else:
            origin, options = operation.painted.file, dict(resolution=side, classes=len(class_names), palette=palette)
            mask = read_mask(folder / origin, **options).numpy()
    return mask, origin


def transplanted(step: Transplant, mask: np.ndarray, donor: np.ndarray, class_names: Sequence[str]) -> np.ndarray:
    """Run a `Transplant` step on masks [H, W]. If a mask lacks an eye, the parts themselves give scale and position."""
    ids, over = step.class_ids(class_names), step.over_ids(class_names)
    eyes = [class_names.index(name) for name in EYES if name in class_names]
    scale = size_ratio(mask, donor, eyes) if len(eyes) == 2 else None
    if scale is None or step.at == "parts":
        return transplant_parts(mask, donor, ids, scale, over, erase=not step.add)
    anchors = tuple(tuple(eye_centres(one, eyes).mean(axis=0)) for one in (mask, donor))
    return transplant_parts(mask, donor, ids, scale, over, anchors, erase=not step.add)
