"""Check whether benchmark and samples are worse than the accepted baseline, which is kept in git in baseline/benchmark.

Per-head metrics are compared on the same heads: the interval of the mean difference is a paired bootstrap over heads. A
metric counts as worse if its whole interval is beyond a tolerance on the worse side. With M watched metrics, each
interval covers 1 - 0.05 / M of the resamples (Bonferroni), so all intervals together cover the true differences with
95 % probability. If no metric is truly beyond its tolerance, the check fails in at most 2.5 % of cases. Metrics of the
whole set of heads have no interval: their difference itself must exceed the tolerance.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from editgan.config import Section, checked, read_yaml
from editgan.errors import UserError
from editgan.judges.load import SMILE_JUDGES
from editgan.methods.smile import EDITGAN, INPUT, RECONSTRUCTION, TRULY_SMILING
from editgan.metrics import CONFIDENCE, resampled
from editgan.scoring.scores import load_heads
from editgan.scoring.table import Column, Row, Table, parse_table
from editgan.weights import sha256, write_bytes, write_json

BASELINE = Path("baseline/benchmark")
JUDGES = "judges.json"  # kept with the baseline: hash of each judging network, by its file below outputs/
TOLERANCES = Path("baseline/tolerances.yaml")
JUDGED_BY = (
    "judges/judge",
    *(f"assets/{name}" for name in (*SMILE_JUDGES[1:], "mobilefacenet", "efflite0", "lpips_alex")),
)
FILES = ("results.csv", "heads.safetensors")
SAMPLES = "samples"  # the stage of the generator's samples, and the row of their metrics
OF_SAMPLES = "samples.json"  # kept with the baseline: metrics.json of that stage
# For each watched metric: its tolerance (a field of `MethodTolerance`), and which direction is better.
WATCHED = {
    "smiling": ("smiling", 1),
    "identity": ("identity", 1),
    "identity_to_reconstruction": ("identity", 1),
    "lpips": ("lpips", -1),
    "l2": ("l2", -1),
    "leak_to_input": ("leak", -1),
    "leak_to_reconstruction": ("leak", -1),
    "segmentation_accuracy": ("segmentation_accuracy", 1),
    "mouth_iou": ("mouth_iou", 1),
    "area": ("area", 1),
    "fid": ("fid", -1),
    "kid": ("kid", -1),
    # of the generator's samples, by their names in metrics.json of stage samples
    "kid5k_alexnet": ("kid5k_alexnet", -1),
    "kid5k_efflite0": ("kid5k_efflite0", -1),
    "precision5k_alexnet": ("precision5k_alexnet", 1),
    "precision5k_efflite0": ("precision5k_efflite0", 1),
    "recall5k_alexnet": ("recall5k_alexnet", 1),
    "recall5k_efflite0": ("recall5k_efflite0", 1),
}
AT_ONCE = ("mouth_iou", "area", "fid", "kid")  # of the whole set of heads: no paired interval
NO_METHOD = (INPUT, TRULY_SMILING)  # rows without an edit or an embedding
ROUNDING = 2e-6  # of results.csv and of float32
Key = tuple[Row, Column]  # the row without its strength, since the choice of the strength is also evaluated


class MethodTolerance(Section):
    """How much worse the rows of methods may become, in the units of the benchmark's metrics.json."""

    smiling: float = Field(ge=0)  # percentage points
    identity: float = Field(ge=0)  # cosine
    lpips: float = Field(ge=0)
    l2: float = Field(ge=0)
    leak: float = Field(ge=0)
    mouth_iou: float = Field(ge=0)
    area: float = Field(ge=0)  # percentage points
    fid: float = Field(ge=0)
    kid: float = Field(ge=0)


class ToleranceParams(MethodTolerance):
    """How much worse all rows may become."""

    segmentation_accuracy: float = Field(ge=0)  # percentage points


class SamplesTolerance(Section):
    """How much worse the generator's samples may become, by the names of stage samples' metrics.json."""

    kid5k_alexnet: float = Field(ge=0)
    kid5k_efflite0: float = Field(ge=0)
    precision5k_alexnet: float = Field(ge=0)
    precision5k_efflite0: float = Field(ge=0)
    recall5k_alexnet: float = Field(ge=0)
    recall5k_efflite0: float = Field(ge=0)


class NightlyParams(Section):
    """What a nightly run may be worse by than the accepted baseline; no stage reads them."""

    bootstrap: int = Field(ge=1000)  # resamples of heads behind the intervals
    tolerance: ToleranceParams
    compare: dict[str, float]  # of `editgan compare` alone: metrics that the nightly check does not watch
    samples: SamplesTolerance
    single_vector: MethodTolerance  # in its place for the row of EditGAN, whose vector is learned from one head


@dataclass(frozen=True)
class Figures:
    """The metrics of a benchmark."""

    heads: Mapping[Key, Tensor]  # one value per head  # float32 [N]
    at_once: Mapping[Key, float]
    data: Mapping[str, Any]  # recipe of the heads


@dataclass(frozen=True)
class Change:
    """One watched metric: accepted and current value."""

    row: Row
    column: Column
    accepted: float
    current: float
    interval: tuple[float, float] | None  # of the difference; None if there is none
    tolerance: float

    @property
    def difference(self) -> float:
        return self.current - self.accepted

    @property
    def worsening(self) -> float:
        """Lower bound of the deterioration, according to the interval.

        For rows without a method: lower bound of the absolute change, which means other judges or other pictures.
        """
        low, high = self.interval or (self.difference, self.difference)
        if self.row.method in NO_METHOD and not math.isnan(low):
            return max(low, -high)
        return -high if WATCHED[self.column.metric][1] > 0 else low

    @property
    def regressed(self) -> bool:
        return not self.worsening <= self.tolerance  # NaN counts as worse

    def __str__(self) -> str:
        interval = "" if self.interval is None else f" [{self.interval[0]:+.4g}, {self.interval[1]:+.4g}]"
        return f"{named(self.row, self.column)} {self.difference:+.4g}{interval}, tolerated {self.tolerance:g}"

    def cells(self) -> dict[str, str]:
        """As one row of a table."""
        better = "more" if WATCHED[self.column.metric][1] > 0 else "less"
        return {
            "row": self.row.method + (", pasted back" if self.row.pasted else ""),
            "metric": " ".join(filter(None, self.column)),
            "better": "neither" if self.row.method in NO_METHOD else better,
            "accepted": f"{self.accepted:.4g}",
            "current": f"{self.current:.4g}",
            "difference": f"{self.difference:+.4g}",
            "interval": "-" if self.interval is None else f"{self.interval[0]:+.4g} to {self.interval[1]:+.4g}",
            "tolerated": f"{self.tolerance:g}",
        }


def named(row: Row, column: Column) -> str:
    """`smiling judge of editgan_plus, pasted back`."""
    return f"{' '.join(filter(None, column))} of {row.method}{', pasted back' if row.pasted else ''}"


def changes(accepted: Figures, current: Figures, params: NightlyParams, *, seed: int) -> list[Change]:
    """Every watched metric, ordered by deterioration relative to its tolerance. Those with `regressed` are regressions.

    All accepted metrics are watched, except smiles of reconstructions, which are not a goal. Photos and truly smiling
    heads do not depend on any method, so a change in either direction is a regression.

    Raises UserError: other heads were measured, or an accepted metric was not measured in this run.
    """
    if accepted.data != current.data:
        raise UserError(
            f"the heads of this run ({json.dumps(current.data)}) are not those of the baseline"
            f" ({json.dumps(accepted.data)}), so metrics cannot be compared; `editgan accept` replaces the baseline"
        )
    watched = [key for key in accepted.heads if is_watched(key)]
    bounded = [key for key in accepted.at_once if is_watched(key)]
    lost = [key for key in watched if key not in current.heads] + [key for key in bounded if key not in current.at_once]
    if lost:
        raise UserError(
            f"this benchmark lacks metrics of the baseline: {', '.join(named(*key) for key in lost)}; if this is"
            " intended, replace the baseline with `editgan accept`"
        )

    def change(key: Key, before: float, after: float, interval: tuple[float, float] | None) -> Change:
        row, column = key
        tolerance = getattr(tolerances_of(row, params), WATCHED[column.metric][0])
        return Change(row, column, before, after, interval, tolerance)

    found = [change(key, accepted.at_once[key], current.at_once[key], None) for key in bounded]
    if watched:
        before, after = (torch.stack([side.heads[key] for key in watched], 1).double() for side in (accepted, current))
        confidence = 1 - (1 - CONFIDENCE) / len(watched)
        low, high = paired_intervals(after - before, confidence, resamples=params.bootstrap, seed=seed)
        columns = zip(
            watched, before.mean(0).tolist(), after.mean(0).tolist(), zip(low, high, strict=True), strict=True
        )
        found += [change(*column) for column in columns]
    return sorted(found, key=lambda one: (not one.regressed, -one.worsening / max(one.tolerance, 1e-12)))


def is_watched(key: Key) -> bool:
    """Whether a metric is checked for regressions. Smiles of reconstructions are not."""
    row, column = key
    return column.metric in WATCHED and not (row.method == RECONSTRUCTION and column.metric == "smiling")


def tolerances_of(row: Row, params: NightlyParams) -> MethodTolerance | SamplesTolerance:
    """Tolerances of a row.

    EditGAN's rows, with or without refinement, have wider ones: a vector learned from one head depends on the seed of
    the segmentation. EditGAN+, the mean of several heads, hardly does.
    """
    if row.method == SAMPLES:
        return params.samples
    return params.single_vector if row.method == EDITGAN else params.tolerance


def paired_intervals(
    differences: Tensor, confidence: float, *, resamples: int, seed: int
) -> tuple[list[float], list[float]]:
    """Percentile intervals of mean differences over heads (Efron & Tibshirani 1993, chapter 13).

    Args:
        differences: on the same heads, one column per metric  # [N, M]
    Returns:
        lower and upper bounds, M each
    """
    times = resampled(len(differences), resamples, seed)  # [R, N]
    means = times @ differences.double() / len(differences)  # [R, M]
    tail = (1 - confidence) / 2
    low, high = torch.quantile(means, torch.tensor([tail, 1 - tail], dtype=torch.float64), dim=0)
    return low.tolist(), high.tolist()


def load_figures(folder: Path) -> Figures:
    """The metrics that stage benchmark left in a folder, or the accepted ones.

    Raises UserError: a file is missing or damaged, or the two files are not from the same run.
    """
    heads, about = load_heads(folder / "heads.safetensors")
    table = load_results(folder / "results.csv")
    for (row, column), said in heads.items():
        figure = table.get(row, {}).get(column)
        if figure is None or not abs(float(said.double().mean()) - figure.value) <= ROUNDING:
            raise UserError(
                f"{folder}: heads.safetensors and results.csv differ in {named(row, column)}; run stage benchmark again"
            )
    at_once = {
        (row._replace(strength=None), column): figure.value
        for row, figures in table.items()
        for column, figure in figures.items()
        if column.metric in AT_ONCE
    }
    of_heads = {(row._replace(strength=None), column): said for (row, column), said in heads.items()}
    return Figures(heads=of_heads, at_once=at_once, data=about.get("data", {}))


def load_results(path: Path) -> Table:
    """Read a results.csv. Raises UserError: the file is missing or damaged."""
    return parse_table(_read(path), str(path))


def with_samples(figures: Figures, path: Path) -> Figures:
    """The figures and, if the file exists, those of the generator's samples: metrics.json of stage samples.

    Raises UserError: the file is damaged.
    """
    if not path.exists():
        return figures
    try:
        found = json.loads(path.read_text())[SAMPLES]
        of_samples = {
            (Row(SAMPLES), Column(name)): float(found[name]) for name in SamplesTolerance.model_fields if name in found
        }
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: damaged ({error!r}); run stage samples again") from None
    return replace(figures, at_once={**figures.at_once, **of_samples})


def accept(outputs: Path, root: Path, *, reason: str) -> Path:
    """Make the metrics in a folder of outputs the accepted baseline; returns the folder of the baseline.

    `reason`: why the metrics may change, for `reason.txt`.

    Raises UserError: the benchmark is incomplete, or its files are not from one run.
    """
    folder = outputs / "benchmark"
    load_figures(folder)
    contents = {name: _read(folder / name) for name in FILES}
    for name, content in contents.items():
        write_bytes(root / BASELINE / name, content)
    samples = outputs / SAMPLES / "metrics.json"
    if samples.exists():
        write_bytes(root / BASELINE / OF_SAMPLES, samples.read_bytes())
    write_json(root / BASELINE / JUDGES, judges_of(outputs))
    write_bytes(root / BASELINE / "reason.txt", f"{reason}\n".encode())
    return root / BASELINE


def judges_of(outputs: Path) -> dict[str, str]:
    """SHA-256 of the judging networks that are present."""
    files = {name: outputs / f"{name}.safetensors" for name in JUDGED_BY}
    return {name: sha256(path) for name, path in files.items() if path.is_file()}


def load_tolerances(root: Path) -> NightlyParams:
    """Read and check baseline/tolerances.yaml of a project.

    Raises UserError: it is missing or no YAML, a key is unknown or missing, or a value is out of range.
    """
    return checked(NightlyParams, read_yaml(root / TOLERANCES), root / TOLERANCES)


def judged(root: Path, params: NightlyParams, *, seed: int) -> list[Change]:
    """Compare the benchmark and the samples in outputs/ with the accepted baseline, largest deterioration first.

    Raises UserError: one of the two is missing or damaged, or they used different heads or judges.
    """
    path = root / BASELINE / JUDGES
    before, now = json.loads(path.read_text()) if path.exists() else {}, judges_of(root / "outputs")
    others = sorted(name for name in before.keys() & now.keys() if before[name] != now[name])
    if others:
        raise UserError(
            f"the judges of this run are not those of the baseline ({', '.join(others)}), so metrics cannot be"
            " compared; `editgan accept` replaces the baseline"
        )
    accepted = with_samples(load_figures(root / BASELINE), root / BASELINE / OF_SAMPLES)
    current = with_samples(load_figures(root / "outputs" / "benchmark"), root / "outputs" / SAMPLES / "metrics.json")
    return changes(accepted, current, params, seed=seed)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: missing; run stage benchmark (`make demo`) or `dvc pull benchmark`") from None
