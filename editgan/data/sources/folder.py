"""Source `folder`: your own pictures.

images/**.{png,jpg,...}    square pictures, faces framed as in FFHQ and CelebA-HQ
masks/**.png               optional; masks/a/b.png belongs to images/a/b.jpg, pixel value = class number
classes.json               names and colours of the classes, needed with masks: [{"name": .., "colour": [r, g, b]}]
attributes.csv             optional; a row per picture, columns `file` and, if known, `person`, `partition`, attributes
benchmark.yaml             optional; the attribute of the benchmark, if the pictures are not faces (data/protocol.py)

The names may have any letter case. Hidden files and files of other programs are ignored.
"""

import os
import re
from pathlib import Path

from editgan.data.archive import NO_PARTS, Classes, parse_classes
from editgan.data.sources.attributes import read_attributes
from editgan.data.sources.listing import (
    Item,
    Listing,
    Rejected,
    below_single_folders,
    entry,
    files_below,
    ignored_note,
    left_by_tools,
    like_masks,
    printable,
    read_needed,
    read_text,
)
from editgan.data.tables import folded, nfc
from editgan.decoding import ENDINGS
from editgan.errors import UserError

OURS = re.compile(r"rejected_.*\.csv|replaced|labels\.txt")  # what the importers write beside the layout
IMAGES, MASKS, CLASSES, TABLE = "images", "masks", "classes.json", "attributes.csv"


def list_pictures(root: Path) -> Listing:
    """List the pictures of the folder.

    Raises:
        UserError: no folder images/, masks without classes.json, or a table of which no row fits a picture.
    """
    images = entry(root, IMAGES)
    files, rejected, ignored = files_below(root, images)
    notes = ignored_note(ignored)
    masks, classes = _masks(root, rejected, notes)
    table = entry(root, TABLE)
    used = {images, table, entry(root, MASKS), entry(root, CLASSES)}
    unused = sorted(one.name for one in root.iterdir() if one.name not in used and not left_by_tools(one.name))
    unused = [printable(one) for one in unused if not OURS.fullmatch(one)]
    if unused:
        more = f" and {len(unused) - 9} more" if len(unused) > 9 else ""
        notes.append(f"not used: {', '.join(unused[:9])}{more}; the table must be called {TABLE}")
    rows: dict[str, dict | None] = {file: {} for file in files}
    if os.path.lexists(root / table):
        content, above = read_needed(root, table), (f"{images}/", "")
        rows = read_attributes(content, root / table, files, above, rejected, notes, f"{images}/")
    items, stems = [], set()
    spelled: dict[str, str] = {}
    for file in files:
        stem, dot, ending = nfc(file.removeprefix(f"{images}/")).rpartition(".")
        if (dot + ending).lower() not in ENDINGS:
            rejected.append(Rejected(file, f"is not a picture: supported extensions are {', '.join(ENDINGS)}"))
        elif stem in stems:
            rejected.append(Rejected(file, "another picture has the same name with another extension"))
        elif file not in rows:
            rejected.append(Rejected(file, f"has no row in {table}"))
        elif (row := rows[file]) is not None:
            stems.add(stem)
            found = ((masks[stem], None),) if stem in masks else ()
            person, partition = row.pop("person", None), row.pop("partition", None)
            if person is not None:  # in the spelling that comes first
                person = spelled.setdefault(" ".join(folded(person).split()), person)
            items.append(Item(file, masks=found, person=person, partition=partition, attributes=row))
    named = {nfc(file.removeprefix(f"{images}/").rpartition(".")[0]) for file in files}
    rejected += [Rejected(file, "belongs to no picture") for stem, file in sorted(masks.items()) if stem not in named]
    return Listing(_of_one_partition(items, rejected), rejected, classes, notes)


def root_of(folder: Path) -> Path:
    """The folder of the layout: the given one, or one that is reached through single folders."""
    return below_single_folders(folder, IMAGES)


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


def _masks(root: Path, rejected: list[Rejected], notes: list[str]) -> tuple[dict[str, str], Classes]:
    """Files of masks/ by the name of their picture without extension, and the classes."""
    folder, listing = entry(root, MASKS), entry(root, CLASSES)
    others = [one.name for one in sorted(root.iterdir()) if one.is_dir() and not left_by_tools(one.name)]
    for name in others:
        if name != folder and like_masks(name):
            notes.append(f"{name}/ looks like masks and is not used: masks are in {MASKS}/, classes in {CLASSES}")
    if not (root / folder).exists():
        return {}, NO_PARTS
    files, unusable, ignored = files_below(root, folder)
    notes += ignored_note(ignored)
    rejected += unusable
    classes = parse_classes(read_text(root, listing), root / listing)
    if not 2 <= len(classes.names) <= 255 or len(set(classes.names)) < len(classes.names):
        raise UserError(f"{root / listing}: expected 2 to 255 classes with distinct names")
    masks: dict[str, str] = {}
    for file in files:
        stem = nfc(file.removeprefix(f"{folder}/").rpartition(".")[0])
        if not file.lower().endswith(".png"):
            rejected.append(Rejected(file, "is not a mask: masks are .png files"))
        elif stem in masks:
            rejected.append(Rejected(file, f"another mask has the same name: {masks[stem]}"))
        else:
            masks[stem] = file
    return masks, classes
