"""Runs one stage with DVC: `dvc repro --single-item STAGE` in a process whose output is followed line by line."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from filelock import FileLock, Timeout

from editgan.runtime.graph import load_graph
from editgan.runtime.process import has_gpu
from editgan.runtime.progress import clock
from flows import processes

BUSY_WAIT_SECONDS = 5.0
BUSY_LIMIT_SECONDS = 300.0
REFUSED = re.compile(r"exited with 1\b")  # exit status of a stage after an error that the user must fix
BUSY = re.compile(r"Unable to acquire lock|is busy, it is being blocked")
OUTCOMES = {  # by the output of DVC
    "skipped": re.compile(r"Stage '.*' didn't change, skipping"),
    "restored": re.compile(r"Stage '.*' is cached - skipping run"),
    "ran": re.compile(r"Running stage '.*':"),
}
HINTS = re.compile(r"^(To track the changes with git|\s*git add |To enable auto staging|\s*dvc config |Use `dvc push`)")


class StageFailed(RuntimeError):
    """The stage failed; the message contains its last lines."""


class Refused(StageFailed):
    """The stage ended with an error that the user must fix."""


class TimedOut(StageFailed):
    """The stage reached its time limit and was stopped."""


class Busy(StageFailed):
    """Another DVC command locked the repository for too long."""


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
    """Bring one stage up to date. While another DVC command locks the repository, wait.

    Args:
        stage: a stage of dvc.yaml.
        root: the checkout.
        force: run it even if nothing changed.
        limit_seconds: time limit, after which all processes of the stage are stopped.
        environment: further variables for the stage.
        say: gets every line of output.
        show: gets the stage's progress.

    Raises StageFailed, or its subclass for the reason: Refused, TimedOut, Halted, Busy (after `BUSY_LIMIT_SECONDS`).
    """
    command = ["python", "-m", "dvc", "repro", "--single-item", stage, *(["--force"] if force else [])]
    start, limit = time.monotonic(), float("inf") if limit_seconds is None else limit_seconds
    while True:
        said, progress = [], ProgressFile(root / "work" / stage / "progress.json")
        with processes.followed(command, root=root, environment=environment) as (process, lines):
            for line in lines:
                if line and not HINTS.match(line):
                    said.append(line)
                    say(line)
                if (report := progress.read()) is not None:
                    show(report)
                if HALT.is_set():
                    raise Halted(f"{stage}: stopped, because its flow ended")
                if time.monotonic() - start > limit:
                    raise TimedOut(f"{stage}: not finished after its limit of {limit / 60:g} minutes; stopped")
        text, last = "\n".join(said), "\n".join(said[-12:])
        if process.returncode == 0:
            return StageResult(stage=stage, outcome=outcome(text), seconds=time.monotonic() - start)
        if not BUSY.search(text):
            kind = Refused if REFUSED.search(last) and "Traceback" not in text else StageFailed
            raise kind(f"{stage}: `dvc repro --single-item {stage}` ended with status {process.returncode}:\n{last}")
        if time.monotonic() - start > BUSY_LIMIT_SECONDS:
            raise Busy(
                f"{stage}: another DVC command has been running in {root} for minutes; wait for it or stop it:\n{text}"
            )
        say(f"{stage}: another DVC command is running here; next attempt in {BUSY_WAIT_SECONDS:g} s")
        time.sleep(BUSY_WAIT_SECONDS)


def fetch_missing(root: Path, say: Callable[[str], None] = print) -> list[str]:
    """Fetch missing outputs from the store in the repository; returns the stages of which it has any.

    Outputs that cannot be fetched are made by their stage.
    """
    store = root / "data" / "store" / "files"
    if not (root / "dvc.lock").exists() or not store.exists():
        return []
    lock = yaml.safe_load((root / "dvc.lock").read_text()).get("stages") or {}
    stored = {path.parent.name + path.name for path in (store / "md5").glob("*/*")}
    missing = [
        stage.name
        for stage in load_graph(root / "dvc.yaml").values()
        if any(not (root / out).exists() for out in stage.outs)
        and any(out.get("md5") in stored for out in lock.get(stage.name, {}).get("outs", ()))
    ]
    for stage in missing:  # one by one, so that the failure of one does not affect the others
        say(f"{stage}: fetching outputs from the store")
        command = ["python", "-m", "dvc", "pull", "--quiet", "--allow-missing", stage]
        with processes.followed(command, root=root) as (process, lines):
            said = list(filter(None, lines))
        if process.returncode:
            say("\n".join([f"{stage}: not all outputs could be fetched; the stage makes them:", *said[-5:]]))
    return missing


def take_over(root: Path) -> None:
    """Check out the outputs in dvc.lock, as far as the cache has them; the others are made again."""
    command = ["python", "-m", "dvc", "checkout", "--force", "--quiet"]
    with processes.followed(command, root=root) as (_, lines):
        list(lines)


def outcome(text: str) -> str:
    """The outcome of a stage by DVC's output; the last match counts."""
    found = [(match.start(), name) for name, pattern in OUTCOMES.items() for match in pattern.finditer(text)]
    return max(found)[1] if found else "ran"


class ProgressFile:
    """Reads work/STAGE/progress.json if it has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = self._stamp()  # ignores the file of an earlier run

    def read(self) -> Progress | None:
        seen, self._seen = self._seen, self._stamp()
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

    def _stamp(self) -> int | None:
        try:
            return self._path.stat().st_mtime_ns
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
