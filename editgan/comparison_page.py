"""A comparison on one page that needs no server and no other file: all metrics, curves overlaid, pictures in a row."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from editgan.benchmark.page import STYLE
from editgan.benchmark.smile import PASTED
from editgan.benchmark.titles import title_of
from editgan.comparison import CURVES, PICTURES, Comparison, Line, notes, parsed
from editgan.config import STAGES
from editgan.revisions import Revision

SNAPSHOTS = "generator/snapshots"  # of which the last is shown
OWN_STYLE = """
.better { color: #1a7f37; } .worse { color: #cf222e; } .same { opacity: 0.55; }
.beside { display: flex; gap: 1rem; overflow-x: auto; } .beside figure { margin: 0; } .beside img { max-width: none; }
"""


def comparison_page(comparison: Comparison) -> str:
    """The page as HTML."""
    revisions = comparison.revisions
    names = [one.name for one in revisions]
    about = "".join(f"<dt>{html.escape(one.name)}</dt><dd>{html.escape(one.about)}</dd>" for one in revisions)
    said = "".join(f"<p>{html.escape(line)}</p>" for line in notes(comparison))
    parts = [f"<h1>{html.escape(' against '.join(names))}</h1><dl>{about}</dl>{said}"]
    if comparison.params:
        rows = [[key, *("–" if value is None else value for value in of)] for key, of in comparison.params.items()]
        parts.append(f"<h2>Parameters that differ</h2>{_table(['', *names], rows)}")
    for stage in STAGES:
        lines = [line for line in comparison.lines if line.stage == stage]
        if lines:
            count = sum(line.differs for line in lines)
            opened = " open" if count else ""
            summary = f"{stage}: {count} of {len(lines)} metrics differ"
            parts.append(f"<details{opened}><summary><b>{summary}</b></summary>{_metrics(names, lines)}</details>")
    parts += [_picture(caption, content) for caption, content in curves(revisions).items()]
    parts += _pictures(revisions)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{html.escape(' against '.join(names))}</title>"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}{OWN_STYLE}</style></head><body>\n{''.join(parts)}</body></html>\n"
    )


def curves(revisions: Sequence[Revision]) -> dict[str, bytes]:
    """Curves that at least two revisions have, each revision with a colour of its own, as PNG by caption."""
    drawn = {}
    sweep, *trained = CURVES
    sweeps = {title_of(name): of for name, of in _curve_files(revisions, sweep).items() if not name.endswith(PASTED)}
    panels = {
        title: {name: _points(rows, "identity_mobilefacenet", "smiling_judge") for name, rows in of.items()}
        for title, of in sweeps.items()
        if any(len(rows) > 1 for rows in of.values())
    }
    if panels:
        drawn["% smiling by the judge over identity to the photo"] = overlaid(panels, "identity to the photo")
    for folder in trained:
        for file, of in _curve_files(revisions, folder).items():
            keys = sorted({key for rows in of.values() for row in rows for key in row} - {"kimg"})
            panels = {key: {name: _points(rows, "kimg", key) for name, rows in of.items()} for key in keys}
            drawn[f"{folder.split('/')[0]}, {file.replace('_', ' ')}"] = overlaid(panels, "kimg")
    return drawn


def overlaid(panels: Mapping[str, Mapping[str, tuple[list[float], list[float]]]], x: str) -> bytes:
    """One plot a panel, one line a revision, as PNG.

    Args:
        panels: title -> name of the revision -> (x, y)
        x: what x is
    """
    across = min(3, len(panels))
    down = -(-len(panels) // across)
    figure = Figure(figsize=(4.2 * across, 3 * down), layout="constrained")
    for index, (title, lines) in enumerate(panels.items()):
        axes = figure.add_subplot(down, across, index + 1)
        for number, (name, points) in enumerate(lines.items()):
            axes.plot(*points, "-o", markersize=2.5, linewidth=1, color=f"C{number}", label=name)
        axes.set_title(title, fontsize=9)
        axes.set_xlabel(x, fontsize=8)
        axes.grid(alpha=0.3)
    figure.axes[0].legend(fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100, metadata={"Software": None})
    return buffer.getvalue()


def _curve_files(revisions: Sequence[Revision], folder: str) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """By file of a folder and by revision the rows of those files that at least two revisions have."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for one in revisions:
        for file in one.names(folder):
            if file.endswith(".json") and (content := one.read(f"{folder}/{file}")) is not None:
                found.setdefault(file.removesuffix(".json"), {})[one.name] = parsed(
                    content, f"{folder}/{file} of {one.name}"
                )
    return {file: of for file, of in sorted(found.items()) if len(of) > 1}


def _points(rows: Sequence[Mapping[str, Any]], x: str, y: str) -> tuple[list[float], list[float]]:
    both = [(row[x], row[y]) for row in rows if x in row and isinstance(row.get(y), int | float)]
    return [point[0] for point in both], [point[1] for point in both]


def _pictures(revisions: Sequence[Revision]) -> list[str]:
    """Pictures that at least two revisions have, beside each other; once where they are the same."""
    shown = []
    paths = {caption: [path] * len(revisions) for path, caption in PICTURES.items()}
    paths["Samples, the last snapshot"] = [_last_snapshot(one) for one in revisions]
    for caption, of in paths.items():
        contents = {one.name: one.read(path) for one, path in zip(revisions, of, strict=True)}
        found = {name: content for name, content in contents.items() if content is not None}
        if len(found) < 2:
            continue
        if len(set(found.values())) == 1:
            shown.append(_picture(f"{caption}: the same in {', '.join(found)}", next(iter(found.values()))))
            continue
        figures = "".join(
            f"<figure><figcaption>{html.escape(name)}</figcaption>{_image(f'{caption}, {name}', content)}</figure>"
            for name, content in found.items()
        )
        shown.append(f'<h2>{html.escape(caption)}</h2><div class="beside">{figures}</div>')
    return shown


def _last_snapshot(revision: Revision) -> str:
    names = [name for name in revision.names(SNAPSHOTS) if name.startswith("fakes0")]
    return f"{SNAPSHOTS}/{max(names, default='none.png')}"


def _metrics(names: Sequence[str], lines: Sequence[Line]) -> str:
    head = ["", *names, *(f"{name} less {names[0]}" for name in names[1:])]
    rows, classes = [], []
    for line in lines:
        indices = range(len(names))
        rows.append([line.key, *map(line.cell, indices), *(line.difference_cell(index) for index in indices[1:])])
        verdicts = [{1: "better", -1: "worse", 0: ""}[line.verdict(index)] for index in indices[1:]]
        classes.append(("" if line.differs else "same", [""] * (len(names) + 1) + verdicts))
    return _table(head, rows, classes)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], classes: Sequence[tuple] | None = None) -> str:
    """A table in a box that scrolls; `classes` are a row's own and those of its cells."""
    body = []
    for row, (own, of_cells) in zip(rows, classes or [("", [""] * len(head))] * len(rows), strict=True):
        cells = zip(row, of_cells, strict=True)
        body.append(f'<tr class="{own}">' + "".join(f'<td class="{c}">{html.escape(v)}</td>' for v, c in cells))
    titles = "".join(f"<th>{html.escape(title)}</th>" for title in head)
    return f'<div class="wide"><table><tr>{titles}</tr>{"".join(f"{row}</tr>" for row in body)}</table></div>'


def _picture(caption: str, content: bytes) -> str:
    return f'<h2>{html.escape(caption)}</h2><div class="wide">{_image(caption, content)}</div>'


def _image(caption: str, content: bytes) -> str:
    return f'<img alt="{html.escape(caption)}" src="data:image/png;base64,{base64.b64encode(content).decode()}">'
