"""Area under accuracy over identity of every method, from the values of each head in stage `scoring`."""

from pathlib import Path

import torch

from editgan.benchmark.tables import Areas
from editgan.benchmark.titles import judges_of, kind_of
from editgan.methods.smile import RECONSTRUCTION
from editgan.metrics import RESAMPLES, percentile_interval
from editgan.scoring.envelope import bootstrap_areas
from editgan.scoring.scores import load_heads
from editgan.scoring.table import Column, Figure, Row, Table, only


def sweep_areas(path: Path, *, stranger: float, seed: int) -> Areas:
    """Area under accuracy over identity by method and judge of success, in percent.  # [1 + resamples]

    Args:
        path: heads.safetensors of stage `scoring`
        stranger: identity of different people, the lower bound; that of the reconstruction is the upper bound
    """
    heads, _ = load_heads(path)
    columns = [column for _, column in heads]
    kind = kind_of(columns)
    rows, identity = dict.fromkeys(row for row, _ in heads), Column(kind.kept, kind.kept_by)
    areas: Areas = {}
    for pasted in (False, True):
        start = Row(RECONSTRUCTION, 0.0, pasted)  # strength 0 of every method
        strengths: dict[str, list[Row]] = {}
        for row in only(rows, pasted=pasted):
            if row != start:
                strengths.setdefault(row.method, [start]).append(row)
        kept = {name: torch.stack([heads[row, identity] for row in of]) for name, of in strengths.items()}  # [S, N]
        for judge in judges_of(columns):
            smiling = Column(kind.success, judge)
            said = {name: torch.stack([heads[row, smiling] for row in of]) for name, of in strengths.items()}  # [S, N]
            found = bootstrap_areas(
                {name: values > 0 for name, values in said.items()},
                kept,
                stranger=stranger,
                kept=heads[start, identity],
                resamples=RESAMPLES,
                seed=seed,
            )
            for name, values in found.items():
                areas.setdefault(Row(name, pasted=pasted), {})[judge] = values
    return areas


def areas_table(areas: Areas, heads: int) -> Table:
    """The areas as a results table."""
    return {
        row: {
            Column("area", judge): Figure(heads, float(values[0]), *percentile_interval(values[1:]))
            for judge, values in by_judge.items()
        }
        for row, by_judge in areas.items()
    }


def strangers(inputs: dict[Column, Figure]) -> dict[str, float]:
    """Mean identity of different people by network, from the row of the inputs."""
    metric = kind_of(inputs).strangers
    return {column.network: one.value for column, one in inputs.items() if column.metric == metric}
