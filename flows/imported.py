"""MLflow runs of stages whose outputs were made elsewhere and restored here."""

import json
import subprocess
from pathlib import Path

from editgan.config import flat_keys, load_params, stage_params
from editgan.runtime import tracking
from editgan.runtime.graph import content_hash, input_hash, load_graph
from editgan.weights import write_json


def import_run(name: str, *, root: Path, params_path: Path, parent_run_id: str | None = None) -> str | None:
    """Create an MLflow run for a restored output; returns its id, or None if the MLflow store does not answer.

    The run has the tag `imported` and the commit that added the output. Parameters, curves, final metrics and pictures
    are read from the params file and the outputs.
    """
    params, out = load_params(params_path), root / "outputs" / name
    inputs = input_hash(load_graph(root / "dvc.yaml")[name], root, params.model_dump(mode="json"))
    shipped = ["git", "-C", root, "log", "-1", "--format=%H", "--", f"outputs/{name}/metrics.json"]
    tags = {
        "stage": name,
        "input_hash": inputs,
        "params_file": params_path.name,
        "imported": "true",
        "mlflow.source.git.commit": subprocess.run(shipped, capture_output=True, text=True).stdout.strip(),
        "git_dirty": "unknown",
    }
    tags |= {"mlflow.parentRunId": parent_run_id} if parent_run_id else {}
    run = tracking.start_run(name, root=root, params=stage_params(name, params), tags=tags)
    curves, metrics = out / "stats.jsonl", out / "metrics.json"
    for line in map(json.loads, curves.read_text().splitlines() if curves.exists() else ()):
        values = {key: value for key, value in line.items() if key != "kimg" and not isinstance(value, str)}
        run.log_metrics(values, float(line["kimg"]))
    if metrics.exists():
        if not curves.exists():  # the last points of the curves are these metrics
            final = flat_keys(json.loads(metrics.read_text()))
            run.log_metrics({key: float(value) for key, value in final.items() if not isinstance(value, str)})
        run.log_file(metrics)
    if (out / "curves").exists():
        run.log_file(out / "curves")
    for picture in sorted(out.rglob("*.png")):
        run.log_image(picture, picture.stem)
    run.close()
    if run.run_id is not None:
        record = {"run_id": run.run_id, "input_hash": inputs}
        write_json(out / "run.json", record | {"metrics": content_hash(metrics) if metrics.exists() else None})
    return run.run_id
