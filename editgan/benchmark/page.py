"""report.html: the benchmark on one page that needs no server and no other file; and the curves as a picture."""

import base64
import html
import io
from collections.abc import Mapping

from markdown_it import MarkdownIt
from matplotlib.figure import Figure

from editgan.benchmark.titles import column_title, title_of

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
    """One page: the Markdown of table.md, PNG pictures by caption, facts of the run, the parameters it was given."""
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


def curves_png(
    curves: Mapping[str, list[dict[str, float]]], start: str, points: Mapping[str, Mapping[str, float]]
) -> bytes:
    """Smiles, leak and KID of every method against the identity that its strengths keep, as PNG.

    Args:
        curves: by row, the contents of sweep/curves
        start: the row that is strength 0 of all others
        points: figures of the rows that have no strength, each a cross
    """
    (first,) = curves[start]
    chosen = ["smiling_judge", *(column for column in first if column.startswith(("leak_", "kid")))]
    figure = Figure(figsize=(5 * len(chosen), 4.2), layout="constrained")
    for index, column in enumerate(chosen):
        axes = figure.add_subplot(1, len(chosen), index + 1)
        factor = 1 if column.startswith("smiling_") else 1000
        for name in sorted(curves.keys() - {start}, key=title_of):  # one colour a method, pasted back or not
            rows = [first, *curves[name]]
            x = [row["identity_mobilefacenet"] for row in rows]
            axes.plot(x, [factor * row[column] for row in rows], "-o", markersize=3, label=title_of(name))
        for name, values in points.items():
            if column in values:
                at = values["identity_mobilefacenet"], factor * values[column]
                axes.plot(*at, "X", markersize=8, label=title_of(name))
        axes.set_xlabel("identity to the photo (strength 0 on the right)")
        axes.set_ylabel(column_title(column))
        axes.grid(alpha=0.3)
    figure.axes[0].legend(fontsize=8)
    return _png(figure)


def training_png(curves: Mapping[str, tuple[str, list[dict[str, float]]]]) -> bytes:
    """Validation curves of the networks that methods train for themselves, as PNG.

    Args:
        curves: by row, what is drawn over kimg, and the contents of its curves/val.json
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
