"""attributes.csv: a row of attributes for each picture, of source `folder` and of imported photos."""

import difflib
import math
from collections.abc import Sequence
from pathlib import Path

from editgan.data.sources.listing import Rejected, leads_out
from editgan.data.tables import file_name, named_files, number, read_table
from editgan.errors import UserError

RANGES = {
    **dict.fromkeys(("smile", "mouth_open", "frown", "blink", "masculine", "age"), (0.0, 1.0)),
    **dict.fromkeys(("yaw", "pitch", "roll"), (-math.pi, math.pi)),
}  # attributes that later stages use
WORDS = ("person", "partition", "neutral")  # these are never numbers
KNOWN = ("file", *WORDS, *RANGES, "beard", "glasses")
PARTITIONS = ("train", "val", "test")
OURS = ("identity", "file")  # attributes that stage `data` writes


def read_attributes(
    content: bytes,
    path: Path,
    files: Sequence[str],
    above: Sequence[str],
    rejected: list[Rejected],
    notes: list[str],
    place: str = "",
) -> dict[str, dict | None]:
    """Attributes by file: numeric cells as numbers, empty ones left out; None if the file's row is invalid.

    Invalid rows and rows that fit no file are added to `rejected`, columns without a use to `notes`.

    Args:
        files: the pictures
        above: what the table may leave out at the start of their paths (`tables.named_files`)
        place: folder of the pictures; `neutral` is given relative to it
    Raises:
        UserError: not a table, the columns have wrong names, or no row fits a picture.
    """
    table = read_table(content, path, ["file"])
    if "identity" in table.columns:
        raise UserError(f"{path}: the column with the person of a picture must be called `person`, not `identity`")
    known = named_files(files, above)
    rows: dict[str, dict | None] = {}
    fitting = 0
    for row in table.rows:
        name = file_name(row.cells["file"])
        file = known.get(name)
        fitting += file is not None
        try:
            if not name:
                raise ValueError("names no file")
            if leads_out(name):
                raise ValueError("its path leads out of the folder")
            if name in known and file is None:
                raise ValueError("its name stands for several files")
            if file is not None and file in rows:
                raise ValueError("a second row for this file")  # it is unknown which row is right
            attributes = _attributes(row.cells)
        except ValueError as error:
            rejected.append(Rejected(file or f"{place}{name}", f"{path.name}, row {row.number}: {error}"))
            if file is not None:
                rows[file] = None
            continue
        if file is None:
            rejected.append(Rejected(f"{place}{name}", f"has a row in {path.name}, but the file does not exist"))
            continue
        if "neutral" in attributes:
            neutral = file_name(attributes["neutral"])
            attributes["neutral"] = (known.get(neutral) or neutral).removeprefix(place)
        rows[file] = attributes
    if files and not fitting:
        examples = f"its rows name e.g. {table.rows[0].cells['file']!r}" if table.rows else "it has no rows"
        raise UserError(f"{path}: no row fits a picture; {examples}, the pictures are e.g. {files[0]!r}")
    notes += _unused(table.columns, path)
    return rows


def _unused(columns: Sequence[str], path: Path) -> list[str]:
    """A line that names the columns that no stage reads."""
    others = []
    for column in columns:
        if column not in KNOWN:
            similar = difflib.get_close_matches(column, KNOWN, n=1, cutoff=0.75)
            others.append(f"{column} (is `{similar[0]}` meant?)" if similar else column)
    return (
        [f"{path.name}: columns that only an edits file or benchmark.yaml can use: {', '.join(others)}"]
        if others
        else []
    )


def _attributes(cells: dict[str, str]) -> dict:
    """Cells as attributes. Raises ValueError, which says what is wrong with a cell."""
    if "" in cells:
        raise ValueError("it has more cells than the header")
    attributes: dict = {}
    for name, cell in cells.items():
        if name in OURS or not cell:
            continue
        given = None if name in WORDS else number(cell)
        if name == "partition":
            cell = cell.lower()
            if cell not in PARTITIONS:
                raise ValueError(f"partition is {cell!r}; valid values are {', '.join(PARTITIONS)}")
        if name in RANGES:
            low, high = RANGES[name]
            if given is None or not low <= given <= high:
                raise ValueError(f"{name} is {cell!r}; expected a number from {low:g} to {high:.3g}")
        if given is not None and not math.isfinite(given):
            raise ValueError(f"{name} is {cell!r}; expected a finite number")
        attributes[name] = cell if given is None else given
    return attributes
