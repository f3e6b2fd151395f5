"""Runs one stage with DVC: `dvc repro --single-item STAGE` in a process whose output is followed line by line."""

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from filelock import FileLock, Timeout

from editgan.runtime.dvc import dvc, status
from editgan.runtime.graph import load_graph
from editgan.runtime.process import ERROR_FILE, has_gpu
from editgan.runtime.progress import clock
from flows import processes

LAST_LINES = 12  # of a failed stage, in the error message


class StageFailed(RuntimeError):
    """The stage failed; the message contains its last lines."""


class Refused(StageFailed):
    """The stage ended with an error that the user must fix; the message is the stage's."""


class TimedOut(StageFailed):
    """The stage reached its time limit and was stopped."""


class Halted(StageFailed):
    """The flow ended while the stage was running in another thread."""


HALT = threading.Event()  # set at the end of a flow


@dataclass(frozen=True)
class StageResult:
    """The result of a stage."""

    stage: str
    outcome: str  # ran, restored (from DVC's cache of earlier runs), skipped (nothing changed)
    seconds: float


@dataclass(frozen=True)
class Progress:
    """The progress that a stage reports."""

    percent: float
    text: str


def reproduce(
    stage: str,
    root: Path,
    *,
    force: bool = False,
    limit_seconds: float | None = None,
    environment: Mapping[str, str] | None = None,
    say: Callable[[str], None] = print,
    show: Callable[[Progress], None] = lambda progress: None,
) -> StageResult:
    """Bring one stage up to date.

    Args:
        stage: a stage of dvc.yaml.
        root: the checkout.
        force: run it even if nothing changed.
        limit_seconds: time limit, after which all processes of the stage are stopped.
        environment: further variables for the stage.
        say: gets every line of output.
        show: gets the stage's progress.

    Raises:
        StageFailed: or its subclass for the reason: Refused, TimedOut, Halted.
        DvcFailed: DVC cannot tell what has changed, e.g. because dvc.lock is damaged.
    """
    start, limit = time.monotonic(), float("inf") if limit_seconds is None else limit_seconds
    if not force and not status(root, stage):
        return StageResult(stage=stage, outcome="skipped", seconds=time.monotonic() - start)
    record, error = root / "outputs" / stage / "run.json", root / "work" / stage / ERROR_FILE
    error.parent.mkdir(parents=True, exist_ok=True)
    error.unlink(missing_ok=True)
    before, last, progress = changed(record), deque(maxlen=LAST_LINES), ProgressFile(root / "work" / stage)
    command = dvc("repro", "--single-item", stage, *(["--force"] if force else []))
    with processes.followed(command, root=root, environment=environment) as (process, lines):
        for line in lines:
            if line:
                last.append(line)
                say(line)
            if (report := progress.read()) is not None:
                show(report)
            if HALT.is_set():
                raise Halted(f"{stage}: stopped, because its flow ended")
            if time.monotonic() - start > limit:
                raise TimedOut(f"{stage}: not finished after its limit of {limit / 60:g} minutes; stopped")
    if error.exists():
        raise Refused(error.read_text().strip() or "\n".join(last))
    if process.returncode:
        said = "\n".join(last)
        raise StageFailed(f"{stage}: `dvc repro --single-item {stage}` ended with status {process.returncode}:\n{said}")
    outcome = "restored" if changed(record) == before else "ran"  # a stage that runs writes its record
    return StageResult(stage=stage, outcome=outcome, seconds=time.monotonic() - start)


def fetch_missing(root: Path, say: Callable[[str], None] = print) -> list[str]:
    """Fetch missing outputs from the store in the repository; returns the stages that are then complete.

    Outputs that cannot be fetched are made by their stage.
    """
    if not (root / "dvc.lock").exists():
        return []
    recorded = yaml.safe_load((root / "dvc.lock").read_text()).get("stages") or {}
    missing = {
        stage.name: stage.outs
        for stage in load_graph(root / "dvc.yaml").values()
        if stage.name in recorded and not all((root / out).exists() for out in stage.outs)
    }
    if not missing:
        return []
    say(f"fetching missing outputs from the store, as far as it has them: {', '.join(missing)}")
    if failure := _pull(root, *missing):
        for stage in missing:  # one by one, so that the failure of one does not affect the others
            failure = _pull(root, stage) or failure
    fetched = [stage for stage, outs in missing.items() if all((root / out).exists() for out in outs)]
    if left := [stage for stage in missing if stage not in fetched]:
        say("\n".join([f"not all outputs could be fetched; these stages make them: {', '.join(left)}", *failure]))
    return fetched


def _pull(root: Path, *names: str) -> list[str]:
    """Fetch the outputs of stages; returns what DVC said if it failed. What the store does not have is no failure."""
    with processes.followed(dvc("pull", "--quiet", "--allow-missing", *names), root=root) as (process, lines):
        said = list(filter(None, lines))
    return (said or [f"dvc pull ended with status {process.returncode}"]) if process.returncode else []


def take_over(root: Path) -> None:
    """Check out the outputs in dvc.lock, as far as the cache has them; the others are made again."""
    with processes.followed(dvc("checkout", "--force", "--quiet"), root=root) as (_, lines):
        list(lines)


class ProgressFile:
    """Reads work/STAGE/progress.json if it has changed."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "progress.json"
        self._seen = changed(self._path)  # ignores the file of an earlier run

    def read(self) -> Progress | None:
        seen, self._seen = self._seen, changed(self._path)
        if self._seen is None or self._seen == seen:
            return None
        try:
            report = json.loads(self._path.read_text())
            percent = 100 * report["done"] / report["total"] if report["total"] else 0.0
            left = report.get("eta_seconds")
            left = "" if left is None else f", {clock(left)} left"
            text = f"{report['done']:g}/{report['total']:g} {report['unit']}{left}  {report['message']}".rstrip()
            return Progress(percent=min(max(percent, 0.0), 100.0), text=text)
        except (OSError, ValueError, KeyError):
            return None


def changed(path: Path) -> int | None:
    """Time of the last change of a file, in nanoseconds; None if there is no such file."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


@contextmanager
def gpu_slot(home: Path, say: Callable[[str], None] = print) -> Iterator[None]:
    """With a GPU: wait until no other pipeline of the project uses it, then hold its lock.

    This is a file lock, not a concurrency limit of Prefect, because the kernel frees it when its holder is killed.
    """
    if not has_gpu():
        yield
        return
    path = home / ".cache" / "gpu.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        say("waiting for the GPU, because another pipeline uses it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
