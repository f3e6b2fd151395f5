"""What a pipeline says at its end: the benchmark, what became of each stage, and where to look."""

import json
from collections.abc import Sequence
from pathlib import Path

from editgan import tracking
from editgan.errors import UserError
from editgan.graph import content_hash, input_hash, load_graph
from flows.stages import StageResult

TABLE = Path("outputs/benchmark/table.md")


def run_record(root: Path, stage: str) -> dict:
    """outputs/STAGE/run.json: the MLflow run that made the stage's output, and how long it took.

    Where the metrics that the record names are others, DVC has restored the output from its cache: then it is the
    newest finished run in the store that had the same inputs, and empty if there is none.
    """
    out = root / "outputs" / stage
    try:
        record = json.loads((out / "run.json").read_text())
        if record["metrics"] == content_hash(out / "metrics.json"):
            return record
    except (OSError, ValueError, KeyError, UserError):
        pass
    from editgan.config import load_params  # brings torch, which a flow does without as long as it can

    try:
        params = load_params(root / "params.yaml").model_dump(mode="json")
        inputs = input_hash(load_graph(root / "dvc.yaml")[stage], root, params)
    except UserError:
        return {}
    run_id = tracking.newest_finished_run(root, {"stage": stage, "input_hash": inputs})
    return {"run_id": run_id} if run_id else {}


def stage_rows(root: Path, results: Sequence[StageResult]) -> list[dict[str, str]]:
    """One row a stage: what happened, minutes of this pipeline, minutes and MLflow run of what made its output."""
    rows = []
    for result in results:
        record = run_record(root, result.stage)
        made_in = f"{record['seconds'] / 60:.1f}" if "seconds" in record else "?"
        rows.append(
            {
                "stage": result.stage,
                "outcome": result.outcome,
                "minutes": f"{result.seconds / 60:.1f}",
                "minutes to make": made_in,
                "mlflow run": (record.get("run_id") or "not recorded")[:12],
            }
        )
    return rows


def markdown_table(rows: Sequence[dict[str, str]]) -> str:
    """Rows as a markdown table with aligned columns, which is readable in a terminal too."""
    if not rows:
        return ""
    columns = list(rows[0])
    width = {column: max(len(column), *(len(row[column]) for row in rows)) for column in columns}

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width[column]) for column, cell in zip(columns, cells, strict=True)) + " |"

    rule = "|" + "|".join("-" * (width[column] + 2) for column in columns) + "|"
    return "\n".join([line(columns), rule, *(line([row[column] for column in columns]) for row in rows)])


def pictures(root: Path) -> list[Path]:
    """Every picture among the outputs, as paths relative to `root`."""
    return sorted(path.relative_to(root) for path in (root / "outputs").rglob("*.png"))


def summary(
    root: Path,
    results: Sequence[StageResult],
    minutes: float,
    servers: dict[str, str],
    store: str,
    experiment: str | None = None,
) -> str:
    """The closing page, in markdown.

    Args:
        servers: addresses of running servers by name.
        store: address of the MLflow store, told where no server of it runs: that one may have another.
        experiment: MLflow's id of the experiment, for links to the stages' runs where a server shows them.
    """
    parts = [_benchmark(root), "# Stages", markdown_table(stage_rows(root, results))]
    unchanged = [result.stage for result in results if result.outcome == "skipped"]
    if results and len(unchanged) == len(results):
        parts.append(f"Nothing changed: every stage was skipped. {minutes:.1f} minutes in all.")
    else:
        parts.append(f"{minutes:.1f} minutes in all; skipped: {', '.join(unchanged) or 'none'}.")
    parts += _links(root, results, servers.get("mlflow") or (store if store.startswith("http") else None), experiment)
    parts += ["# Where things are", _places(root, servers, store)]
    return "\n\n".join(parts) + "\n"


def _links(root: Path, results: Sequence[StageResult], mlflow: str | None, experiment: str | None) -> list[str]:
    """A line of links to the MLflow runs that made the stages' outputs; none where no server shows them."""
    if mlflow is None or experiment is None:
        return []
    runs = {result.stage: run_record(root, result.stage).get("run_id") for result in results}
    place = f"{mlflow.rstrip('/')}/#/experiments/{experiment}/runs"
    links = [f"[{stage}]({place}/{run})" for stage, run in runs.items() if run]
    return [f"In MLflow: {', '.join(links)}"] if links else []


def _benchmark(root: Path) -> str:
    path = root / TABLE
    return path.read_text().strip() if path.exists() else f"No table yet: {TABLE} is made by the stage benchmark."


def _places(root: Path, servers: dict[str, str], store: str) -> str:
    lines = [f"- folder: {root}"]
    if (root / TABLE).exists():
        page = TABLE.with_name("report.html")
        lines.append(f"- report: {page}, its table in {TABLE}, its numbers in {TABLE.with_name('metrics.json')}")
    found = [str(picture) for picture in pictures(root)]
    shown = found if len(found) <= 12 else [*found[:12], f"and {len(found) - 12} more"]
    lines.append(f"- pictures: {', '.join(shown) or 'none yet'}")
    lines.append(f"- MLflow: {servers.get('mlflow') or f'start its pages with `make ui` (store: {store})'}")
    lines.append(f"- Prefect: {servers.get('prefect', 'start its pages with `make ui`')}")
    return "\n".join(lines)
