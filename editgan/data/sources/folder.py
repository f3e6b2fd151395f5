"""Source `folder`: your own pictures.

images/**.{png,jpg,...}    square pictures, faces framed as in FFHQ and CelebA-HQ
masks/**.png               optional; masks/a/b.png belongs to images/a/b.jpg, pixel value = class number
classes.json               names and colours of the classes, needed with masks: [{"name": .., "colour": [r, g, b]}]
attributes.csv             optional; a row per picture, columns `file` and, if known, `person`, `partition`, attributes
"""

import math
import os
from pathlib import Path

from editgan.data.archive import NO_PARTS, Classes, parse_classes
from editgan.data.sources.listing import Item, Listing, Rejected, files_below, leads_out, parse_csv, read_text
from editgan.decoding import ENDINGS
from editgan.errors import UserError

IMAGES, MASKS, CLASSES, TABLE = "images", "masks", "classes.json", "attributes.csv"
RANGES = {
    **dict.fromkeys(("smile", "mouth_open", "frown", "blink", "masculine", "age"), (0.0, 1.0)),
    **dict.fromkeys(("yaw", "pitch", "roll"), (-math.pi, math.pi)),
}  # attributes that later stages use
PARTITIONS = ("train", "val", "test")
OURS = ("identity", "file")  # attributes that this stage writes


def list_pictures(root: Path) -> Listing:
    """List the pictures of the folder.

    Raises:
        UserError: no folder images/, masks without classes.json, or a table that is not a CSV or lacks column `file`.
    """
    files, rejected = files_below(root, IMAGES)
    masks, classes = _masks(root, rejected)
    table = None
    if os.path.lexists(root / TABLE):
        table = parse_table(read_text(root, TABLE), root / TABLE, rejected, f"{IMAGES}/")
    refused = {file for file, _ in rejected}  # because of their row
    names = [file.removeprefix(f"{IMAGES}/") for file in files]
    items, stems = [], set()
    for file, name in zip(files, names, strict=True):
        stem, dot, ending = name.rpartition(".")
        if (dot + ending).lower() not in ENDINGS:
            rejected.append(Rejected(file, f"is not a picture: supported extensions are {', '.join(ENDINGS)}"))
        elif stem in stems:
            rejected.append(Rejected(file, "another picture has the same name with another extension"))
        elif table is not None and name not in table:
            rejected += [] if file in refused else [Rejected(file, f"has no row in {TABLE}")]
        else:
            stems.add(stem)
            row, mask = dict((table or {}).get(name, {})), f"{MASKS}/{stem}.png"
            found = ((mask, None),) if mask in masks else ()
            person, partition = row.pop("person", None), row.pop("partition", None)
            items.append(Item(file, masks=found, person=person, partition=partition, attributes=row))
    expected = {f"{MASKS}/{name.rpartition('.')[0]}.png" for name in names}
    rejected += [Rejected(mask, "belongs to no picture") for mask in sorted(masks - expected)]
    absent = sorted(set(table or ()) - set(names))
    rejected += [Rejected(f"{IMAGES}/{name}", f"has a row in {TABLE}, but the file does not exist") for name in absent]
    return Listing(_of_one_partition(items, rejected), rejected, classes)


def _of_one_partition(items: list[Item], rejected: list[Rejected]) -> list[Item]:
    """Drop people whose pictures are in several partitions: they would be in training and in test."""
    partitions: dict[str | None, set[str]] = {}
    for item in items:
        partitions.setdefault(item.person, set()).add(item.partition or "none")
    kept = []
    for item in items:
        if item.person is None or len(partitions[item.person]) == 1:
            kept.append(item)
            continue
        listed = ", ".join(sorted(partitions[item.person]))
        rejected.append(Rejected(item.file, f"{TABLE} has pictures of {item.person!r} in several partitions: {listed}"))
    return kept


def _masks(root: Path, rejected: list[Rejected]) -> tuple[set[str], Classes]:
    """Files of masks/, and the classes."""
    if not (root / MASKS).exists():
        return set(), NO_PARTS
    files, unusable = files_below(root, MASKS)
    rejected += unusable
    rejected += [Rejected(file, "is not a mask: masks are .png files") for file in files if not file.endswith(".png")]
    classes = parse_classes(read_text(root, CLASSES), root / CLASSES)
    if not 2 <= len(classes.names) <= 255 or len(set(classes.names)) < len(classes.names):
        raise UserError(f"{root / CLASSES}: expected 2 to 255 classes with distinct names")
    return {file for file in files if file.endswith(".png")}, classes


def parse_table(text: str, path: Path, rejected: list[Rejected], place: str = "") -> dict[str, dict]:
    """Parse a table of attributes: rows by file, numeric cells as numbers. Invalid rows are added to `rejected`.

    Args:
        path: file that the text was read from
        place: prefix of file names in `rejected`
    Raises:
        UserError: not a CSV, or the columns have wrong names.
    """
    columns, lines = parse_csv(text, path)
    if "file" not in columns or len(set(columns)) < len(columns) or "" in columns:
        raise UserError(f"{path}: the header must name each column once, including `file`; it is {columns}")
    if "identity" in columns:
        raise UserError(f"{path}: the column with the person of a picture must be called `person`, not `identity`")
    rows: dict[str, dict] = {}
    seen = set()
    for number, cells in enumerate(lines, 2):
        file = cells["file"]
        try:
            if leads_out(file):
                raise ValueError("its path leads out of the folder")
            if file in seen:
                rows.pop(file, None)  # it is unknown which row is right
                raise ValueError("a second row for this file")
            seen.add(file)
            rows[file] = _row(cells)
        except ValueError as error:
            rejected.append(Rejected(f"{place}{file}", f"{path.name}, row {number}: {error}"))
    return rows


def _row(cells: dict) -> dict:
    """Cells as attributes: numbers where possible; empty cells are left out."""
    if "" in cells:
        raise ValueError("it has more cells than the header")
    row = {}
    for name, cell in cells.items():
        cell = cell.strip()
        if name in OURS or not cell:
            continue
        try:
            value = float(cell) if name != "person" else cell
        except ValueError:
            value = cell
        if name == "partition" and value not in PARTITIONS:
            raise ValueError(f"partition is {cell!r}; valid values are {', '.join(PARTITIONS)}")
        if name in RANGES:
            low, high = RANGES[name]
            if not isinstance(value, float) or not low <= value <= high:
                raise ValueError(f"{name} is {cell!r}; expected a number from {low:g} to {high:.3g}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name} is {cell!r}; expected a finite number")
        row[name] = value
    return row
