"""A small project for tests of the flows: the real flows and foundation, with three stages that only count."""

import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import psutil
import yaml

from editgan.config import read_params
from editgan.runtime.environment import PROJECT_ROOT

STAGES = ("first", "second", "third")
SEPARATE = ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "EDITGAN_TRACKING_URI", "PREFECT_HOME", "XDG_CACHE_HOME")
PARAMS = yaml.safe_dump(read_params(PROJECT_ROOT / "params" / "ci.yaml"), sort_keys=False)
# Counts to the number in NAME.txt, a step every tenth of a second, and goes on where it was stopped.
STAGE = """
import hashlib, json, os, sys, time
from pathlib import Path
import yaml
from editgan.runtime.process import die_with_parent, exclusive
from editgan.runtime.progress import Progress

name = sys.argv[1]
work, out = Path("work") / name, Path("outputs") / name
die_with_parent()
steps = Path(f"{name}.txt").read_text().strip()
with exclusive(work):
    if steps == "fail":
        Path(work, "error.txt").write_text(f"{name}: told to fail")
        sys.exit(1)
    state, log = work / "state", work / "log"
    progress = Progress(name, work / "progress.json")
    done = int(state.read_text()) if state.exists() else 0
    with log.open("a") as file:
        file.write(f"from {done}\\n")
    while done < int(steps):
        time.sleep(0.1)
        done += 1
        state.with_suffix(".new").write_text(str(done))
        os.replace(state.with_suffix(".new"), state)  # whole at any moment, like the state of a real stage
        progress.update(done, int(steps), "steps")
    out.mkdir(parents=True, exist_ok=True)
    (out / "out.txt").write_text(f"{name} {steps}")
    metrics = json.dumps({"steps": int(steps), "seed": yaml.safe_load(Path("params.yaml").read_text())["seed"]})
    (out / "metrics.json").write_text(metrics)
    seen = hashlib.md5(metrics.encode()).hexdigest()
    (out / "run.json").write_text(json.dumps({"run_id": f"run-of-{name}", "seconds": 6.0, "metrics": seen}))
    state.unlink(missing_ok=True)
"""


def make_project(root: Path) -> Path:
    """A git and DVC repository in `root` with the stages first -> second -> third, each of three steps."""
    root.mkdir(parents=True)
    ignore = shutil.ignore_patterns("__pycache__")
    for package in ("flows", "editgan"):
        shutil.copytree(PROJECT_ROOT / package, root / package, ignore=ignore)
    for name in ("prefect.yaml", ".gitignore", ".dvcignore"):
        shutil.copy(PROJECT_ROOT / name, root)
    (root / ".dvc").mkdir()
    for name in ("config", ".gitignore"):
        shutil.copy(PROJECT_ROOT / ".dvc" / name, root / ".dvc")
    (root / "params.yaml").write_text(PARAMS)
    (root / "params").mkdir()
    (root / "params" / "other.yaml").write_text("seed: 1\n")
    (root / "baseline").mkdir()
    shutil.copy(PROJECT_ROOT / "baseline" / "tolerances.yaml", root / "baseline")
    (root / "stage.py").write_text(STAGE)
    entries = [_entry(before, stage) for before, stage in zip((None, *STAGES[:-1]), STAGES, strict=True)]
    (root / "dvc.yaml").write_text("stages:\n" + "".join(entries))
    for stage in STAGES:
        (root / f"{stage}.txt").write_text("3\n")
    copy_databases(root)
    for command in ("init --quiet", "add --all", "-c user.name=test -c user.email=test commit --quiet -m start"):
        subprocess.run(["git", *command.split()], cwd=root, check=True)
    return root


def copy_databases(root: Path) -> None:
    """Give a project the empty databases of Prefect and MLflow, which take each tool 10 s and more to make."""
    made = PROJECT_ROOT / ".cache" / "empty-databases"
    made.mkdir(parents=True, exist_ok=True)
    versions = f"prefect {version('prefect')}, mlflow {version('mlflow')}"
    with (made / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (made / "versions").exists() or (made / "versions").read_text() != versions:
            for file in made.glob("*.db*"):
                file.unlink()
            inside = environment(made / "project") | {"PREFECT_HOME": str(made)}
            for command in ("prefect server database upgrade --yes", f"mlflow db upgrade sqlite:///{made}/mlflow.db"):
                subprocess.run([sys.executable, "-m", *command.split()], env=inside, check=True, capture_output=True)
            (made / "versions").write_text(versions)
    (root / ".cache" / "prefect").mkdir(parents=True)
    for source, folder in (("prefect.db", root / ".cache" / "prefect"), ("mlflow.db", root)):
        for file in made.glob(f"{source}*"):
            shutil.copy(file, folder)


def _entry(before: str | None, stage: str) -> str:
    upstream = f"    - outputs/{before}/out.txt\n" if before else ""
    return (
        f"  {stage}:\n    cmd: exec python stage.py {stage}\n    deps:\n    - {stage}.txt\n{upstream}"
        f"    params:\n    - seed\n    outs:\n    - outputs/{stage}/out.txt\n"
        f"    metrics:\n    - outputs/{stage}/metrics.json:\n        cache: false\n"
    )


def environment(root: Path) -> dict[str, str]:
    """This process's environment without what would lead the project's tools out of it; HOME is an empty folder."""
    home = root.parent / "home"
    home.mkdir(parents=True, exist_ok=True)
    inherited = {name: value for name, value in os.environ.items() if name not in SEPARATE}
    inside = {"HOME": str(home), "XDG_CACHE_HOME": str(root / ".cache"), "PREFECT_HOME": str(root / ".cache/prefect")}
    inside["RUSTUP_HOME"] = str(root / ".cache/rustup")  # pip asks rustc for its version, and rustup writes settings
    return inherited | inside | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def start_pipeline(root: Path, *arguments: str) -> subprocess.Popen:
    """`python -m flows.pipeline` in the project, its output in pipeline.log."""
    with (root / "pipeline.log").open("a") as log:
        command = [sys.executable, "-m", "flows.pipeline", *arguments]
        return subprocess.Popen(command, cwd=root, env=environment(root), stdout=log, stderr=subprocess.STDOUT)


def run_pipeline(root: Path, *arguments: str, timeout: float = 300) -> subprocess.CompletedProcess:
    """The same, waited for; output in `stdout`."""
    return subprocess.run(
        [sys.executable, "-m", "flows.pipeline", *arguments],
        cwd=root, env=environment(root), capture_output=True, text=True, timeout=timeout,
    )  # fmt: skip


def processes_in(root: Path) -> list[psutil.Process]:
    """Every process that works in the project's folder or below it."""
    found = []
    for process in psutil.process_iter():
        try:
            inside = Path(process.cwd()).is_relative_to(root) and process.status() != psutil.STATUS_ZOMBIE
        except (psutil.Error, OSError):
            continue
        if inside:
            found.append(process)
    return found


def named(root: Path, *words: str) -> list[psutil.Process]:
    """The processes in a project with all these words in their command line."""
    return [process for process in processes_in(root) if set(words) <= set(process.cmdline())]


def wait_for(condition: Callable[[], object], seconds: float, what: str):
    """The first true value of `condition()`; fails after `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds:g} s: {what}")
