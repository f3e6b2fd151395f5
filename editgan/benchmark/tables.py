"""The results of the benchmark as tables for readers, in Markdown; that of the edits also in LaTeX."""

from collections.abc import Collection, Iterable, Sequence

import torch
from tabulate import tabulate
from torch import Tensor

from editgan.benchmark.titles import IDENTITY, METRICS, NO_FIGURE, RUNGS, SMILING, cell, column_title, title_of
from editgan.methods.smile import FROM_PHOTOS, RECONSTRUCTION
from editgan.metrics import percentile_interval
from editgan.scoring.envelope import envelope_at
from editgan.scoring.table import Column, Row, Table

Areas = dict[Row, dict[str, Tensor]]  # by row, without its strength, and smile judge  # [1 + resamples]
SWEPT = (
    "smiling",
    "changed",
    "kid",
    "identity",
    "similarity",
    "leak_to_input",
    "leak_to_reconstruction",
)  # shown at every strength
UNFINISHED = "\u2020"  # marks methods that were still improving when training ended


def table(results: Table, unfinished: Collection[str] = ()) -> str:
    """The results as Markdown: one row per method, one column per metric, 95 % intervals in brackets.

    A dash marks values that do not exist, a dagger the `unfinished` methods.
    """
    titles = ([title_of(row.method) + f" {UNFINISHED}" * (row.method in unfinished)] for row in results)
    return figures_table([""], titles, results, columns_of(results, METRICS))


def latex_table(results: Table, columns: Sequence[Column], unfinished: Collection[str] = ()) -> str:
    """Selected columns of the results as LaTeX, without intervals."""
    titles = ([title_of(row.method) + UNFINISHED * (row.method in unfinished)] for row in results)
    text = figures_table([""], titles, results, columns, interval=False, form="latex_booktabs")
    return text.replace(NO_FIGURE, "--").replace(UNFINISHED, r"$^\dagger$")


def embedding_table(embedding: Table) -> str:
    """Reconstruction metrics of each embedding method."""
    return figures_table([""], ([RUNGS[row.method]] for row in embedding), embedding, columns_of(embedding, METRICS))


def sweep_table(sweep: Table) -> str:
    """Every method at every strength."""
    titles = ([title_of(row.method), f"{row.strength:g}"] for row in sweep)
    return figures_table(["", "strength"], titles, sweep, columns_of(sweep, SWEPT), interval=False)


def at_unit_strength(sweep: Table) -> Table:
    """The rows at strength 1."""
    return {row: figures for row, figures in sweep.items() if row.strength == 1}


def area_table(areas: Areas, against: str) -> str:
    """Area under accuracy over identity by smile judge, and the paired differences `against` - method."""
    ours = next(by_judge for row, by_judge in areas.items() if row.method == against)
    titles = [f"area, {judge}" for judge in ours] + [f"{title_of(against)} minus row, {judge}" for judge in ours]
    rows = []
    for row, by_judge in areas.items():
        cells = []
        for values in by_judge.values():
            low, high = percentile_interval(values[1:])
            cells.append(f"{values[0]:.1f} [{low:.1f}, {high:.1f}]")
        for judge, values in by_judge.items():
            difference = ours[judge] - values  # on the same resamples of heads
            low, high = percentile_interval(difference[1:])
            cells.append(NO_FIGURE if row.method == against else f"{difference[0]:+.1f} [{low:+.1f}, {high:+.1f}]")
        rows.append([title_of(row.method), *cells])
    return aligned(["", *titles], rows)


def matched_identity(results: Table, sweep: Table) -> str:
    """Smiles (by the judge) of each swept method at the identity of each method without a strength.

    All rows of the sweep are pasted back, or none. A dash: no strength keeps this identity.
    """
    start = next(figures for row, figures in sweep.items() if row.method == RECONSTRUCTION)
    names = list(dict.fromkeys(row.method for row in sweep if row.method != RECONSTRUCTION))
    rows = []
    for row in (Row(name) for name in FROM_PHOTOS if Row(name) in results):
        identity, smiling = (results[row][column].value for column in (IDENTITY, SMILING))
        cells = [f"{identity:.3f}", f"{smiling:.1f}"]
        for name in names:
            points = [start, *(figures for swept, figures in sweep.items() if swept.method == name)]
            accuracy, kept = (
                torch.tensor([figures[column].value for figures in points], dtype=torch.float64)
                for column in (SMILING, IDENTITY)
            )
            best = envelope_at(accuracy, kept, torch.tensor([identity], dtype=torch.float64))
            cells.append(f"{best.item():.1f}" if kept.max() >= identity else NO_FIGURE)
        rows.append([title_of(row.method), *cells])
    return aligned(["", "identity to the photo", "% smiling, judge", *map(title_of, names)], rows)


def columns_of(results: Table, metrics: Iterable[str]) -> list[Column]:
    """The columns of some metrics, in the order of `METRICS`."""
    found = dict.fromkeys(column for figures in results.values() for column in figures if column.metric in metrics)
    return sorted(found, key=lambda column: list(METRICS).index(column.metric))


def figures_table(
    head: Sequence[str],
    titles: Iterable[Sequence[str]],
    results: Table,
    columns: Sequence[Column],
    *,
    interval: bool = True,
    form: str = "pipe",
) -> str:
    """Columns of the results beside the titles of their rows; `head` stands above these."""
    samples = {column: figure.samples for figures in results.values() for column, figure in figures.items()}
    rows = [
        [*title, *(cell(figures.get(column), column, interval=interval) for column in columns)]
        for title, figures in zip(titles, results.values(), strict=True)
    ]
    return aligned([*head, *(column_title(column, samples[column]) for column in columns)], rows, form)


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]], form: str = "pipe") -> str:
    """A table with text in the first column and numbers in the others."""
    align = ("left", *["right"] * (len(head) - 1))
    return tabulate(rows, head, tablefmt=form, disable_numparse=True, colalign=align) + "\n"
