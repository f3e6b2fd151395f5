"""Any folder or archive of uncropped photos, with an optional table of attributes.

The table is a CSV with the column `file` (the picture's path in the folder or archive) and those of attributes.csv in
docs/data.md.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

from editgan.data.archive import Classes
from editgan.data.collections.files import Files, Found
from editgan.data.collections.parts import NO_PARTS
from editgan.data.sources.listing import Rejected
from editgan.errors import UserError

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")


def list_photos(files: Files, labels: Path | None) -> tuple[list[Found], list[Rejected], Classes]:
    """Photos with the attributes of their rows; a person of its own where no row names one.

    Raises:
        UserError: the table is no CSV or has no column `file`.
    """
    table = read_table(labels) if labels is not None else {}
    found, rejected = [], []
    for name in files.names:
        if not name.lower().endswith(ENDINGS):
            rejected.append(Rejected(name, f"is no picture: its name ends in none of {', '.join(ENDINGS)}"))
        elif labels is not None and name not in table:
            rejected.append(Rejected(name, f"has no row in {labels.name}"))
        else:
            row = dict(table.get(name, {}))
            found.append(Found(name, row.pop("person", "") or name, row))
    rejected += [Rejected(name, "no such file, but a row") for name in sorted(set(table) - set(files.names))]
    return found, rejected, NO_PARTS


def read_table(path: Path) -> dict[str, dict[str, str]]:
    """Rows by file."""
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline=""), restkey=""))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not readable as a CSV ({error})") from None
    if not rows or "file" not in rows[0]:
        raise UserError(f"{path}: its first line must name the column file")
    return {row.pop("file"): {key: value for key, value in row.items() if key and value} for row in rows}
