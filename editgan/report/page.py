"""report.html: the benchmark as one self-contained page; and its curves as pictures."""

import base64
import html
import io
from collections.abc import Mapping

from markdown_it import MarkdownIt
from matplotlib.figure import Figure

from editgan.methods.smile import RECONSTRUCTION
from editgan.report.titles import IDENTITY, METRICS, SMILING, column_title, title_of
from editgan.scoring.table import Column, Table
from editgan.scoring.table import Figure as Cell

DRAWN = ("kid", "leak_to_input", "leak_to_reconstruction")  # metrics drawn in addition to smiles

STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2rem; }
.wide { overflow-x: auto; width: max-content; min-width: 100%; max-width: calc(100vw - 2rem); }
@media (min-width: 1100px) { .wide { position: relative; left: 50%; transform: translateX(-50%); } }
table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid #8886; padding: 0.3rem 0.6rem; text-align: right; vertical-align: top; }
th { font-weight: 600; min-width: 5rem; } td { white-space: nowrap; }
th:first-child, td:first-child { text-align: left; white-space: nowrap; background: Canvas; }
th:first-child, td:first-child { position: sticky; z-index: 1; left: 0; }
img { max-width: 100%; height: auto; background: white; }
.wide img { max-width: none; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.2rem 1rem; }
dd { margin: 0; overflow-wrap: anywhere; }
pre { overflow-x: auto; font-size: 0.8rem; }
"""


def html_report(table: str, pictures: Mapping[str, bytes], facts: Mapping[str, str], params: str) -> str:
    """One page: table.md as Markdown, PNG pictures by caption, facts about the run, and its parameters."""
    body = MarkdownIt().enable("table").render(table)
    body = body.replace("<table>", '<div class="wide"><table>').replace("</table>", "</table></div>")
    figures = "".join(
        f'<h2>{html.escape(caption)}</h2><div class="wide"><img alt="{html.escape(caption)}"'
        f' src="data:image/png;base64,{base64.b64encode(content).decode()}"></div>'
        for caption, content in pictures.items()
    )
    known = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in facts.items())
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Smile benchmark</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head><body>\n{body}{figures}<h2>How it was made</h2><dl>{known}</dl>"
        f"<details><summary>Parameters</summary><pre>{html.escape(params)}</pre></details></body></html>\n"
    )


def curves_png(sweep: Table, points: Table) -> bytes:
    """Smiles, leak and KID of every method against identity, over strengths, as PNG.

    Args:
        sweep: every method at every strength, all rows pasted back or none; the reconstruction is strength 0 of all
        points: methods without a strength, each drawn as a cross
    """
    (start,) = (figures for row, figures in sweep.items() if row.method == RECONSTRUCTION)
    methods = sorted({row.method for row in sweep} - {RECONSTRUCTION}, key=title_of)
    columns = [column for column in next(reversed(sweep.values())) if column == SMILING or column.metric in DRAWN]
    figure = Figure(figsize=(5 * len(columns), 4.2), layout="constrained")
    for index, column in enumerate(sorted(columns, key=lambda column: list(METRICS).index(column.metric))):
        axes = figure.add_subplot(1, len(columns), index + 1)
        _, factor, _ = METRICS[column.metric]

        def point(figures: dict[Column, Cell], column: Column = column, factor: float = factor) -> tuple[float, float]:
            return figures[IDENTITY].value, factor * figures[column].value

        for name in methods:  # one colour per method, pasted back or not
            rows = [start, *(figures for row, figures in sweep.items() if row.method == name)]
            line = [point(figures) for figures in rows if column in figures]
            axes.plot(*zip(*line, strict=True), "-o", markersize=3, label=title_of(name))
        for row, figures in points.items():
            if column in figures:
                axes.plot(*point(figures), "X", markersize=8, label=title_of(row.method))
        axes.set_xlabel("identity to the photo (strength 0 on the right)")
        axes.set_ylabel(column_title(column, next(iter(start.values())).samples))
        axes.grid(alpha=0.3)
    figure.axes[0].legend(fontsize=8)
    return _png(figure)


def training_png(curves: Mapping[str, tuple[str, list[dict[str, float]]]]) -> bytes:
    """Validation curves of the networks that methods train, as PNG.

    Args:
        curves: by row: the column to draw over kimg, and the contents of its curves/val.json
    """
    figure = Figure(figsize=(5 * len(curves), 3.2), layout="constrained")
    for index, (name, (column, rows)) in enumerate(curves.items()):
        axes = figure.add_subplot(1, len(curves), index + 1)
        axes.plot([row["kimg"] for row in rows], [row[column] for row in rows], "-o", markersize=3)
        axes.set(title=title_of(name), xlabel="images seen, in thousands", ylabel=f"{column} on validation data")
        axes.grid(alpha=0.3)
    return _png(figure)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100, metadata={"Software": None})
    return buffer.getvalue()
