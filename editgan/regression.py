"""Is a benchmark worse than the accepted one? What is accepted is kept in git, in baseline/benchmark.

What is measured head by head is compared on the same heads: the interval of the mean difference is that of a bootstrap
over heads, both sides of a resample having the same ones. A figure has become worse where the whole interval lies
beyond a tolerance on the bad side. With M figures watched each interval holds 1 - 0.05 / M of the resamples
(Bonferroni), so that all of them cover the truth at once in 95 % of cases, and a night with nothing beyond a tolerance
is called worse in 2.5 % of cases at the most. Figures of all heads at once have no interval: their difference itself
must lie beyond the tolerance.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from editgan.benchmark.methods import PLUS
from editgan.benchmark.smile import EDITGAN, INPUT, PASTED, RECONSTRUCTION, TRULY_SMILING
from editgan.config import MethodTolerance, NightlyParams
from editgan.errors import UserError
from editgan.judges import SMILE_JUDGES
from editgan.metrics import CONFIDENCE
from editgan.training import generator_for
from editgan.weights import load_tensors, sha256, write_bytes, write_json

BASELINE = Path("baseline/benchmark")
JUDGES = "judges.json"  # beside these: the hash of each network that judged, by its file below outputs/
JUDGED_BY = (
    "judges/judge",
    *(f"assets/{name}" for name in (*SMILE_JUDGES[1:], "mobilefacenet", "efflite0", "lpips_alex")),
)
FILES = ("metrics.json", "intervals.json", "heads.safetensors")
# Which way is better: 1 more, -1 less. A column is of the first family that its name begins with.
DIRECTIONS = {
    "smiling": 1,
    "identity": 1,
    "lpips_alex": -1,
    "l2": -1,
    "leak": -1,
    "segmentation_accuracy": 1,
    "mouth_iou": 1,
    "area": 1,
    "fid": -1,
    "kid": -1,
}
AT_ONCE = ("mouth_iou", "area", "fid", "kid")  # of all heads at once: no figure of a head, no interval
NO_METHOD = (INPUT, TRULY_SMILING)  # rows without an edit or an embedding in them
UNEDITED = (RECONSTRUCTION, RECONSTRUCTION + PASTED)  # rows that are not meant to smile
ROUNDING = 2e-6  # of metrics.json, and of float32


@dataclass(frozen=True)
class Figures:
    """What a benchmark says, by `row.column`."""

    heads: Mapping[str, Tensor]  # of each head  # float32 [N]
    at_once: Mapping[str, float]
    data: Mapping[str, Any]  # the recipe of the heads


@dataclass(frozen=True)
class Change:
    """One watched figure, accepted and tonight."""

    row: str
    column: str
    accepted: float
    tonight: float
    interval: tuple[float, float] | None  # of the difference; None: it has none
    tolerance: float

    @property
    def difference(self) -> float:
        return self.tonight - self.accepted

    @property
    def worsening(self) -> float:
        """By how much it has become worse at least, as far as the interval says; of rows without a method in them, by
        how much it has changed: another judge, or other pictures."""
        low, high = self.interval or (self.difference, self.difference)
        if self.row in NO_METHOD and not math.isnan(low):
            return max(low, -high)
        return -high if direction(self.column) > 0 else low

    @property
    def regressed(self) -> bool:
        return not self.worsening <= self.tolerance  # what is no number is worse, too

    def __str__(self) -> str:
        interval = "" if self.interval is None else f" [{self.interval[0]:+.4g}, {self.interval[1]:+.4g}]"
        return f"{self.column} of {self.row} {self.difference:+.4g}{interval}, tolerated {self.tolerance:g}"

    def cells(self) -> dict[str, str]:
        """As a row of a table."""
        return {
            "row": self.row,
            "metric": self.column,
            "better": "neither" if self.row in NO_METHOD else "more" if direction(self.column) > 0 else "less",
            "accepted": f"{self.accepted:.4g}",
            "tonight": f"{self.tonight:.4g}",
            "difference": f"{self.difference:+.4g}",
            "interval": "-" if self.interval is None else f"{self.interval[0]:+.4g} to {self.interval[1]:+.4g}",
            "tolerated": f"{self.tolerance:g}",
        }


def family(column: str) -> str | None:
    """The entry of `DIRECTIONS` that a column of the benchmark belongs to, None where there is none."""
    return next((name for name in DIRECTIONS if column.startswith(name)), None)


def direction(column: str) -> int:
    """1 where more is better, -1 where less is, 0 where that is not said."""
    return DIRECTIONS.get(family(column), 0)


def changes(accepted: Figures, tonight: Figures, params: NightlyParams, *, seed: int) -> list[Change]:
    """Every watched figure, the worst in proportion to its tolerance first. Those with `regressed` are regressions.

    Watched is what was accepted, but for the smiles of reconstructions, which nobody asked for. Photos and truly
    smiling heads, in which no method has a part, are to stay as they are: a change either way is a regression.

    Raises:
        UserError: other heads were measured, or something accepted was not measured tonight.
    """
    if accepted.data != tonight.data:
        raise UserError(
            f"the heads of tonight ({json.dumps(tonight.data)}) are not those of the baseline"
            f" ({json.dumps(accepted.data)}), so that figures cannot be compared; `editgan accept` makes another one"
        )
    watched = [key for key in accepted.heads if is_watched(key)]
    bounded = [key for key in accepted.at_once if is_watched(key)]
    lost = [key for key in watched if key not in tonight.heads] + [key for key in bounded if key not in tonight.at_once]
    if lost:
        raise UserError(
            f"tonight's benchmark lacks what the baseline has: {', '.join(lost)}; if that is meant, `editgan accept`"
            " makes another one"
        )

    def change(key: str, before: float, after: float, interval: tuple[float, float] | None) -> Change:
        row, column = key.split(".", 1)
        tolerance = getattr(tolerances_of(row, params), family(column))
        return Change(row, column, before, after, interval, tolerance)

    found = [change(key, accepted.at_once[key], tonight.at_once[key], None) for key in bounded]
    if watched:
        before, after = (torch.stack([side.heads[key] for key in watched], 1).double() for side in (accepted, tonight))
        confidence = 1 - (1 - CONFIDENCE) / len(watched)
        low, high = paired_intervals(after - before, confidence, resamples=params.bootstrap, seed=seed)
        columns = zip(
            watched, before.mean(0).tolist(), after.mean(0).tolist(), zip(low, high, strict=True), strict=True
        )
        found += [change(*column) for column in columns]
    return sorted(found, key=lambda one: (not one.regressed, -one.worsening / max(one.tolerance, 1e-12)))


def is_watched(key: str) -> bool:
    """Whether `row.column` can become worse."""
    row, column = key.split(".", 1)
    return bool(direction(column)) and not (row in UNEDITED and family(column) == "smiling")


def tolerances_of(row: str, params: NightlyParams) -> MethodTolerance:
    """Those of EditGAN's rows, refined or not, pasted back or not, are wider: what one head teaches depends on the seed
    of the segmentation. The mean of several heads, EditGAN+, hardly does."""
    row = row.removesuffix(PASTED)
    of_one = row == EDITGAN or (row.startswith(f"{EDITGAN}_") and row != PLUS)
    return params.single_vector if of_one else params.tolerance


def paired_intervals(
    differences: Tensor, confidence: float, *, resamples: int, seed: int
) -> tuple[list[float], list[float]]:
    """Percentile intervals of mean differences over heads (Efron & Tibshirani 1993, chapter 13).

    Args:
        differences: of the same heads, a column a figure  # [N, M]
    Returns:
        lower and upper ends, M each
    """
    count = len(differences)
    draws = torch.randint(count, (resamples, count), generator=generator_for(seed, "bootstrap"))
    times = torch.zeros(resamples, count, dtype=torch.float64)
    times.scatter_add_(1, draws, torch.ones(1, dtype=torch.float64).expand_as(draws))  # each head in each resample
    means = times @ differences.double() / count  # [R, M]
    tail = (1 - confidence) / 2
    low, high = torch.quantile(means, torch.tensor([tail, 1 - tail], dtype=torch.float64), dim=0)
    return low.tolist(), high.tolist()


def load_figures(folder: Path) -> Figures:
    """The figures that stage benchmark left in a folder, or that were accepted.

    Raises:
        UserError: a file is missing or damaged, or the two are not of one run.
    """
    heads, metadata = load_tensors(folder / "heads.safetensors")
    try:
        metrics = json.loads((folder / "metrics.json").read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / 'metrics.json'}: not readable ({error}); run stage benchmark again") from None
    values, areas = {}, {}
    for group, rows in metrics.items():
        if group.startswith("smile_test"):
            values |= {f"{row}.{column}": value for row, of in rows.items() for column, value in of.items()}
        elif group.startswith("area_test"):
            areas |= {f"{row}.area_{judge}": value for row, of in rows.items() for judge, value in of.items()}
    for key, said in heads.items():
        if key not in values or not abs(float(said.double().mean()) - values[key]) <= ROUNDING:
            raise UserError(f"{folder}: heads.safetensors and metrics.json differ in {key}; run stage benchmark again")
    at_once = {key: value for key, value in values.items() if family(key.split(".", 1)[1]) in AT_ONCE}
    return Figures(heads=heads, at_once=at_once | areas, data=metadata.get("data", {}))


def accept(outputs: Path, root: Path) -> Path:
    """Make the benchmark in a folder of outputs the accepted one; returns where it is kept.

    Raises:
        UserError: it is not complete, or not of one run.
    """
    folder = outputs / "benchmark"
    load_figures(folder)
    contents = {name: _read(folder / name) for name in FILES}
    for name, content in contents.items():
        write_bytes(root / BASELINE / name, content)
    write_json(root / BASELINE / JUDGES, judges_of(outputs))
    return root / BASELINE


def judges_of(outputs: Path) -> dict[str, str]:
    """SHA-256 of the networks that judge, as far as they are there."""
    files = {name: outputs / f"{name}.safetensors" for name in JUDGED_BY}
    return {name: sha256(path) for name, path in files.items() if path.is_file()}


def judged(root: Path, params: NightlyParams, *, seed: int) -> list[Change]:
    """The benchmark in outputs/ against the accepted one, worst first.

    Raises:
        UserError: one of the two is missing or damaged, or they are not of the same heads or by the same judges.
    """
    path = root / BASELINE / JUDGES
    before, now = json.loads(path.read_text()) if path.exists() else {}, judges_of(root / "outputs")
    others = sorted(name for name in before.keys() & now.keys() if before[name] != now[name])
    if others:
        raise UserError(
            f"what judges tonight is not what judged the baseline ({', '.join(others)}), so that figures cannot be"
            " compared; `editgan accept` makes another one"
        )
    return changes(load_figures(root / BASELINE), load_figures(root / "outputs" / "benchmark"), params, seed=seed)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: missing; run stage benchmark (`make demo`) or `dvc pull benchmark`") from None
