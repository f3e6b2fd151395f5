"""Compare runs: eight headline metrics with a verdict and, on request, everything that differs.

A run is the working tree, another folder of outputs (a checkout in runs/, the baseline of nightly runs), a commit, or a
DVC experiment. The first run is the reference.
"""

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from editgan.benchmark.titles import is_refined
from editgan.config import STAGES, flat_keys, read_yaml
from editgan.errors import UserError
from editgan.runtime.environment import PROJECT_ROOT
from editgan.samples.report import Measure
from editgan.scoring.table import Column, column_name, metrics_of, parse_table, pasted_name

WORKING_TREE = "."
SAMPLES_KID = "kid5k_alexnet"  # its name in the accepted baseline and in baseline/tolerances.yaml


@dataclass(frozen=True)
class Run:
    """Name, metrics and parameters of a run."""

    name: str
    metrics: Mapping[str, Mapping[str, Any]]  # by stage; nested as in the stage's metrics.json
    params: Mapping[str, Any] = field(default_factory=dict)  # by dotted key; empty if unknown


@dataclass(frozen=True)
class Headline:
    """One of the metrics that summarise the quality of a run."""

    title: str
    value: Callable[[Run], float | None]  # None if the run lacks this metric
    better: int  # 1: higher is better, -1: lower is better
    key: str  # its tolerance in baseline/tolerances.yaml, which the nightly check uses, too

    @property
    def tolerance(self) -> float:
        """Smaller differences count as the same."""
        return _tolerances()[self.key]


@functools.cache
def _tolerances() -> dict[str, float]:
    return flat_keys(read_yaml(PROJECT_ROOT / "baseline" / "tolerances.yaml"))


def embedded(metric: str, network: str) -> Callable[[Run], float | None]:
    """A metric of the embedding by encoder and optimisation."""
    return _benchmarked(Column(metric, network), lambda method: method == "encoder_and_optimisation")


def refined(metric: str, network: str = "") -> Callable[[Run], float | None]:
    """A metric of the edit of EditGAN+ after refinement by any number of steps, as generated."""
    return _benchmarked(Column(metric, network), is_refined)


def _benchmarked(column: Column, wanted: Callable[[str], bool]) -> Callable[[Run], float | None]:
    name = column_name(column, samples=0)  # none of the headlines counts samples in its name

    def value(run: Run) -> float | None:
        for rows in run.metrics.get("benchmark", {}).values():
            pasted = set(map(pasted_name, rows))
            for method, figures in rows.items():
                if wanted(method) and method not in pasted and name in figures:
                    return figures[name]
        return None

    return value


def samples_kid(run: Run) -> float | None:
    """KID of samples by AlexNet; the number of samples is part of its name. The baseline records no parameters."""
    of_samples, count = run.metrics.get("samples", {}).get("samples", {}), run.params.get("samples.images")
    name = SAMPLES_KID if count is None else Measure("kid", count, "alexnet").name
    return of_samples.get(name)


def segmentation_miou(run: Run) -> float | None:
    """Mean IoU on the test heads, whose number is part of its name."""
    return run.metrics.get("segmentation", {}).get(f"miou_test{run.params.get('data.test')}")


HEADLINES = (
    Headline("samples: KID, AlexNet", samples_kid, -1, f"samples.{SAMPLES_KID}"),
    Headline("embedding: LPIPS-Alex", embedded("embedding_lpips", "alex"), -1, "tolerance.lpips"),
    Headline("embedding: identity", embedded("embedding_identity", "mobilefacenet"), 1, "tolerance.identity"),
    Headline("segmentation: mIoU", segmentation_miou, 1, "compare.segmentation_miou"),
    Headline("EditGAN+, refined: % smiling, judge", refined("smiling", "judge"), 1, "tolerance.smiling"),
    Headline("EditGAN+, refined: identity", refined("identity", "mobilefacenet"), 1, "tolerance.identity"),
    Headline("EditGAN+, refined: leak", refined("leak_to_reconstruction"), -1, "tolerance.leak"),
    Headline("EditGAN+, refined: area, judge", refined("area", "judge"), 1, "tolerance.area"),
)


def find_run(name: str, root: Path) -> Run:
    """Resolve a name: a folder with results, else a commit or a DVC experiment.

    Raises UserError: the name is none of these, or one of its files is damaged.
    """
    for folder in (root / name / "outputs", root / name):
        if any(folder.glob("*/metrics.json")) or any(folder.glob("*/results.csv")):
            title = "working tree" if name == WORKING_TREE else name
            return _run(title, str(folder), str(folder.parent / "params.yaml"), lambda path: Path(path).read_bytes())
    from dvc.api import DVCFileSystem  # importing takes a second
    from dvc.exceptions import DvcException

    try:
        files = DVCFileSystem(repo=str(root), rev=name)  # reads from git, DVC's cache or the store
        files.read_bytes("params.yaml")
    except (DvcException, OSError) as error:
        raise UserError(
            f"{name}: not a folder with results, and not a commit or DVC experiment ({error}); see `git log` and"
            " `dvc exp list`"
        ) from None
    return _run(name, "outputs", "params.yaml", files.read_bytes)


def _run(name: str, outputs: str, params: str, reader: Callable[[str], bytes]) -> Run:
    def read(path: str) -> bytes | None:
        try:
            return reader(path)
        except OSError:
            return None

    metrics: dict[str, dict[str, Any]] = {}
    for stage in STAGES:
        path = f"{outputs}/{stage}/metrics.json"
        content = read(path)
        if stage == "samples" and content is None:  # the baseline keeps them beside those of the benchmark
            content = read(path := f"{outputs}/benchmark/samples.json")
        try:
            found = {} if content is None else json.loads(content)
        except ValueError as error:
            raise UserError(f"{path}: damaged ({error}); make it again, or `dvc checkout` it") from None
        table = f"{outputs}/{stage}/results.csv"
        if stage == "benchmark" and content is None and (content := read(table)) is not None:
            found = metrics_of(parse_table(content, table))
        if found:
            metrics[stage] = found
    text = read(params)
    return Run(name, metrics, {} if text is None else flat_keys(yaml.safe_load(text)))


def verdict(headline: Headline, before: float | None, after: float | None) -> str:
    """`better`, `worse`, `same` within the tolerance, or `-` if a value is missing."""
    if before is None or after is None:
        return "-"
    gain = headline.better * (after - before)
    return "same" if abs(gain) <= headline.tolerance else "better" if gain > 0 else "worse"


def show(runs: Sequence[Run], console: Console, *, everything: bool = False) -> None:
    """Print the headlines of every run, with verdicts for all but the first.

    With `everything`, print all metrics and parameters that differ.
    """
    first, *others = runs
    table = RichTable("metric", title="headlines", title_justify="left")
    table.add_column(first.name, justify="right")
    for run in others:
        table.add_column(run.name, justify="right")
        table.add_column("verdict")
    table.add_column("tolerance", justify="right")
    for one in HEADLINES:
        before = one.value(first)
        cells = [one.title, _number(before)]
        for run in others:
            after = one.value(run)
            said = verdict(one, before, after)
            colour = {"better": "green", "worse": "red"}.get(said, "")
            cells += [_number(after), Text(said, style=colour)]
        table.add_row(*cells, f"{one.tolerance:g}")
    console.print(table)
    if not everything:
        return
    for stage in STAGES:
        found = [flat_keys(run.metrics.get(stage, {})) for run in runs]
        names = dict.fromkeys(name for one in found for name in one)
        rows = {name: [one.get(name) for one in found] for name in names}
        _differing(f"{stage}: metrics that differ", runs, rows, console)
    keys = dict.fromkeys(key for run in runs for key in run.params)
    _differing("parameters that differ", runs, {key: [run.params.get(key) for run in runs] for key in keys}, console)


def _differing(title: str, runs: Sequence[Run], rows: Mapping[str, list[Any]], console: Console) -> None:
    differing = {name: values for name, values in rows.items() if any(value != values[0] for value in values)}
    if differing:
        table = RichTable("", *(run.name for run in runs), title=title, title_justify="left")
        for name, values in differing.items():
            table.add_row(Text(name), *(Text(_number(value)) for value in values))
        console.print(table)


def _number(value: Any) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
