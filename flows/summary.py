"""The summary of a pipeline run, on one screen: benchmark, outcome of each stage, where to find the results."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from editgan.config import load_params
from editgan.errors import UserError
from editgan.runtime import tracking
from editgan.runtime.graph import content_hash, input_hash, load_graph
from editgan.scoring.table import Column, Figure, of_method, parse_table
from flows.stages import StageResult

BENCHMARK = Path("outputs/benchmark")
SUCCESS = (Column("smiling", "judge"), Column("changed", "judge"))  # the second: of classes without faces
COLUMNS = {Column("smiling", "judge"): ("% smiling, judge", 1, 1),
           Column("changed", "judge"): ("% changed, judge", 1, 1),
           Column("changed", "parser"): ("% changed, parser", 1, 1),
           Column("identity", "mobilefacenet"): ("identity to the photo", 1, 3),
           Column("similarity", "efflite0"): ("similarity to the input", 1, 3),
           Column("kid", "efflite0"): ("KID, efflite0, x1e3", 1000, 1)}  # fmt: skip
SHOWN = {"outputs/report/index.html": "the results on one page",
         "outputs/benchmark/grid.png": "the first test pictures, edited by every method",
         "outputs/benchmark/pasted.png": "the same, pasted back into the photos",
         "outputs/benchmark/curves.png": "success against identity"}  # fmt: skip
NEXT = """\
- next: `. .venv/bin/activate`, then `editgan sample` and `editgan apply edited/seed00000.png --edit {}=1.5`
- or change `params.yaml` and run this again: only what depends on the change runs"""


def run_record(root: Path, stage: str) -> dict:
    """outputs/STAGE/run.json: the MLflow run that made the stage's output, and its duration.

    If the hash of the metrics differs, DVC has restored the output from its cache. Then it is the newest finished run
    with the same inputs, or {} if there is none.
    """
    out = root / "outputs" / stage
    try:
        record = json.loads((out / "run.json").read_text())
        if record["metrics"] == content_hash(out / "metrics.json"):
            return record
    except (OSError, ValueError, KeyError, UserError):
        pass
    try:
        params = load_params(root / "params.yaml").model_dump(mode="json")
        inputs = input_hash(load_graph(root / "dvc.yaml")[stage], root, params)
    except UserError:
        return {}
    run_id = tracking.newest_finished_run(root, {"stage": stage, "input_hash": inputs})
    return {"run_id": run_id} if run_id else {}


def headlines(root: Path) -> dict[str, float]:
    """The headline metrics of a folder's results by their names in MLflow, without missing ones."""
    from editgan.report.comparison import HEADLINES, WORKING_TREE, find_run  # imports torch

    try:
        run = find_run(WORKING_TREE, root)
    except UserError:
        return {}
    found = {re.sub(r"[^a-zA-Z-]+", " ", one.title): one.value(run) for one in HEADLINES}
    return {f"headline/{name}": value for name, value in found.items() if value is not None}


def stage_rows(root: Path, results: Sequence[StageResult]) -> list[dict[str, str]]:
    """A row per stage: outcome, minutes in this pipeline, minutes and MLflow run of what made its output."""
    records = [run_record(root, result.stage) for result in results]
    return [
        {
            "stage": result.stage,
            "outcome": result.outcome,
            "minutes": f"{result.seconds / 60:.1f}",
            "minutes to make": f"{record['seconds'] / 60:.1f}" if "seconds" in record else "?",
            "mlflow run": (record.get("run_id") or "not recorded")[:12],
        }
        for result, record in zip(results, records, strict=True)
    ]


def markdown_table(rows: Sequence[dict[str, str]]) -> str:
    """Rows as a Markdown table with aligned columns."""
    return tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True)


def summary(
    root: Path,
    results: Sequence[StageResult],
    minutes: float,
    servers: dict[str, str],
    store: str,
    experiment: str | None = None,
) -> str:
    """The summary in Markdown.

    Args:
        servers: addresses of running servers by name.
        store: address of the MLflow store, shown if no server runs.
        experiment: MLflow's id of the experiment, for links to the runs of the stages.
    """
    rows = [{key: row[key] for key in ("stage", "outcome", "minutes")} for row in stage_rows(root, results)]
    shown = [row for row in rows if row["outcome"] != "skipped"]
    skipped = [row["stage"] for row in rows if row["outcome"] == "skipped"]
    parts = [_benchmark(root), f"# Stages: {minutes:.1f} minutes in all"]
    if shown:
        parts.append(markdown_table(shown))
    if skipped:
        parts.append(f"Skipped, nothing changed: {', '.join(skipped)}")
    vector = load_params(root / "params.yaml").scoring.plus_vector
    parts += _links(root, results, servers.get("mlflow") or (store if store.startswith("http") else None), experiment)
    parts.append(f"{_places(root, servers, store)}\n{NEXT.format(vector)}")
    return "\n\n".join(parts) + "\n"


def _links(root: Path, results: Sequence[StageResult], mlflow: str | None, experiment: str | None) -> list[str]:
    """A line of links to the MLflow runs that made the outputs; [] without an MLflow server."""
    if mlflow is None or experiment is None:
        return []
    runs = {result.stage: run_record(root, result.stage).get("run_id") for result in results}
    links = [f"[{stage}]({_run_page(mlflow, experiment, run)})" for stage, run in runs.items() if run]
    return [f"In MLflow: {', '.join(links)}"] if links else []


def _run_page(mlflow: str, experiment: str, run_id: str) -> str:
    return f"{mlflow.rstrip('/')}/#/experiments/{experiment}/runs/{run_id}"


def benchmark_note(root: Path, store: str, experiment: str) -> str:
    """A sentence on the MLflow run that made the benchmark, in Markdown: its page if the store has pages, else its id.

    Args:
        store: address of the MLflow store that the runs are written to.
    """
    run_id = run_record(root, BENCHMARK.name).get("run_id")
    if run_id is None:
        return "The benchmark has no MLflow run."
    return f"Benchmark: {f'[{run_id}]({_run_page(store, experiment, run_id)})' if store.startswith('http') else run_id}"


def _benchmark(root: Path) -> str:
    """Five rows and three columns of the benchmark's results, with 95 % intervals."""
    path = root / BENCHMARK / "results.csv"
    try:
        results = parse_table(path.read_bytes(), str(path))
    except OSError:
        return f"No table yet: stage benchmark makes {BENCHMARK}."
    from editgan.methods.smile import refined_name  # imports torch

    steps = load_params(root / "params.yaml").editing.refine.steps
    methods = {"EditGAN": "editgan", "EditGAN+ (ours)": "editgan_plus", f"EditGAN+{steps} (ours)": refined_name(steps),
               "InterFaceGAN": "interfacegan", "MaskGAN": "maskgan"}  # fmt: skip
    table, heads, smiles = [], 0, True
    for title, method in methods.items():
        figures = {column: one for of in of_method(results, method).values() for column, one in of.items()}
        if figures:
            smiles = SUCCESS[0] in figures
            heads = figures[SUCCESS[not smiles]].samples
            shown = {form[0]: (column, *form[1:]) for column, form in COLUMNS.items() if column in figures}
            table.append({"": title} | {heading: _cell(figures[one], *form) for heading, (one, *form) in shown.items()})
    heading = f"# Smile benchmark on {heads} heads" if smiles else f"# Benchmark on {heads} pictures"
    return f"{heading}, 95 % intervals\n\n{markdown_table(table)}"


def _cell(figure: Figure | None, scale: float, digits: int) -> str:
    if figure is None:
        return "-"
    interval = f" [{scale * figure.low:.{digits}f}, {scale * figure.high:.{digits}f}]" if figure.low is not None else ""
    return f"{scale * figure.value:.{digits}f}{interval}"


def _places(root: Path, servers: dict[str, str], store: str) -> str:
    lines = [f"- {path}: {what}" for path, what in SHOWN.items() if (root / path).exists()]
    if lines:
        lines[0] = f"{lines[0]} (in {root})"
    pages = {"MLflow": "mlflow", "Prefect": "prefect"}
    told = [f"{title}: {servers[name]}" for title, name in pages.items() if name in servers]
    lines.append(f"- {', '.join(told)}" if told else f"- pages of MLflow and Prefect: `make ui` (record: {store})")
    return "\n".join(lines)
