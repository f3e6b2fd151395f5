"""Kill a stage, the flow and the server of a pipeline at random moments; report lost work, remains and differences.

    python benchmarks/chaos.py [--kills 3] [--seed 0] [--stages assets data generator] [--fake]

Runs stages of params/ci.yaml from scratch twice: undisturbed in runs/chaos-unbroken, and in runs/chaos, where a stage,
the flow and the Prefect server are killed in turn with `kill -9`, each while a stage is running. Both folders are
replaced. If a kill ends the pipeline, it is restarted with the same command. The script fails if a stage loses more
than the work between two of its states, or if an output differs. Stages without states at this size may lose all their
work. --fake uses the small project of the tests, whose stages only count.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import cycle, islice
from pathlib import Path

import psutil
import yaml
from measuring import command_line, header, row

from editgan.cli import doctor
from editgan.config import load_params
from editgan.runtime.environment import PROJECT_ROOT
from editgan.runtime.graph import load_graph

sys.path.insert(0, str(PROJECT_ROOT / "tests"))
from fake_project import SEPARATE, STAGES, environment, make_project  # noqa: E402

VICTIMS = ("stage", "flow", "server")
POLL_SECONDS = 0.2
ENDING_SECONDS = 60  # time limit for the child processes of a killed process


class Pipeline:
    """A pipeline in its own checkout, started from scratch."""

    def __init__(self, project: Path, params: str, chosen: Sequence[str], name: str) -> None:
        self.project, self.folder, self.log = project, project / "runs" / name, project / "runs" / f"{name}.log"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.command = [sys.executable, "-m", "flows.pipeline", "--params", params, "--scratch", "--name", name]
        self.command += ["--stages", *chosen]
        graph = load_graph(project / "dvc.yaml").values()
        self.stages = [stage.cmd.removeprefix("exec ").split()[1:] for stage in graph]
        self.log.parent.mkdir(exist_ok=True)
        self.log.write_text("")
        self.start()

    def start(self) -> None:
        inside = environment(self.project) | {"PREFECT_CLIENT_MAX_RETRIES": "2"}  # 5 take minutes without a server
        with self.log.open("a") as log:
            self.process = subprocess.Popen(self.command, cwd=self.project, env=inside, stdout=log, stderr=log)

    def ends(self, seconds: float | None = None) -> bool:
        """Whether it ends within `seconds`; None: wait until it ends."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        return self.process.returncode is not None

    def finish(self) -> None:
        self.ends()
        if self.process.returncode:
            sys.exit(f"the pipeline failed:\n{self.log.read_text()[-4000:]}")

    def parts(self) -> dict[str, psutil.Process]:
        """The running processes of the pipeline: flow, server, stage."""
        found = {}
        with suppress(psutil.NoSuchProcess):
            found["flow"] = psutil.Process(self.process.pid)
            for process in found["flow"].children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    command = process.cmdline()
                    if {"prefect", "server"} <= {*command}:
                        found["server"] = process
                    elif command[1:] in self.stages:
                        found.setdefault("stage", process)  # its pool workers come later
        return found

    def report(self) -> tuple[int, str, dict] | None:
        """Process id, name and progress of the running stage; None before its first progress report."""
        with suppress(KeyError, psutil.NoSuchProcess, OSError, ValueError):
            process = self.parts()["stage"]
            name = process.cmdline()[-1]
            path = self.folder / "work" / name / "progress.json"
            if path.stat().st_mtime > process.create_time():
                return process.pid, name, json.loads(path.read_text())
        return None

    def next_report(self, killed: int | None = None) -> tuple[int, str, dict] | None:
        """The first report of a process other than `killed`; None if the pipeline ends before."""
        while not self.ends(POLL_SECONDS):
            found = self.report()
            if found is not None and found[0] != killed:
                return found
        return None

    def faults(self) -> list[str]:
        """Findings of the doctor in the checkout, except missing outputs; [] before the checkout exists."""
        if not self.folder.exists():
            return []
        found = (finding.what for finding in doctor.examine(self.folder))
        return [what for what in found if "outputs are missing" not in what]

    def outputs(self) -> dict[str, str]:
        """The hash of every output."""
        stages = yaml.safe_load((self.folder / "dvc.lock").read_text())["stages"].values()
        return {out["path"]: out["md5"] for stage in stages for out in stage["outs"]}


def strike(pipeline: Pipeline, victim: str) -> tuple[str, dict, dict | None, list[str]] | None:
    """Kill one process while a stage is running, and restart the pipeline if this ends it.

    Returns:
        the stage, its progress before and after (None: it was not run again), remains of the kill; None if the pipeline
        had already ended
    """
    found = pipeline.next_report()
    if found is None:
        return None
    killed, stage, before = found
    left, others = [], []
    with suppress(psutil.NoSuchProcess):  # it has just ended
        parts = pipeline.parts()
        others = parts["flow"].children(recursive=True)
        parts[victim].kill()
    if victim != "stage":  # else the flow tries the stage again
        pipeline.ends()
        _, alive = psutil.wait_procs(others, ENDING_SECONDS)
        left = [f"process {process.pid}" for process in alive] + pipeline.faults()
        pipeline.start()
    after = pipeline.next_report(killed)
    return stage, before, after[2] if after is not None and after[1] == stage else None, left


def lost_by(before: dict, after: dict | None) -> float:
    """Repeated work, in the unit of the progress before the kill."""
    if after is None:  # the stage had just finished
        return 0.0
    same_phase = (before["total"], before["unit"]) == (after["total"], after["unit"])
    return max(before["done"] - after["done"], 0.0) if same_phase else before["done"]


def run(
    project: Path,
    params: str,
    chosen: Sequence[str],
    intervals: dict[str, float],
    kills: int,
    chance: random.Random,
) -> None:
    """Run both pipelines; print the tables.

    Args:
        chosen: stages to run
        intervals: by stage, work between two states, in the unit of its progress
    """
    unbroken = Pipeline(project, params, chosen, "chaos-unbroken")
    unbroken.next_report()
    begun = time.monotonic()
    unbroken.finish()
    seconds = time.monotonic() - begun
    broken, failures = Pipeline(project, params, chosen, "chaos"), []
    header("killed", "running stage", "progress", "lost", "remains")
    for victim in islice(cycle(VICTIMS), kills):
        broken.next_report()
        broken.ends(chance.uniform(0, seconds / (2 * kills)))  # all kills come in the first half
        struck = strike(broken, victim)
        if struck is None:
            break
        stage, before, after, left = struck
        lost = lost_by(before, after)
        row(victim, stage, f"{before['done']:g} of {before['total']:g} {before['unit']}", f"{lost:g}", "; ".join(left))
        if lost > intervals.get(stage, before["total"]):
            failures.append(f"{stage} lost {lost:g} {before['unit']}")
    broken.finish()
    expected, made = unbroken.outputs(), broken.outputs()
    different = sorted(path for path in expected.keys() | made.keys() if expected.get(path) != made.get(path))
    print(f"\nLeft at the end: {'; '.join(broken.faults()) or 'nothing'}.")
    print(f"Outputs: {len(expected) - len(different)} of {len(expected)} equal.")
    if failures or different:
        sys.exit("; ".join(failures + [f"{path} differs" for path in different]))


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--kills", type=int, default=3, help="maximum number of killed processes")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random moments")
    parser.add_argument("--stages", nargs="+", default=["assets", "data", "generator"], help="stages to run")
    parser.add_argument("--fake", action="store_true", help="use the small project of the tests")
    options = parser.parse_args()
    for name in SEPARATE:
        os.environ.pop(name, None)
    chance = random.Random(options.seed)
    if not options.fake:
        params = "params/ci.yaml"
        intervals = {"generator": load_params(PROJECT_ROOT / params).generator.state_kimg}
        run(PROJECT_ROOT, params, options.stages, intervals, options.kills, chance)
        return
    with tempfile.TemporaryDirectory() as folder:
        project = make_project(Path(folder) / "project")
        for stage in STAGES:
            (project / f"{stage}.txt").write_text("60\n")  # six seconds
        run(project, "params/other.yaml", STAGES, dict.fromkeys(STAGES, 1), options.kills, chance)


if __name__ == "__main__":
    main()
