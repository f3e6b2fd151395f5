"""Reads runs back out of the MLflow record, for those who know one by its id."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from editgan import tracking
from editgan.environment import tracking_uri
from editgan.errors import UserError

LATEST = "latest"  # names the newest pipeline run that has ended
RUN_ID = re.compile(r"[0-9a-f]{8,32}")  # or its first characters


@dataclass(frozen=True)
class RecordedRun:
    """A run as the store has it."""

    run_id: str
    params: dict[str, str]
    metrics: dict[str, float]  # the last of each
    read: Callable[[str], bytes | None]  # path of an artifact -> content
    names: Callable[[str], list[str]]  # folder of artifacts -> names of its files


def recorded_runs(root: Path, wanted: str) -> tuple[str, dict[str, RecordedRun]] | None:
    """A run's id, and the runs of stages that it points at, by stage; a stage's run points at itself.

    Args:
        wanted: a run id or its first characters, or `LATEST`.
    Returns:
        None where there is no record yet, or none of such a run.
    Raises:
        UserError: the store does not answer.
    """
    uri = tracking_uri(root)
    empty = uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists()
    if empty or not (wanted == LATEST or RUN_ID.fullmatch(wanted)):
        return None
    query = f"attributes.run_id LIKE '{wanted}%'"
    if wanted == LATEST:
        query = "tags.`mlflow.runName` = 'pipeline' and attributes.status != 'RUNNING'"
    try:
        client, experiment_id = tracking.connect(root)
        found = client.search_runs([experiment_id], query, max_results=1, order_by=["attributes.start_time DESC"])
    except Exception as error:
        raise UserError(f"{uri}: the MLflow record does not answer: {error}") from None
    if not found:
        return None
    tags = found[0].data.tags
    ids = {tags["stage"]: found[0].info.run_id} if "stage" in tags else {}
    for key, value in tags.items():
        if (match := re.fullmatch(r"stage\.(\w+)\.run_id", key)) and value:
            ids[match[1]] = value
    return found[0].info.run_id, {stage: run for stage, one in ids.items() if (run := _recorded(client, one))}


def _recorded(client: Any, run_id: str) -> RecordedRun | None:
    """None where the store no longer knows it."""

    def read(path: str) -> bytes | None:
        try:
            return Path(client.download_artifacts(run_id, path)).read_bytes()
        except Exception:  # there is no such artifact
            return None

    def names(folder: str) -> list[str]:
        return [Path(item.path).name for item in client.list_artifacts(run_id, folder) if not item.is_dir]

    try:
        data = client.get_run(run_id).data
    except Exception:  # deleted since
        return None
    return RecordedRun(run_id=run_id, params=data.params, metrics=data.metrics, read=read, names=names)
