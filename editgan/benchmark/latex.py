"""The benchmark as a table for a paper."""

from collections.abc import Collection

from editgan.benchmark.report import cell
from editgan.benchmark.scores import Scores
from editgan.benchmark.titles import column_title, title_of


def latex_table(scores: dict[str, Scores], columns: list[str], unfinished: Collection[str] = ()) -> str:
    """Some columns of the table, without intervals; a dagger beside the `unfinished` methods."""
    lines = [
        r"\begin{tabular}{l" + "r" * len(columns) + "}",
        r"\toprule",
        " & ".join(["", *(_latex(column_title(column)) for column in columns)]) + r" \\",
        r"\midrule",
    ]
    for name, row in scores.items():
        values = [cell(Scores(values=row.values), column).replace("–", "--") for column in columns]
        title = _latex(title_of(name)) + r"$^\dagger$" * (name in unfinished)
        lines.append(" & ".join([title, *values]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _latex(text: str) -> str:
    return text.replace("%", r"\%").replace("_", r"\_")
