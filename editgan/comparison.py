"""Revisions side by side: metrics with intervals, and parameters that differ.

The first revision is what the others are compared with. Where two benchmarks have measured the same heads, the interval
of a difference is that of a paired bootstrap over them; otherwise each figure has the interval that its stage wrote.
"""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor

from editgan.config import STAGES
from editgan.errors import UserError
from editgan.metrics import CONFIDENCE
from editgan.regression import direction, paired_intervals
from editgan.revisions import Revision, flat_keys
from editgan.weights import load_tensors

RESAMPLES, SEED = 2000, 0
HEADS, INTERVALS = "benchmark/heads.safetensors", "benchmark/intervals.json"
CURVES = ("sweep/curves", "generator/curves", "encoder/curves")
PICTURES = {  # path below outputs/ -> caption
    "benchmark/grid.png": "Smile edits of test heads",
    "benchmark/pasted.png": "The same pasted back",
    "segmentation/predictions.png": "Segmentation",
    "encoder/reconstructions.png": "Reconstructions",
    "editing/pictures/smile.png": "The smile vector",
}
Interval = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """One metric of a stage in every revision."""

    stage: str
    key: str
    values: tuple[Any, ...]  # None: it has none
    known: tuple[bool, ...]  # whether it has metrics of the stage at all
    intervals: tuple[Interval | None, ...]
    differences: tuple[Interval | None, ...]  # interval of the difference to the first revision

    @property
    def differs(self) -> bool:
        values = [value for value, known in zip(self.values, self.known, strict=True) if known]
        return any(value != values[0] for value in values)

    def difference(self, index: int) -> float | None:
        """To the first revision; None where one of the two is no number."""
        pair = (self.values[0], self.values[index])
        return pair[1] - pair[0] if all(isinstance(value, int | float) for value in pair) else None

    def verdict(self, index: int) -> int:
        """1 better than the first, -1 worse, 0 where the interval allows both or nothing says which way is better."""
        low, high = self.differences[index] or (0.0, 0.0)
        sign = (low > 0) - (high < 0)
        return sign * direction(self.key.rsplit(".", 1)[-1]) if self.stage == "benchmark" else 0

    def cell(self, index: int) -> str:
        value, interval = self.values[index], self.intervals[index]
        return "-" if value is None else _number(value) + _bracketed(interval, "")

    def difference_cell(self, index: int) -> str:
        difference = self.difference(index)
        if difference is None:
            both = self.known[0] and self.known[index]
            return "differs" if both and self.values[index] != self.values[0] else ""
        return f"{difference:+.4g}{_bracketed(self.differences[index], '+')}" if difference else "="


@dataclass(frozen=True)
class Comparison:
    """What is to be said about some revisions, the first being the reference."""

    revisions: tuple[Revision, ...]
    lines: tuple[Line, ...]
    params: dict[str, tuple[str | None, ...]]  # those that differ, by dotted key
    missing: dict[str, list[str]]  # by revision: paths below outputs/ that another one has


def compare(revisions: Sequence[Revision]) -> Comparison:
    """Look at every metric and parameter of some revisions."""
    metrics = [{stage: _metrics(one, stage) for stage in STAGES} for one in revisions]
    intervals = [_stored_intervals(one) for one in revisions]
    heads = [_heads(one) for one in revisions]
    differences = [_paired(heads[0], other) for other in heads]
    lines = []
    for stage in STAGES:
        for key in dict.fromkeys(key for of in metrics for key in of[stage]):
            place = _place(stage, key)
            lines.append(
                Line(
                    stage=stage,
                    key=key,
                    values=tuple(of[stage].get(key) for of in metrics),
                    known=tuple(bool(of[stage]) for of in metrics),
                    intervals=tuple(of.get(place) for of in intervals),
                    differences=tuple(of.get(place) for of in differences),
                )
            )
    files = [*(f"{stage}/metrics.json" for stage in STAGES), INTERVALS, HEADS, *PICTURES]
    has = {
        one.name: {path for path in files if one.read(path) is not None} | {path for path in CURVES if one.names(path)}
        for one in revisions
    }
    missing = {name: sorted(set().union(*has.values()) - known) for name, known in has.items()}
    return Comparison(
        revisions=tuple(revisions),
        lines=tuple(lines),
        params=differing_params([one.params for one in revisions]),
        missing={name: paths for name, paths in missing.items() if paths},
    )


def differing_params(params: Sequence[Any]) -> dict[str, tuple[str | None, ...]]:
    """Parameters that differ among those revisions that know their section, by key; None where one lacks it."""
    sections = [{key.split(".")[0] for key in of} for of in params]
    found = {}
    for key in sorted(set().union(*params)):
        known = [of.get(key) for of, has in zip(params, sections, strict=True) if key.split(".")[0] in has]
        if len(set(known)) > 1:
            found[key] = tuple(of.get(key) for of in params)
    return found


def show(comparison: Comparison, console: Console) -> None:
    """What differs, as tables in a terminal."""
    names = [one.name for one in comparison.revisions]
    for one in comparison.revisions:
        console.print(f"{one.name}: {one.about}", markup=False, highlight=False, soft_wrap=True)
    for stage in STAGES:
        of_stage = [line for line in comparison.lines if line.stage == stage]
        shown = [line for line in of_stage if line.differs]
        if not shown:
            continue
        table = Table(title=f"{stage}: {len(shown)} of {len(of_stage)} metrics differ", title_justify="left")
        table.add_column("metric", overflow="fold")
        for name in names:
            table.add_column(name, justify="right")
        for name in names[1:]:
            table.add_column(f"{name} - {names[0]}", justify="right")
        for line in shown:
            cells = [Text(line.cell(index)) for index in range(len(names))]
            for index in range(1, len(names)):
                style = {1: "green", -1: "red", 0: ""}[line.verdict(index)]
                cells.append(Text(line.difference_cell(index), style=style))
            table.add_row(Text(line.key), *cells)
        console.print(table)
    if not any(line.differs for line in comparison.lines):
        console.print(f"all {len(comparison.lines)} metrics are equal")
    if comparison.params:
        table = Table("parameter", *names, title="parameters that differ", title_justify="left")
        for key, values in comparison.params.items():
            table.add_row(key, *(Text("-" if value is None else value) for value in values))
        console.print(table)
    for line in notes(comparison):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def notes(comparison: Comparison) -> list[str]:
    """What a reader must know: where intervals come from, what is missing."""
    paired = any(any(line.differences) for line in comparison.lines)
    said = []
    if paired:
        said.append("Intervals of differences: 95 %, each by itself, by a bootstrap over the same heads on both sides.")
    elif any(any(line.intervals) for line in comparison.lines):
        said.append("Intervals: 95 %, of each figure by itself; differences have none, since heads cannot be paired.")
    for name, paths in comparison.missing.items():
        said.append(f"{name} lacks {', '.join(f'outputs/{path}' for path in paths)}")
    said += [f"The parameters of {one.name} are not known." for one in comparison.revisions if not one.params]
    return said


def _metrics(revision: Revision, stage: str) -> dict[str, Any]:
    content = revision.read(f"{stage}/metrics.json")
    found = {} if content is None else flat_keys(parsed(content, f"{stage}/metrics.json of {revision.name}"))
    return {key: str(value) if isinstance(value, list) else value for key, value in found.items()}


def parsed(content: bytes, what: str) -> Any:
    """A JSON file.

    Raises:
        UserError: it is none.
    """
    try:
        return json.loads(content)
    except ValueError as error:
        raise UserError(f"{what}: damaged ({error}); make it again, or `dvc checkout` it") from None


def _place(stage: str, key: str) -> str:
    """`row.column` of a metric of the smile table: smile_test400.editgan.l2 -> editgan.l2; others are of no row."""
    group, _, place = key.partition(".")
    return place if stage == "benchmark" and group.startswith("smile_test") else ""


def _stored_intervals(revision: Revision) -> dict[str, Interval]:
    """95 % intervals by `row.column`."""
    content = revision.read(INTERVALS)
    return (
        {}
        if content is None
        else {key: tuple(ends) for key, ends in flat_keys(parsed(content, f"{INTERVALS} of {revision.name}")).items()}
    )


def _heads(revision: Revision) -> tuple[dict[str, Tensor], Any] | None:
    """Figures of each head by `row.column`, and the recipe of the heads."""
    content = revision.read(HEADS)
    if content is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "heads.safetensors"
        path.write_bytes(content)
        tensors, metadata = load_tensors(path)
    return tensors, metadata.get("data")


def _paired(first: tuple | None, other: tuple | None) -> dict[str, Interval]:
    """Intervals of the differences between two sets of figures of the same heads; none where the heads are others."""
    if first is None or other is None or first is other or first[1] != other[1]:
        return {}
    keys = [key for key in first[0] if key in other[0] and len(first[0][key]) == len(other[0][key])]
    if not keys:
        return {}
    before, after = (torch.stack([side[0][key] for key in keys], 1).double() for side in (first, other))
    low, high = paired_intervals(after - before, CONFIDENCE, resamples=RESAMPLES, seed=SEED)
    return dict(zip(keys, zip(low, high, strict=True), strict=True))


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _bracketed(interval: Interval | None, sign: str) -> str:
    return "" if interval is None else f" [{interval[0]:{sign}.4g}, {interval[1]:{sign}.4g}]"
