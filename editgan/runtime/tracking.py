"""Records runs in MLflow. Only this module and `editor.registry`, which registers models, import mlflow.

Stages write their files first, and MLflow gets copies, so nothing here can fail a stage. MLflow repeats failed
requests. If the store still does not answer, the run goes on with local files only and prints this once.
"""

import json
import logging
import os
import re
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from PIL import Image

from editgan.runtime.environment import PROJECT_ROOT, apply_environment, artifact_folder, tracking_uri
from editgan.runtime.progress import Progress

EXPERIMENT = "editgan"
KIND = {"mlflow.experimentKind": "custom_model_development"}  # the experiment's page opens on its runs, not on traces
PARENT_VARIABLE = "MLFLOW_PARENT_RUN_ID"  # id of the parent run
RECORD_FILE = "tracking.json"  # in the work folder: id and duration, for a resumed stage
FLUSH_SECONDS, FLUSH_POINTS = 5.0, 500  # MLflow accepts at most 1000 points per request
QUIET = ("alembic", "mlflow", "urllib3.connectionpool")  # silenced, because one sentence is printed here instead


class Run:
    """One MLflow run. Without a client it records nothing, and all methods still work."""

    def __init__(self, name: str, *, work: Path | None = None, root: Path = PROJECT_ROOT, before: float = 0.0) -> None:
        """With a work folder the run can be resumed. `before`: seconds of the earlier attempts."""
        self.run_id: str | None = None
        self.experiment_id: str | None = None
        self._client: Any = None
        self._monitor: Any = None  # MLflow's monitor of load and memory
        self._lost = False  # whether a record failed
        self._work = work
        self._progress = Progress(name, root / "work" / name / "progress.json" if work is not None else None)
        self._started, self._flushed = time.monotonic() - before, time.monotonic()
        self._metrics: list[tuple[str, float, int, int]] = []

    @property
    def seconds(self) -> float:
        """Wall time of the stage, including earlier attempts."""
        return time.monotonic() - self._started

    def log_metrics(self, metrics: Mapping[str, float], step: float = 0) -> None:
        """Add a point to the curves. A float step is in kimg and recorded in images, because MLflow needs integers."""
        if isinstance(step, float):
            metrics, step = {**metrics, "kimg": step}, round(step * 1000)
        now = int(time.time() * 1000)
        self._metrics += [(_key(name), float(value), now, int(step)) for name, value in metrics.items()]
        if len(self._metrics) > FLUSH_POINTS or time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def log_image(self, image: str | Path | Image.Image, name: str) -> None:
        """Record a picture in images/, e.g. `log_image(context.out / "fakes000010.png", "fakes000010")`."""
        if isinstance(image, Image.Image):
            self._record("log_image", image, artifact_file=f"images/{name.removesuffix('.png')}.png")
        else:
            self._record("log_artifact", str(image), "images")

    def log_file(self, path: str | Path) -> None:
        """Record a file or folder of the stage."""
        self._record("log_artifact", str(path))

    def log_text(self, text: str, name: str) -> None:
        """Record a text as a file, e.g. "table.md"."""
        self._record("log_text", text, name)

    def set_tag(self, key: str, value: object) -> None:
        """Set a tag of the run."""
        self._record("set_tag", _key(key), str(value))

    def progress(self, done: float, total: float, unit: str, message: str = "") -> None:
        """Report progress: printed lines and work/STAGE/progress.json."""
        if self._progress.update(done, total, unit, message):
            self._save_record()

    def flush(self) -> None:
        """Send the collected metrics."""
        points, self._metrics, self._flushed = self._metrics, [], time.monotonic()
        if self._client is not None and points:
            from mlflow.entities import Metric

            self._record("log_batch", metrics=[Metric(*point) for point in points])

    def close(self, status: str = "FINISHED") -> None:
        """Send the remaining metrics and end the run as FINISHED, FAILED or KILLED."""
        self.flush()
        self._save_record()
        if self._monitor is not None:
            self._monitor.finish()
        self._record("set_terminated", status, last=True)
        self._client = None

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: Any) -> None:
        """Close the run as FINISHED, FAILED (error) or KILLED (Ctrl-C, SIGTERM, cancellation)."""
        failed = isinstance(error, Exception | SystemExit)
        self.close("FINISHED" if error is None else "FAILED" if failed else "KILLED")

    def _save_record(self) -> None:
        if self._work is not None and self._work.exists():
            from editgan.weights import write_json  # imports torch

            write_json(self._work / RECORD_FILE, {"run_id": self.run_id, "seconds": round(self.seconds, 1)})

    def _record(self, method: str, *values: Any, last: bool = False, **named: Any) -> None:
        """Call MLflow for this run. After a failure only the last call, the final status, is tried."""
        if self._client is None or (self._lost and not last):
            return
        try:
            getattr(self._client, method)(self.run_id, *values, **named)
        except Exception as error:
            if not self._lost:
                _say_local_only(error)
            self._lost = True


def offline_run(name: str = "offline") -> Run:
    """A run that records nothing."""
    return Run(name)


def start_run(
    name: str,
    *,
    root: Path = PROJECT_ROOT,
    work: Path | None = None,
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
) -> Run:
    """Open a run, or resume the one whose id is in the work folder.

    First closes runs of killed processes as KILLED.

    Args:
        root: the project or checkout, for the store and the commit.
        work: the stage's work folder; None: the run cannot be resumed, and no load of the machine is recorded.
        params: flat parameters; not recorded again for a resumed run.
    """
    record = {}
    if work is not None:
        with suppress(OSError, ValueError):
            record = json.loads((work / RECORD_FILE).read_text())
    run, run_id = Run(name, work=work, root=root, before=record.get("seconds", 0.0)), record.get("run_id")
    parent = os.environ.get(PARENT_VARIABLE)
    labels = process_tags() | git_tags(root) | ({"mlflow.parentRunId": parent} if parent else {}) | dict(tags or {})
    try:
        left_running(root, close=True)
        client, experiment_id = connect(root)
        from mlflow.entities import Param, RunTag
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        resumed = bool(client.search_runs([experiment_id], f"attributes.run_id = '{run_id}'"))
        if resumed:
            client.update_run(run_id, status="RUNNING")
            client.log_batch(run_id, tags=[RunTag(key, value) for key, value in labels.items()])
        else:
            run_id = client.create_run(experiment_id, tags=labels, run_name=name).info.run_id
            client.log_batch(run_id, params=[Param(_key(key), str(value)) for key, value in (params or {}).items()])
        run.run_id, run.experiment_id, run._client = run_id, experiment_id, client
        if work is not None:
            run._monitor = SystemMetricsMonitor(run_id, resume_logging=resumed, tracking_uri=client.tracking_uri)
            run._monitor.start()
    except Exception as error:
        _say_local_only(error)
    run._save_record()
    return run


def newest_finished_run(root: Path, tags: Mapping[str, str]) -> str | None:
    """Id of the newest finished run with these tags; None if there is none, or the store does not answer."""
    query = " and ".join([*(f"tags.`{key}` = '{value}'" for key, value in tags.items()), "status = 'FINISHED'"])
    try:
        client, experiment_id = connect(root)
        found = client.search_runs([experiment_id], query, max_results=1, order_by=["attributes.start_time DESC"])
        return found[0].info.run_id if found else None
    except Exception as error:
        _say_local_only(error)
        return None


def left_running(root: Path, *, close: bool = False) -> dict[str, str]:
    """Names by id of RUNNING runs whose process on this machine has ended; `close` ends them as KILLED."""
    client, experiment_id = connect(root)
    running = client.search_runs([experiment_id], "attributes.status = 'RUNNING'", max_results=1000)
    found = {run.info.run_id: run.info.run_name for run in running if is_dead(run.data.tags)}
    for run_id in found if close else ():
        client.set_terminated(run_id, "KILLED")
    return found


def connect(root: Path) -> tuple[Any, str]:
    """A client and the experiment's id; creates the sqlite store and the experiment at the first call."""
    apply_environment(root)
    from mlflow import MlflowClient, MlflowException

    for name in QUIET:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    client = MlflowClient(tracking_uri(root))
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        location = artifact_folder(root).as_uri() if client.tracking_uri.startswith("sqlite:") else None
        try:
            return client, client.create_experiment(EXPERIMENT, artifact_location=location, tags=KIND)
        except MlflowException:  # another process was first
            experiment = client.get_experiment_by_name(EXPERIMENT)
    for key, value in KIND.items() - experiment.tags.items():
        client.set_experiment_tag(experiment.experiment_id, key, value)
    return client, experiment.experiment_id


def git_tags(root: Path) -> dict[str, str]:
    """Tags with the commit of a checkout, and whether its files differ from it."""

    def git(*arguments: str) -> str:
        command = ("git", "-C", root, *arguments)
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        # Files that runs write do not count: DVC removes outputs before it runs a stage.
        dirty = bool(git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!outputs", ":!dvc.lock"))
        return {"mlflow.source.git.commit": git("rev-parse", "HEAD"), "git_dirty": str(dirty).lower()}
    except (OSError, subprocess.CalledProcessError):
        return {"git_dirty": "unknown"}


def process_tags() -> dict[str, str]:
    """Tags with the machine, the process id and the start of the process."""
    process = psutil.Process()
    return {"host": socket.gethostname(), "pid": str(process.pid), "process_start": f"{process.create_time():.0f}"}


def is_dead(tags: Mapping[str, str]) -> bool:
    """Whether the process of a run on this machine has ended. Compares its start, because process ids are reused."""
    if tags.get("host") != socket.gethostname():
        return False
    try:
        return abs(psutil.Process(int(tags["pid"])).create_time() - float(tags["process_start"])) >= 2
    except (psutil.NoSuchProcess, KeyError, ValueError):
        return True


def _key(name: str) -> str:
    return re.sub(r"[^\w\-./ ]", "_", name)  # MLflow accepts only these characters


def _say_local_only(error: Exception) -> None:
    reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
    print(f"MLflow does not answer; from now on only local files are written ({reason})", flush=True)
