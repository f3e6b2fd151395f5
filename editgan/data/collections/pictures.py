"""Any folder or archive of uncropped photos, with an optional table of attributes and optional part masks.

The table is a CSV with the column `file` (the photo's path in the folder or archive) and the columns of attributes.csv
in docs/data.md. Masks need `classes.json` next to both folders: masks/a/b.png belongs to images/a/b.jpg, of equal size.
The layout may lie under other folders, and its names may have any letter case. A mask is never taken for a photo.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from editgan.data.archive import NO_PARTS, Classes, parse_classes
from editgan.data.collections.files import Files, Found, content_of
from editgan.data.reading import read_labels
from editgan.data.sources.attributes import read_attributes
from editgan.data.sources.folder import CLASSES, IMAGES, MASKS
from editgan.data.sources.listing import Listing, Rejected, ignored_note, like_masks
from editgan.data.tables import folded, nfc
from editgan.errors import Unusable, UserError

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")


class Layout(NamedTuple):
    """Where the files of the layout are: prefixes of paths that end in a slash, and the path of classes.json."""

    top: str
    images: str
    masks: str | None
    classes: str | None


def list_photos(files: Files, labels: Path | None) -> Listing:
    """Photos with the attributes of their rows and their masks; without a row, each counts as a separate person.

    Raises:
        UserError: the table is not a CSV, lacks the column `file` or fits no photo; classes.json is damaged; or two
            layouts were found.
    """
    found, rejected, notes, classes = [], [], ignored_note(files.ignored), NO_PARTS
    layout = layout_of(files.names)
    masks: dict[str, str] = {}
    if layout.classes is not None:
        classes = parse_classes(files.read_needed(layout.classes), f"{files.path}: {layout.classes}")
        if layout.masks is not None:
            inside = [name for name in files.names if name.startswith(layout.masks)]
            masks = {stem_of(name.removeprefix(layout.masks)): name for name in inside}
    unused = unused_masks(files.names, layout)
    for folder, count in unused.items():
        remedy = f"masks are used from {MASKS}/ beside {IMAGES}/ and {CLASSES}"
        notes.append(f"{folder}/ looks like masks and is not used ({count} files): {remedy}")
    left_out = (*(f"{folder}/" for folder in unused), *([layout.masks] if masks else []))
    photos = [name for name in files.names if not name.startswith(left_out) and name != layout.classes]
    rows: dict[str, dict | None] = {name: {} for name in photos}
    if labels is not None:
        content, above = content_of(labels), ("", layout.top, layout.images)
        rows = read_attributes(content, labels, photos, above, rejected, notes)
    for name in photos:
        if not name.lower().endswith(ENDINGS):
            rejected.append(Rejected(name, f"is not a picture: supported extensions are {', '.join(ENDINGS)}"))
        elif name not in rows:
            rejected.append(Rejected(name, f"has no row in {labels.name}"))
        elif (row := rows[name]) is not None:
            mask = masks.pop(stem_of(name.removeprefix(layout.images)), None)
            remarks: list[str] = []
            masked = None if mask is None else partial(read_mask, files, mask, classes, remarks)
            found.append(Found(name, row.pop("person", None) or name, row, masked, remarks))
    rejected += [Rejected(mask, "belongs to no photo") for mask in masks.values()]
    return Listing(found, rejected, classes, notes)


def layout_of(names: Sequence[str]) -> Layout:
    """The layout among the files: beside classes.json, else where a folder `images` is, else of photos alone.

    Raises:
        UserError: there are two files classes.json, or two folders whose names differ in letter case only.
    """
    listed = [name for name in names if folded(name.rpartition("/")[2]) == CLASSES]
    if len(listed) > 1:
        raise UserError(f"two layouts: both {listed[0]} and {listed[1]}; import each one separately")
    holders = [name for name in names if folded(IMAGES) in map(folded, name.split("/")[:-1])]
    if listed:
        top = listed[0].rpartition("/")[0]
    elif holders:
        parts = holders[0].split("/")
        top = "/".join(parts[: list(map(folded, parts)).index(IMAGES)])
    else:
        top = single_folder(names)
    top = f"{top}/" if top else ""
    inside = {name.removeprefix(top).split("/")[0] for name in names if name.startswith(top) and name.count("/")}
    folders = {}
    for wanted in (IMAGES, MASKS):
        matching = sorted(one for one in inside if folded(one) == wanted)
        if len(matching) > 1:
            raise UserError(f"both folders {top}{matching[0]} and {top}{matching[1]}; keep one")
        folders[wanted] = f"{top}{matching[0]}/" if matching else None
    return Layout(top, folders[IMAGES] or top, folders[MASKS], listed[0] if listed else None)


def single_folder(names: Sequence[str]) -> str:
    """The deepest folder that holds all files."""
    folders = [PurePosixPath(name).parts[:-1] for name in names]
    shared = []
    for parts in zip(*folders, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return "/".join(shared)


def unused_masks(names: Sequence[str], layout: Layout) -> dict[str, int]:
    """Folders that are named like masks, beside other folders or photos, with their numbers of files."""
    used = layout.masks if layout.classes is not None else None
    found: dict[str, int] = {}
    for name in names:
        if used is not None and name.startswith(used):
            continue
        parts = name.removeprefix(layout.top).split("/")[:-1] if name.startswith(layout.top) else name.split("/")[:-1]
        place = next((index for index, part in enumerate(parts) if like_masks(part)), None)
        if place is not None:
            start = layout.top if name.startswith(layout.top) else ""
            folder = start + "/".join(parts[: place + 1])
            found[folder] = found.get(folder, 0) + 1
    everything = sum(found.values()) == len(names)
    return {} if everything else found


def stem_of(name: str) -> str:
    """What a mask and its photo have in common."""
    return nfc(name).rpartition(".")[0]


def read_mask(files: Files, name: str, classes: Classes, remarks: list[str]) -> np.ndarray:
    """Class numbers; `remarks` gets how they were read.  # uint8 [H, W]

    Raises:
        Unusable: damaged, or with an unknown label or colour; the message names the mask.
    """
    notes: list[str] = []
    try:
        labels = read_labels(files.read(name), None, None, len(classes.names), classes.palette, notes, ignore=True)
    except Unusable as reason:
        raise Unusable(f"its mask {name} {reason}") from None
    remarks += [f"its mask {note}" for note in notes]
    return labels
