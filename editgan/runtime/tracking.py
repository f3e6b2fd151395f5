"""The record of every run in MLflow, and with `registry`, which registers models, the only importer of mlflow.

MLflow is a mirror: stages write their files first, and nothing here can fail a stage. Where the store cannot be reached
the run goes on with local files alone and says so once. Records wait for a store that fails midway.
"""

import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
from PIL import Image

from editgan.runtime.environment import PROJECT_ROOT, apply_environment, artifact_folder, tracking_uri
from editgan.runtime.progress import Progress

EXPERIMENT = "editgan"
PARENT_VARIABLE = "MLFLOW_PARENT_RUN_ID"
RECORD_FILE = "tracking.json"  # in the work folder: what a resumed stage needs to continue its run
FLUSH_SECONDS = 5.0
SYSTEM_SECONDS = 10.0  # between two samples of load and memory
PAUSE_SECONDS, MAX_PAUSE_SECONDS = 60.0, 960.0  # for which a store that failed is not asked again; doubled each time
LAST_SECONDS = {"FINISHED": 60.0, "FAILED": 60.0, "KILLED": 8.0}  # for which a run that ends waits for the store
ATTEMPTS = 4  # after which a record is given up
MAX_VALUE = 500  # characters of a parameter's value that any MLflow server takes


class Run:
    """One MLflow run; with `client=None` it records nothing there and all methods still work."""

    def __init__(
        self,
        *,
        name: str,
        client: Any = None,
        run_id: str | None = None,
        experiment_id: str | None = None,
        progress: Progress | None = None,
        work: Path | None = None,
        seconds_before: float = 0.0,
    ) -> None:
        self.name = name
        self.run_id = run_id
        self.experiment_id = experiment_id
        self._client = client
        self._progress = progress or Progress(name)
        self._work = work
        self._seconds_before = seconds_before  # spent by earlier attempts that this one resumes
        self._started = time.monotonic()
        self._metrics: list[tuple[str, float, int, int]] = []
        self._flushed = self._sampled = self._started
        self._waiting: list[Callable[[Any], object]] = []  # what MLflow has not taken yet
        self._attempts, self._lost = 0, 0  # at the first of them; records given up
        self._pause = self._paused_until = 0.0

    @property
    def seconds(self) -> float:
        """Wall time of the stage, with the attempts it resumes."""
        return self._seconds_before + time.monotonic() - self._started

    def log_metrics(self, metrics: Mapping[str, float], step: float = 0) -> None:
        """Add a point to the curves.

        Args:
            step: an int (a step number) is taken as it is. A float counts kimg and is recorded in images, since MLflow
                takes whole steps only.
        """
        kimg = isinstance(step, float)
        whole = round(step * 1000) if kimg else int(step)
        if kimg:
            metrics = {**metrics, "kimg": step}
        now = int(time.time() * 1000)
        self._metrics += [(_key(name), float(value), now, whole) for name, value in metrics.items()]
        self._sample(now)
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Record parameters; values that were recorded before (a resumed run) stay as they are."""

        def mirror(client):
            from mlflow.entities import Param

            known = client.get_run(self.run_id).data.params
            new = [Param(_key(k), str(v)[:MAX_VALUE]) for k, v in params.items() if _key(k) not in known]
            client.log_batch(self.run_id, params=new)

        self._mirror(mirror)

    def log_image(self, image: str | Path | Image.Image, name: str) -> None:
        """Record a picture under images/, e.g. `log_image(context.out / "fakes000010.png", "fakes000010")`."""
        if isinstance(image, Image.Image):
            self._mirror(lambda client: client.log_image(self.run_id, image, artifact_file=f"images/{_png(name)}"))
        else:
            self._mirror(lambda client: client.log_artifact(self.run_id, str(image), "images"))

    def log_file(self, path: str | Path) -> None:
        """Record a file (or folder) of the stage."""
        self._mirror(lambda client: client.log_artifact(self.run_id, str(path)))

    def log_text(self, text: str, name: str) -> None:
        """Record a text under a file name, e.g. a markdown table as "table.md"."""
        self._mirror(lambda client: client.log_text(self.run_id, text, name))

    def set_tag(self, key: str, value: object) -> None:
        """Label the run."""
        self._mirror(lambda client: client.set_tag(self.run_id, _key(key), str(value)))

    def progress(self, done: float, total: float, unit: str, message: str = "") -> None:
        """Say how far the stage is: a line now and then, and work/STAGE/progress.json for whoever watches."""
        if self._progress.update(done, total, unit, message):
            self._save_record()
        self._sample(int(time.time() * 1000))

    def _sample(self, now: int) -> None:
        """Load and memory of the machine now and then, named as MLflow's page of system metrics expects; steps are
        seconds of the stage."""
        if self._client is None or time.monotonic() - self._sampled < SYSTEM_SECONDS:
            return
        self._sampled, memory = time.monotonic(), psutil.virtual_memory()
        found = {
            "cpu_utilization_percentage": psutil.cpu_percent(),
            "system_memory_usage_megabytes": (memory.total - memory.available) / 1e6,
            "process_memory_megabytes": psutil.Process().memory_info().rss / 1e6,
        }
        self._metrics += [(f"system/{name}", value, now, round(self.seconds)) for name, value in found.items()]

    def flush(self) -> None:
        """Send the collected metrics."""
        points, self._metrics, self._flushed = self._metrics, [], time.monotonic()
        if not points:
            return

        def mirror(client):
            from mlflow.entities import Metric

            for first in range(0, len(points), 1000):  # MLflow's limit for one request
                client.log_batch(self.run_id, metrics=[Metric(*point) for point in points[first : first + 1000]])

        self._mirror(mirror)

    def close(self, status: str = "FINISHED") -> None:
        """Send what is left and end the run as FINISHED, FAILED or KILLED."""
        self.flush()
        self._save_record()
        client, self._client = self._client, None
        if client is None:
            return
        left, end = self._waiting, time.monotonic() + LAST_SECONDS[status]
        left.append(lambda client: client.set_terminated(self.run_id, status))
        while (left := _not_taken(left, client)) and time.monotonic() < end:
            time.sleep(1)
        if lost := self._lost + len(left):
            print(f"MLflow did not take {lost} records of this run; the files of the stage are whole", flush=True)

    def _save_record(self) -> None:
        if self._work is not None and self._work.exists():
            from editgan.weights import write_json  # brings torch, which the flow does without

            write_json(self._work / RECORD_FILE, {"run_id": self.run_id, "seconds": round(self.seconds, 1)})

    def _mirror(self, action: Callable[[Any], object]) -> None:
        """Do something in MLflow now, or later if the store does not answer: actions wait and keep their order."""
        if self._client is None:
            return
        self._waiting.append(action)
        while self._waiting and time.monotonic() >= self._paused_until:
            try:
                self._waiting[0](self._client)
            except Exception as error:
                self._put_off(error)
            else:
                self._waiting.pop(0)
                self._attempts, self._pause = 0, 0.0

    def _put_off(self, error: Exception) -> None:
        """Try again in a second (sqlite may be busy with another stage), then after ever longer pauses."""
        self._attempts += 1
        if self._attempts == 1 and self._pause == 0:
            time.sleep(1)
            return
        if self._attempts == ATTEMPTS:  # it may be this record and not the store
            self._waiting.pop(0)
            self._attempts, self._lost = 0, self._lost + 1
        if self._pause == 0:
            print(f"MLflow does not answer and is asked again later ({_reason(error)})", flush=True)
        self._pause = min(max(2 * self._pause, PAUSE_SECONDS), MAX_PAUSE_SECONDS)
        self._paused_until = time.monotonic() + self._pause


def _not_taken(actions: list[Callable[[Any], object]], client: Any) -> list[Callable[[Any], object]]:
    """Do what the store lets be done, in order; after two failures only the last is still tried."""
    failed = []
    for action in actions:
        try:
            if len(failed) < 2 or action is actions[-1]:
                action(client)
                continue
        except Exception:
            pass
        failed.append(action)
    return failed


def offline_run(name: str = "offline") -> Run:
    """A run that records nothing, for tests and notebooks."""
    return Run(name=name)


def start_run(
    name: str,
    *,
    root: Path = PROJECT_ROOT,
    work: Path | None = None,
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
) -> Run:
    """Open a run, or continue the one whose id stands in the work folder.

    Its parent is the run named by the variable MLFLOW_PARENT_RUN_ID, if any. Runs that a killed process left open are
    closed as KILLED first. Git commit, whether files differ from it, and the process are recorded as tags.

    Args:
        root: the project or checkout; decides the store and the commit.
        work: the stage's work folder; without one the run cannot be resumed.
        params: flat parameters.
    """
    record = _read_record(work)
    progress = Progress(name, root / "work" / name / "progress.json" if work is not None else None)
    client = run_id = experiment_id = None
    try:
        client, experiment_id = connect(root)
        close_dead_runs(client, experiment_id)
        run_id = _resume(client, record.get("run_id"))
        labels = _process_tags() | git_tags(root) | dict(tags or {})
        if os.environ.get(PARENT_VARIABLE):
            labels["mlflow.parentRunId"] = os.environ[PARENT_VARIABLE]
        if run_id is None:
            run_id = client.create_run(experiment_id, tags=labels, run_name=name).info.run_id
        else:
            for key, value in labels.items():
                client.set_tag(run_id, key, value)
    except Exception as error:
        _say_local_only(error)
        client = None
    run = Run(
        name=name, client=client, run_id=run_id, experiment_id=experiment_id, progress=progress, work=work,
        seconds_before=record.get("seconds", 0.0),
    )  # fmt: skip
    if params:
        run.log_params(params)
    run._save_record()
    return run


def newest_finished_run(root: Path, tags: Mapping[str, str]) -> str | None:
    """Id of the newest run that ended well and has these tags; None where there is none or no store answers."""
    query = " and ".join([*(f"tags.`{key}` = '{value}'" for key, value in tags.items()), "status = 'FINISHED'"])
    try:
        client, experiment_id = connect(root)
        found = client.search_runs([experiment_id], query, max_results=1, order_by=["attributes.start_time DESC"])
        return found[0].info.run_id if found else None
    except Exception as error:
        _say_local_only(error)
        return None


def close_dead_runs(client: Any, experiment_id: str) -> list[str]:
    """End runs still RUNNING whose process on this machine is gone, as KILLED; returns their ids."""
    closed = list(_dead_runs(client, experiment_id))
    for run_id in closed:
        client.set_terminated(run_id, "KILLED")
    return closed


def left_running(root: Path, *, close: bool = False) -> dict[str, str]:
    """Name by id of runs still RUNNING whose process on this machine is gone; with `close` they end as KILLED.

    Raises whatever the store raises.
    """
    client, experiment_id = connect(root)
    found = _dead_runs(client, experiment_id)
    if close:
        close_dead_runs(client, experiment_id)
    return found


def _dead_runs(client: Any, experiment_id: str) -> dict[str, str]:
    found = {}
    for run in client.search_runs([experiment_id], "attributes.status = 'RUNNING'", max_results=1000):
        tags = run.data.tags
        if tags.get("host") == socket.gethostname() and not _alive(tags.get("pid"), tags.get("process_start")):
            found[run.info.run_id] = run.info.run_name
    return found


def connect(root: Path) -> tuple[Any, str]:
    """A client and the experiment's id; makes the sqlite store and the experiment at first use."""
    apply_environment(root)
    import logging

    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    for noisy in ("alembic", "mlflow.store.db.utils", "mlflow.tracking"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    uri = tracking_uri(root)
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        location = artifact_folder(root).as_uri() if uri.startswith("sqlite:") else None
        try:
            return client, client.create_experiment(EXPERIMENT, artifact_location=location)
        except MlflowException:  # another process was first
            experiment = client.get_experiment_by_name(EXPERIMENT)
    return client, experiment.experiment_id


def _resume(client: Any, run_id: str | None) -> str | None:
    """Set an earlier run to RUNNING again; None where the store no longer knows it."""
    if run_id is None:
        return None
    try:
        client.update_run(run_id, status="RUNNING")
        return run_id
    except Exception:
        return None


def _read_record(work: Path | None) -> dict[str, Any]:
    try:
        return json.loads((work / RECORD_FILE).read_text()) if work is not None else {}
    except (OSError, ValueError):
        return {}


def _process_tags() -> dict[str, str]:
    process = psutil.Process()
    return {"host": socket.gethostname(), "pid": str(process.pid), "process_start": f"{process.create_time():.0f}"}


def _alive(pid: str | None, started: str | None) -> bool:
    """Whether that very process still runs; a process id alone may belong to a newer one."""
    try:
        return abs(psutil.Process(int(pid)).create_time() - float(started)) < 2
    except (psutil.NoSuchProcess, TypeError, ValueError):
        return False


def git_tags(root: Path) -> dict[str, str]:
    """Commit of a checkout, and whether its files differ from it, as tags of a run."""

    def git(*arguments: str) -> str:
        command = ("git", "-C", root, *arguments)
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        # What runs write themselves (DVC removes outputs before it runs a stage) does not make the code another one.
        dirty = bool(git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!outputs", ":!dvc.lock"))
        return {"mlflow.source.git.commit": git("rev-parse", "HEAD"), "git_dirty": str(dirty).lower()}
    except (OSError, subprocess.CalledProcessError):
        return {"git_dirty": "unknown"}


def _key(name: str) -> str:
    """Only characters that MLflow takes in a name."""
    return re.sub(r"[^\w\-./ ]", "_", name)


def _png(name: str) -> str:
    return name if name.endswith(".png") else f"{name}.png"


def _say_local_only(error: Exception) -> None:
    print(f"MLflow cannot be reached, this run is recorded in local files only ({_reason(error)})", flush=True)


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
