"""Any folder or archive of uncropped photos, with an optional table of attributes and optional part masks.

The table is a CSV with the column `file` (the photo's path in the folder or archive) and the columns of attributes.csv
in docs/data.md. Masks need `classes.json` next to both folders: masks/a/b.png belongs to images/a/b.jpg, of equal size.
"""

from functools import partial
from pathlib import Path

import numpy as np

from editgan.data.archive import NO_PARTS, Classes, parse_classes
from editgan.data.collections.files import Files, Found, table_text
from editgan.data.reading import read_labels
from editgan.data.sources.folder import CLASSES, IMAGES, MASKS, parse_table
from editgan.data.sources.listing import Listing, Rejected

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")


def list_photos(files: Files, labels: Path | None) -> Listing:
    """Photos with the attributes of their rows and their masks; without a row, each counts as a separate person.

    Raises:
        UserError: the table is not a CSV or lacks the column `file`, or classes.json is not a list of classes.
    """
    found, rejected, masks, classes = [], [], {}, NO_PARTS
    table = parse_table(table_text(labels), labels, rejected) if labels is not None else {}
    unusable = {file for file, _ in rejected}  # because of their rows
    if CLASSES in files.names:
        classes = parse_classes(files.read(CLASSES), CLASSES)
        masks = {name: name[len(MASKS) + 1 :] for name in files.names if name.startswith(f"{MASKS}/")}
    photos = [name for name in files.names if name not in masks and name != CLASSES]
    by_photo = {f"{IMAGES}/{stem}".rpartition(".")[0]: name for name, stem in masks.items()}
    for name in photos:
        if not name.lower().endswith(ENDINGS):
            rejected.append(Rejected(name, f"is not a picture: supported extensions are {', '.join(ENDINGS)}"))
        elif labels is not None and name not in table:
            rejected += [] if name in unusable else [Rejected(name, f"has no row in {labels.name}")]
        else:
            row, mask = dict(table.get(name, {})), by_photo.pop(name.rpartition(".")[0], None)
            masked = None if mask is None else partial(read_mask, files, mask, classes)
            found.append(Found(name, row.pop("person", None) or name, row, masked))
    rejected += [Rejected(mask, "belongs to no photo") for mask in by_photo.values()]
    rejected += [Rejected(name, "has a row, but the file does not exist") for name in sorted(set(table) - set(photos))]
    return Listing(found, rejected, classes)


def read_mask(files: Files, name: str, classes: Classes) -> np.ndarray:
    """Class numbers.  # uint8 [H, W]"""
    return read_labels(files.read(name), None, None, len(classes.names), classes.palette)
