"""Source `celeba_hq`: CelebA-HQ with the masks of CelebAMask-HQ, as distributed, with CelebA's official split.

CelebA-HQ-img/N.jpg
CelebAMask-HQ-mask-anno/K/NNNNN_part.png   512 px, one file per part, K = N // 2000
CelebAMask-HQ-attribute-anno.txt           40 attributes per picture, -1 or 1
CelebA-HQ-to-CelebA-mapping.txt            the CelebA picture of each CelebA-HQ picture
list_eval_partition.txt                    of CelebA: 0 train, 1 val, 2 test
identity_CelebA.txt                        of CelebA, optional: identity of each picture
"""

import os
import re
from pathlib import Path

import numpy as np

from editgan.data.archive import Classes
from editgan.data.sources.listing import (
    Item,
    Listing,
    Rejected,
    below_single_folders,
    files_below,
    ignored_note,
    read_text,
)
from editgan.errors import UserError

IMAGES, MASKS = "CelebA-HQ-img", "CelebAMask-HQ-mask-anno"
ATTRIBUTES, MAPPING = "CelebAMask-HQ-attribute-anno.txt", "CelebA-HQ-to-CelebA-mapping.txt"
PARTITION, IDENTITY = "list_eval_partition.txt", "identity_CelebA.txt"
PARTITIONS = {"0": "train", "1": "val", "2": "test"}
MASK_SIDE = 512
NUMBER = re.compile(r"[0-9]{1,9}")
PART = re.compile(r"(\d{5})_(\w+)\.png")
# The published labels: published name -> (our name, published colour). The label is the position in this list, starting
# at 1; later parts cover earlier ones. Left and right are as published.
PARTS = {
    "skin": ("skin", (204, 0, 0)),
    "nose": ("nose", (76, 153, 0)),
    "eye_g": ("glasses", (204, 204, 0)),
    "l_eye": ("left_eye", (51, 51, 255)),
    "r_eye": ("right_eye", (204, 0, 204)),
    "l_brow": ("left_brow", (0, 255, 255)),
    "r_brow": ("right_brow", (255, 204, 204)),
    "l_ear": ("left_ear", (102, 51, 0)),
    "r_ear": ("right_ear", (255, 0, 0)),
    "mouth": ("mouth_interior", (102, 204, 0)),
    "u_lip": ("upper_lip", (255, 255, 0)),
    "l_lip": ("lower_lip", (0, 0, 153)),
    "hair": ("hair", (0, 0, 204)),
    "hat": ("hat", (255, 51, 153)),
    "ear_r": ("earring", (0, 204, 204)),
    "neck_l": ("necklace", (0, 51, 0)),
    "neck": ("neck", (255, 153, 51)),
    "cloth": ("clothing", (0, 204, 0)),
}
CLASSES = Classes(
    names=["background", *(name for name, _ in PARTS.values())],
    palette=np.array([(0, 0, 0), *(colour for _, colour in PARTS.values())], np.uint8),
)


def list_pictures(root: Path) -> Listing:
    """List the pictures of the folder.

    Raises:
        UserError: a table or a folder is missing or does not have the published format.
    """
    partition = dict(_rows(root, PARTITION, 2))
    people = dict(_rows(root, IDENTITY, 2)) if os.path.lexists(root / IDENTITY) else {}
    attributes = _attributes(root)
    originals = {int(row[0]): row[2] for row in _rows(root, MAPPING, 3, header=True)}
    files, rejected, ignored = files_below(root, IMAGES)
    masks, faults = _masks(root, rejected)
    files, items = set(files), []
    for number, original in sorted(originals.items()):
        file = f"{IMAGES}/{number}.jpg"
        if file not in files:
            reason = "no such file"
        elif number in faults:
            reason = faults[number]
        elif number not in masks:
            reason = f"has no masks in {MASKS}/{number // 2000}"
        elif f"{number}.jpg" not in attributes:
            reason = f"has no row in {ATTRIBUTES}"
        elif partition.get(original) not in PARTITIONS:
            reason = f"{original} has no row in {PARTITION}"
        elif people and original not in people:
            reason = f"{original} has no row in {IDENTITY}"
        else:
            found = tuple((masks[number][name], label) for label, name in enumerate(PARTS, 1) if name in masks[number])
            row, part = as_heads_have(attributes[f"{number}.jpg"]), PARTITIONS[partition[original]]
            items.append(Item(file, found, MASK_SIDE, people.get(original), part, row))
            continue
        rejected.append(Rejected(file, reason))
    known = {f"{IMAGES}/{number}.jpg" for number in originals}
    rejected += [Rejected(file, f"has no row in {MAPPING}") for file in sorted(files - known)]
    strays = [f"{MASKS}/{number // 2000}/{number:05d}_*.png" for number in sorted(masks.keys() - originals.keys())]
    rejected += [Rejected(files, "belong to no picture") for files in strays]
    return Listing(items, rejected, CLASSES, ignored_note(ignored))


def root_of(folder: Path) -> Path:
    """The folder of the layout: the given one, or one that is reached through single folders."""
    return below_single_folders(folder, IMAGES)


def as_heads_have(row: dict[str, int]) -> dict:
    """Attributes under the names used for rendered heads, and CelebA's own ones as 1 or 0."""
    beard = "goatee" if row["Goatee"] else "moustache" if row["Mustache"] else "full"
    return row | {
        "smile": float(row["Smiling"]),
        "mouth_open": float(row["Mouth_Slightly_Open"]),
        "masculine": float(row["Male"]),
        "age": 0.5 if row["Young"] else 1.0,
        "beard": "none" if row["No_Beard"] else beard,
        "glasses": "some" if row["Eyeglasses"] else "none",
    }


def _rows(root: Path, file: str, cells: int, header: bool = False) -> list[list[str]]:
    """Lines of a table, split at blanks.

    Raises:
        UserError: the file is missing, or a line has the wrong number of cells, does not start with a number (in tables
            without a header: the number of a .jpg), or starts with the same number as an earlier line.
    """
    rows = [line.split() for line in read_text(root, file).splitlines()]
    rows = [row for row in rows if row][1 if header else 0 :]
    seen = set()
    for row in rows:
        number = row[0] if header else row[0].removesuffix(".jpg")
        if len(row) != cells or not NUMBER.fullmatch(number) or number in seen:
            fault = "is a duplicate" if number in seen else "does not have the published format"
            raise UserError(f"{root / file}: the line {' '.join(row)[:80]!r} {fault}; fetch the file again")
        seen.add(number)
    return rows


def _attributes(root: Path) -> dict[str, dict[str, int]]:
    """Attributes by file name, 1 or 0."""
    lines = [line.split() for line in read_text(root, ATTRIBUTES).splitlines()]
    names = lines[1] if len(lines) > 1 else []
    needed = {"Smiling", "Mouth_Slightly_Open", "Male", "Young", "No_Beard", "Goatee", "Mustache", "Eyeglasses"}
    if not needed <= set(names):
        missing = ", ".join(sorted(needed - set(names)))
        raise UserError(f"{root / ATTRIBUTES}: its second line does not name {missing}; fetch the file again")
    rows = {}
    for row in filter(None, lines[2:]):
        if len(row) != len(names) + 1 or not set(row[1:]) <= {"1", "-1"}:
            fault = f"the row of {row[0]} does not have the published format"
            raise UserError(f"{root / ATTRIBUTES}: {fault}; fetch the file again")
        rows[row[0]] = {name: int(value == "1") for name, value in zip(names, row[1:], strict=True)}
    return rows


def _masks(root: Path, rejected: list[Rejected]) -> tuple[dict[int, dict[str, str]], dict[int, str]]:
    """Part files by picture and part, and the faults of each picture's parts."""
    files, unusable, _ = files_below(root, MASKS)
    rejected += unusable
    masks: dict[int, dict[str, str]] = {}
    faults: dict[int, str] = {}
    for file in files:
        match = PART.fullmatch(file.rpartition("/")[2])
        number = int(match[1]) if match else -1
        if match is None or file != f"{MASKS}/{number // 2000}/{match[0]}":
            rejected.append(Rejected(file, f"is not a part mask: expected {MASKS}/K/NNNNN_part.png with K = N // 2000"))
        elif match[2] not in PARTS:
            rejected.append(Rejected(file, f"unknown part {match[2]}; valid parts are {', '.join(PARTS)}"))
            faults[number] = f"{file}: unknown part {match[2]}"
        else:
            masks.setdefault(number, {})[match[2]] = file
    return masks, faults
