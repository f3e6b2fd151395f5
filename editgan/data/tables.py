"""Tables that people and their programs write: the reader of attributes.csv, of legends and of lists of points.

A table is UTF-8 text, with or without a byte-order mark. Cells are separated by commas, semicolons or tabs and may be
quoted. Column names are compared without outer blanks, letter case and Unicode form; cells lose their outer blanks.
"""

import csv
import io
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from editgan.errors import UserError

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
REMEDY = "save it as CSV in UTF-8 (in Excel: `CSV UTF-8`)"
OTHER_FORMATS = {
    b"PK\x03\x04": "a spreadsheet or an archive",
    b"\xd0\xcf\x11\xe0": "a spreadsheet",
    b"%PDF": "a PDF",
    b"\xff\xfe": "text in UTF-16",
    b"\xfe\xff": "text in UTF-16",
}  # by the first bytes of the file
DECIMAL_COMMA = re.compile(r"([+-]?\d*),(\d+)")
BLANKS_AFTER_QUOTES = re.compile(r'" +(?=[,;\t\r\n]|$)')
SEPARATOR_LINE = re.compile(r"sep=([,;\t|])\r?\n", re.IGNORECASE)  # a first line from which Excel takes the separator


class Row(NamedTuple):
    """One row: its number as a spreadsheet shows it (the header is 1 unless lines precede it), and cells by column."""

    number: int
    cells: dict[str, str]


class Table(NamedTuple):
    """Column names, and rows with a cell of each column (empty if the row is short); rows without content are left out.

    A row with more cells than the header has them under "".
    """

    columns: list[str]
    rows: list[Row]


def nfc(text: str) -> str:
    """The Unicode form in which names are compared: an accented letter is one character (form C)."""
    return unicodedata.normalize("NFC", text)


def folded(name: str) -> str:
    """A name as it is compared where letter case does not matter."""
    return nfc(nfc(name).strip().casefold())


def read_table(content: bytes, path: Path | str, needed: Sequence[str] = ()) -> Table:
    """Parse the content of a table.

    The separator is the one with which the first line names the columns in `needed`, or most columns.

    Args:
        path: the file that the content is from, for messages
    Raises:
        UserError: not a table, another encoding, no column of `needed`, or two columns with one name.
    """
    text = decoded(content, path)
    listed = SEPARATOR_LINE.match(text)
    separators = [listed[1]] if listed else list(SEPARATORS)
    text = text[listed.end() :] if listed else text
    for attempt in (text, BLANKS_AFTER_QUOTES.sub('"', text)):
        try:
            separator = max(separators, key=lambda one, attempt=attempt: _fit(_header(attempt, one), needed))
            return _table(list(_records(attempt, separator)), path, needed, SEPARATORS.get(separator, separator))
        except csv.Error as error:
            fault = error
    raise UserError(f"{path}: is not a CSV ({fault}); is a quote missing or too much?")


def decoded(content: bytes, path: Path | str) -> str:
    """UTF-8 text without its byte-order mark. Raises UserError, which says in what other format it seems to be."""
    for start, kind in OTHER_FORMATS.items():
        if content.startswith(start):
            raise UserError(f"{path}: is {kind}, not a table in UTF-8; {REMEDY}")
    if b"\0" in content:
        raise UserError(f"{path}: contains zero bytes, so it is no UTF-8 text (perhaps UTF-16); {REMEDY}")
    try:
        text = content.decode("utf-8").lstrip("\ufeff")
    except UnicodeDecodeError as error:
        line, byte = content.count(b"\n", 0, error.start) + 1, content[error.start]
        where = f"line {line} contains the byte 0x{byte:02X}"
        raise UserError(f"{path}: {where}, which is not UTF-8 (perhaps Latin-1 or Windows-1252); {REMEDY}") from None
    if not text.strip():
        raise UserError(f"{path}: is empty")
    return text


def number(cell: str) -> float | None:
    """A cell as a number, also with a decimal comma; None if it is not one."""
    if match := DECIMAL_COMMA.fullmatch(cell):
        cell = f"{match[1]}.{match[2]}"
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def file_name(cell: str) -> str:
    """A path in a cell as the project writes paths: forward slashes, without `./` at the start."""
    name = nfc(cell).replace("\\", "/")
    while name.startswith("./"):
        name = name[2:].lstrip("/")
    return name


def named_files(files: Sequence[str], above: Sequence[str]) -> Mapping[str, str | None]:
    """The file that each name in a table stands for; None for a name that stands for two.

    Args:
        files: paths of files
        above: what a table may leave out at the start of a path, the most likely first: "", "mine/", "mine/images/"
    """
    known: dict[str, str | None] = {}
    for start in above:
        short: dict[str, str | None] = {}
        for file in files:
            if file.startswith(start):
                name = nfc(file[len(start) :])
                short[name] = None if name in short else file
        known = short | known
    return known


def _records(text: str, separator: str) -> Iterator[list[str]]:
    return csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=True)


def _header(text: str, separator: str) -> list[str]:
    """Column names with this separator; none if the first line with content cannot be read so."""
    try:
        return next([folded(cell) for cell in record] for record in _records(text, separator) if _filled(record))
    except (csv.Error, StopIteration):
        return []


def _fit(header: list[str], needed: Sequence[str]) -> tuple[bool, int]:
    return set(needed) <= set(header), len(header)


def _filled(record: list[str]) -> bool:
    return any(map(str.strip, record))


def _table(records: Sequence[list[str]], path: Path | str, needed: Sequence[str], separators: str) -> Table:
    filled = [(place, record) for place, record in enumerate(records, 1) if _filled(record)]
    if not filled:
        raise UserError(f"{path}: is empty")
    columns = [folded(cell) for cell in filled[0][1]]
    shown = ", ".join(columns)
    if missing := [name for name in needed if name not in columns]:
        lacks = f"no column {' or '.join(f'`{name}`' for name in missing)}"
        raise UserError(f"{path}: {lacks}; the header must name it, but has: {shown} (separated by {separators})")
    if twice := sorted({name for name in columns if name and columns.count(name) > 1}):
        raise UserError(f"{path}: the header must name each column once (in any letter case), not twice: {twice[0]}")
    rows = []
    for place, record in filled[1:]:
        cells = [nfc(cell).strip() for cell in record]
        row = dict.fromkeys(filter(None, columns), "")
        for column, cell in zip(columns, cells, strict=False):
            if column:
                row[column] = cell
            elif cell:
                raise UserError(f"{path}, row {place}: the cell {cell[:40]!r} is in a column without a name")
        if any(cells[len(columns) :]):
            row[""] = " ".join(filter(None, cells[len(columns) :]))
        rows.append(Row(place, row))
    return Table([name for name in columns if name], rows)
