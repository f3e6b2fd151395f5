"""The benchmark as a LaTeX table."""

from collections.abc import Collection, Sequence

from editgan.report.titles import NO_FIGURE, cell, column_title, title_of
from editgan.scoring.table import Column, Table


def latex_table(table: Table, columns: Sequence[Column], unfinished: Collection[str] = ()) -> str:
    """Selected columns of the table, without intervals; a dagger marks the `unfinished` methods."""
    samples = next(iter(next(iter(table.values())).values())).samples
    lines = [
        r"\begin{tabular}{l" + "r" * len(columns) + "}",
        r"\toprule",
        " & ".join(["", *(_latex(column_title(column, samples)) for column in columns)]) + r" \\",
        r"\midrule",
    ]
    for row, figures in table.items():
        values = [cell(figures.get(column), column, interval=False).replace(NO_FIGURE, "--") for column in columns]
        title = _latex(title_of(row.method)) + r"$^\dagger$" * (row.method in unfinished)
        lines.append(" & ".join([title, *values]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _latex(text: str) -> str:
    return text.replace("%", r"\%").replace("_", r"\_")
