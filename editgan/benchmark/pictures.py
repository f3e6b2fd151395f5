"""The pictures of the benchmark: curves over strengths and over training, grids of heads."""

import io
from collections.abc import Collection, Mapping

from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from editgan.benchmark.titles import METRICS, column_title, ranked_by, title_of, word
from editgan.images import labelled_grid
from editgan.methods.smile import RECONSTRUCTION
from editgan.scoring.table import Column, Table
from editgan.scoring.table import Figure as Cell

DRAWN = ("kid", "leak_to_input", "leak_to_reconstruction")  # metrics drawn in addition to smiles


def curves_png(sweep: Table, points: Table, wanted: Collection[Column] = ()) -> bytes:
    """Smiles, leak and KID of every method against identity, over strengths, as PNG.

    Args:
        sweep: every method at every strength, all rows pasted back or none; the reconstruction is strength 0 of all
        points: methods without a strength, each drawn as a cross
        wanted: the columns to draw instead
    """
    (start,) = (figures for row, figures in sweep.items() if row.method == RECONSTRUCTION)
    methods = sorted({row.method for row in sweep} - {RECONSTRUCTION}, key=title_of)
    found = next(reversed(sweep.values()))
    success, kept = ranked_by(sweep)
    columns = [*wanted] or [column for column in found if column == success or column.metric in DRAWN]
    figure = Figure(figsize=(5 * len(columns), 4.2), layout="constrained")
    for index, column in enumerate(sorted(columns, key=lambda column: list(METRICS).index(column.metric))):
        axes = figure.add_subplot(1, len(columns), index + 1)
        _, factor, _ = METRICS[column.metric]

        def point(figures: dict[Column, Cell], column: Column = column, factor: float = factor) -> tuple[float, float]:
            return figures[kept].value, factor * figures[column].value

        for name in methods:  # one colour per method, pasted back or not
            rows = [start, *(figures for row, figures in sweep.items() if row.method == name)]
            line = [point(figures) for figures in rows if column in figures]
            axes.plot(*zip(*line, strict=True), "-o", markersize=3, label=title_of(name))
        for row, figures in points.items():
            if column in figures:
                axes.plot(*point(figures), "X", markersize=8, label=title_of(row.method))
        what = f"{word('identity', sweep)} to the {word('photo', sweep)}"
        axes.set_xlabel(f"{what} (strength 0 on the right)")
        axes.set_ylabel(column_title(column, next(iter(start.values())).samples))
        axes.grid(alpha=0.3)
    figure.axes[0].legend(fontsize=8)
    return _png(figure)


def training_png(curves: Mapping[str, tuple[str, list[dict[str, float]]]]) -> bytes:
    """Validation curves of the networks that methods train, as PNG.

    Args:
        curves: by row: the column to draw over kimg, and the contents of its curves/val.json; a blank picture if none
    """
    figure = Figure(figsize=(5 * max(1, len(curves)), 3.2), layout="constrained")
    for index, (name, (column, rows)) in enumerate(curves.items()):
        axes = figure.add_subplot(1, len(curves), index + 1)
        axes.plot([row["kimg"] for row in rows], [row[column] for row in rows], "-o", markersize=3)
        axes.set(title=title_of(name), xlabel="images seen, in thousands", ylabel=f"{column} on validation data")
        axes.grid(alpha=0.3)
    return _png(figure)


def grid(rows: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Image.Image:
    """A grid with one row per head and one captioned column per method, masks next to their pictures.

    Args:
        rows: method -> the heads to show, uint8 [N, 3, H, W]
        masks: method -> their coloured masks, uint8 [N, 3, H, W]
    """
    columns = {}
    for name, pictures in rows.items():
        columns[title_of(name).removesuffix(" (ceiling)").replace("conditional", "cond.")] = pictures
        if name in masks:
            columns[f"mask of {title_of(name).removesuffix(' (ours)')}"] = masks[name]
    width = next(iter(rows.values())).shape[-1]
    return labelled_grid(columns, scale=max(1, round(128 / width)))


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100, metadata={"Software": None})
    return buffer.getvalue()
