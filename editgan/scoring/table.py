"""The results of the benchmark as one long table: one line per value, stored as CSV.

| column | meaning |
| --- | --- |
| method | source of the pictures: `editgan`, `interfacegan`, `input`, ... |
| strength | of the edit; empty for methods without one |
| pasted | `true` if pixels outside the edited region are the photo's own |
| metric | what was measured: `smiling` or `changed`, `identity` or `similarity`, `kid`, `area`, ... |
| network | the measuring network; empty if there is none |
| samples | number of pictures from which the value is computed |
| value, low, high | the value and its 95 % interval; the interval may be empty |

`metrics.json`, which DVC shows, is derived from this table. Its names are composed here and never taken apart.
"""

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from editgan.errors import UserError

FIELDS = ("method", "strength", "pasted", "metric", "network", "samples", "value", "low", "high")
DIGITS = {"fid": 3}  # decimals kept; further ones are rounding errors of a matrix square root
OTHER_DIGITS = 6
COUNTED = ("fid", "kid")  # metrics whose names include the sample count
Value = TypeVar("Value")


class Row(NamedTuple):
    """A set of pictures, identified by how they were made."""

    method: str
    strength: float | None = None
    pasted: bool = False


class Column(NamedTuple):
    """A measurement."""

    metric: str
    network: str = ""


@dataclass(frozen=True)
class Figure:
    """One line of the table, without the columns that identify it."""

    samples: int
    value: float
    low: float | None = None
    high: float | None = None


Table = dict[Row, dict[Column, Figure]]


def only(table: Mapping[Row, Value], *, pasted: bool) -> dict[Row, Value]:
    """The rows that are pasted back, or the other rows."""
    return {row: value for row, value in table.items() if row.pasted is pasted}


def of_method(table: Mapping[Row, Value], method: str, *, pasted: bool = False) -> dict[Row, Value]:
    """The rows of one method at all strengths."""
    return {row: value for row, value in table.items() if row.method == method and row.pasted is pasted}


def table_csv(table: Table) -> bytes:
    """The table as CSV, with rounded values. The order of the rows is kept."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(FIELDS)
    for row, figures in table.items():
        for column, figure in figures.items():
            numbers = (_number(column, number) for number in (figure.value, figure.low, figure.high))
            strength = "" if row.strength is None else f"{row.strength:g}"
            writer.writerow((row.method, strength, str(row.pasted).lower(), *column, figure.samples, *numbers))
    return text.getvalue().encode()


def parse_table(content: bytes, name: str) -> Table:
    """Read what `table_csv` wrote.

    Args:
        name: file name for error messages
    Raises:
        UserError: not a valid table.
    """
    table: Table = {}
    try:
        lines = csv.DictReader(io.StringIO(content.decode()))
        if tuple(lines.fieldnames or ()) != FIELDS:
            raise ValueError(f"its columns are {lines.fieldnames}, expected {', '.join(FIELDS)}")
        for line in lines:
            row = Row(line["method"], _float(line["strength"]), {"true": True, "false": False}[line["pasted"]])
            figure = Figure(int(line["samples"]), float(line["value"]), _float(line["low"]), _float(line["high"]))
            table.setdefault(row, {})[Column(line["metric"], line["network"])] = figure
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{name}: damaged ({error}); run the stage that writes it again, or restore it with `dvc checkout`"
        ) from None
    return table


def metrics_of(table: Table) -> dict[str, dict[str, dict[str, float]]]:
    """The table as shown by DVC: GROUP + sample count, row, column. For a method at several strengths, the last one."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    rest = "test" if any(column.metric == "changed" for of in table.values() for column in of) else "smile_test"
    for row, figures in table.items():
        for column, figure in figures.items():
            group = found.setdefault(f"{GROUPS.get(column.metric, rest)}{figure.samples}", {})
            name = pasted_name(row.method) if row.pasted else row.method
            digits = DIGITS.get(column.metric, OTHER_DIGITS)
            group.setdefault(name, {})[column_name(column, figure.samples)] = round(figure.value, digits)
    return found


def pasted_name(method: str) -> str:
    """Name in metrics.json of a method's row that is pasted back."""
    return f"{method}_pasted"


def column_name(column: Column, samples: int) -> str:
    """`smiling_judge`, `kid400_efflite0`, `l2`."""
    metric = f"{column.metric}{samples}" if column.metric in COUNTED else column.metric
    return f"{metric}_{column.network}" if column.network else metric


GROUPS = {
    "area": "area_test",
    "embedding_lpips": "embedding_val",
    "embedding_l2": "embedding_val",
    "embedding_identity": "embedding_val",
    "embedding_similarity": "embedding_val",
}  # of metrics.json, by metric; all others are `smile_test`, or `test` if the class has no faces


def merged(tables: Iterable[Table]) -> Table:
    """Concatenate tables; rows that occur in several get the columns of all."""
    whole: Table = {}
    for table in tables:
        for row, figures in table.items():
            whole.setdefault(row, {}).update(figures)
    return whole


def _number(column: Column, number: float | None) -> str:
    return "" if number is None else repr(round(number, DIGITS.get(column.metric, OTHER_DIGITS)))


def _float(text: str) -> float | None:
    return float(text) if text else None
