"""Error rates of the nightly regression check: false alarms, and detection of simulated regressions.

    python benchmarks/nightly_error_rates.py [--figures baseline/benchmark] [--nights 40] [--churn 0 0.02 0.05 0.1]

Takes minutes; benchmarks/nightly_retrained.py retrains and breaks actual models. A night is simulated from recorded
per-head metrics: heads are resampled with replacement, and a share of them (the churn) gets the metrics of another
head, which leaves the expected mean unchanged: a quiet night. A regression is added to one row, in the first column
of each tolerance at once, in multiples of its tolerance: this many more heads that do not smile, or a mean
deterioration of this size, with between zero and twice this value per head. FID, KID, areas and mouth IoU have no
values per head and are not changed.
"""

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor

from editgan.errors import UserError
from editgan.report.nightly import (
    AT_ONCE,
    BASELINE,
    WATCHED,
    Figures,
    Key,
    NightlyParams,
    changes,
    load_figures,
    load_tolerances,
    tolerances_of,
)  # fmt: skip
from editgan.runtime.environment import PROJECT_ROOT
from editgan.scoring.table import Row
from editgan.training import generator_for

BINARY = "smiling"  # the metric whose figures are 0 or 100
SIZES = (1.0, 1.5, 2.0, 3.0, 4.0)  # of planted regressions, in tolerances


def night(accepted: Figures, churn: float, generator: torch.Generator) -> tuple[Figures, Figures]:
    """Heads drawn anew from those accepted, as they were and as they are tonight."""
    count = len(next(iter(accepted.heads.values())))
    drawn = torch.randint(count, (count,), generator=generator)
    others = torch.randint(count, (count,), generator=generator)
    tonight = torch.where(torch.rand(count, generator=generator) < churn, others, drawn)
    before, after = ({key: said[heads] for key, said in accepted.heads.items()} for heads in (drawn, tonight))
    return Figures(before, accepted.at_once, accepted.data), Figures(after, accepted.at_once, accepted.data)


def planted(said: Tensor, metric: str, size: float, generator: torch.Generator) -> Tensor:
    """Figures of heads [N] that have become worse by `size` on the average."""
    if metric == BINARY:
        smiling = said.nonzero().flatten()
        lost = smiling[torch.randperm(len(smiling), generator=generator)[: round(size / 100 * len(said))]]
        return said.index_fill(0, lost, 0.0)
    each = 2 * torch.rand(len(said), generator=generator)
    return said - WATCHED[metric][1] * size * each / each.mean()


def columns_of(accepted: Figures, method: str) -> dict[str, Key]:
    """The first figure of a method, as generated, that is held to each tolerance."""
    found: dict[str, Key] = {}
    for row, column in sorted(accepted.heads):
        if row == Row(method):
            found.setdefault(WATCHED[column.metric][0], (row, column))
    return found


def rates(
    accepted: Figures, params: NightlyParams, *, method: str, churn: float, size: float, nights: int, seed: int
) -> tuple[dict[str, float], float]:
    """By tolerance the share of nights in which what was planted is caught, and the share with any other alarm."""
    generator = generator_for(seed, "night", churn, size)
    columns, tolerances = columns_of(accepted, method) if size else {}, tolerances_of(Row(method), params)
    caught, others = dict.fromkeys(columns, 0), 0
    for _ in range(nights):
        before, after = night(accepted, churn, generator)
        worse = dict(after.heads)
        for name, key in columns.items():
            worse[key] = planted(worse[key], key[1].metric, size * getattr(tolerances, name), generator)
        found = changes(before, Figures(worse, after.at_once, after.data), params, seed=seed)
        alarms = {(one.row, one.column) for one in found if one.regressed}
        for name, key in columns.items():
            caught[name] += key in alarms
        others += bool(alarms - set(columns.values()))
    return {name: count / nights for name, count in caught.items()}, others / nights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--figures", type=Path, default=BASELINE, help="folder with a benchmark's figures")
    parser.add_argument("--method", default="editgan_plus", help="that regressions are planted in")
    parser.add_argument("--nights", type=int, default=40, help="of each kind")
    parser.add_argument("--churn", nargs="+", type=float, default=[0.0, 0.02, 0.05, 0.1])
    options = parser.parse_args()
    try:
        params, accepted = load_tolerances(PROJECT_ROOT), load_figures(options.figures)
    except UserError as error:
        sys.exit(str(error))
    families = list(dict.fromkeys(held for name, (held, _) in WATCHED.items() if name not in AT_ONCE))
    print(f"{options.nights} nights of each kind, planted in {options.method}; caught, in % of nights\n")
    print(f"| churn | planted, in tolerances | {' | '.join(families)} | any other alarm |")
    print("|---:" * (len(families) + 3) + "|")
    for churn in options.churn:
        for size in (0.0, *SIZES):
            kind = dict(method=options.method, churn=churn, size=size, nights=options.nights, seed=0)
            caught, others = rates(accepted, params, **kind)
            cells = [f"{100 * caught[name]:.0f}" if name in caught else "-" for name in families]
            print(f"| {churn:g} | {size:g} | {' | '.join(cells)} | {100 * others:.0f} |", flush=True)


if __name__ == "__main__":
    main()
