"""Kill processes of the pipeline at random moments and restart it: what is lost, left behind or different afterwards?

    python benchmarks/chaos.py [--kills 5] [--seed 0] [--fake]

Runs params/ci.yaml from scratch twice: undisturbed in runs/chaos-unbroken, and in runs/chaos, where the flow, the
Prefect server, DVC or a stage is killed with `kill -9`. Both folders are created anew. If a kill ends the pipeline, it
is restarted with the same command. Work is the time in which stage processes existed; the extra work of the killed run
was done twice. --fake uses the small project of the tests, whose stages only count, and takes a few minutes.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil
import yaml

from editgan.cli import doctor
from editgan.runtime.environment import PROJECT_ROOT
from editgan.runtime.graph import load_graph

sys.path.insert(0, str(PROJECT_ROOT / "tests"))
from fake_project import SEPARATE, environment, make_project  # noqa: E402

LOOK_SECONDS = 0.2
ENDING_SECONDS = 60  # for everything that a killed process has started


class Pipeline:
    """A pipeline in a checkout of its own, begun from nothing and started again whenever it has ended too early."""

    def __init__(self, project: Path, params: str, name: str) -> None:
        self.project, self.folder, self.log = project, project / "runs" / name, project / "runs" / f"{name}.log"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.command = [sys.executable, "-m", "flows.pipeline", "--params", params, "--scratch", "--name", name]
        graph = load_graph(project / "dvc.yaml").values()
        self.stages = [stage.cmd.removeprefix("exec ").split()[1:] for stage in graph]
        self.work = 0.0  # seconds in which a stage's process lived
        self.log.parent.mkdir(exist_ok=True)
        self.log.write_text("")

    def start(self) -> None:
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                self.command, cwd=self.project, env=environment(self.project), stdout=log, stderr=log
            )

    def parts(self) -> dict[str, psutil.Process]:
        """What of the pipeline lives: flow, server, dvc, stage."""
        found = {"flow": psutil.Process(self.process.pid)}
        for process in found["flow"].children(recursive=True):
            try:
                command = process.cmdline()
            except psutil.NoSuchProcess:
                continue
            if "uvicorn" in command:
                found["server"] = process
            elif command[1:] in self.stages:
                found.setdefault("stage", process)  # before its pool workers, which look the same
            elif "repro" in command:
                found["dvc"] = process
        return found

    def watch(self, seconds: float) -> bool:
        """Count its work for some time; False as soon as it has ended."""
        last = time.monotonic()
        end = last + seconds
        while self.process.poll() is None:
            now = time.monotonic()
            try:
                self.work += (now - last) * ("stage" in self.parts())
            except psutil.NoSuchProcess:
                break
            last = now
            if now > end:
                return True
            time.sleep(LOOK_SECONDS)
        return False

    def outputs(self) -> dict[str, str]:
        """The hash of every output."""
        stages = yaml.safe_load((self.folder / "dvc.lock").read_text())["stages"].values()
        return {out["path"]: out["md5"] for stage in stages for out in stage["outs"]}


def strike(pipeline: Pipeline, victim: str, parts: dict[str, psutil.Process]) -> list[str]:
    """Kill one process; where the pipeline ends by it, what is left: processes, and what the doctor finds."""
    with suppress(psutil.NoSuchProcess):  # it has just ended
        others = psutil.Process(pipeline.process.pid).children(recursive=True)
        parts[victim].kill()
    if victim == "stage" or (victim == "dvc" and pipeline.watch(ENDING_SECONDS / 2)):
        return []  # the flow tries the stage again
    pipeline.watch(3600)
    _, alive = psutil.wait_procs(others, ENDING_SECONDS)
    return [f"process {process.pid}" for process in alive] + faults(pipeline)


def faults(pipeline: Pipeline) -> list[str]:
    """What the doctor finds in the checkout, without what is still to be made; nothing before there is one."""
    if not pipeline.folder.exists():
        return []
    found = (finding.what for finding in doctor.examine(pipeline.folder))
    return [what for what in found if "outputs are missing" not in what]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=5, help="how many processes are killed at most")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and the victims")
    parser.add_argument("--fake", action="store_true", help="the small project of the tests")
    options = parser.parse_args()
    for name in SEPARATE:
        os.environ.pop(name, None)
    if not options.fake:
        run(PROJECT_ROOT, "params/ci.yaml", options.kills, random.Random(options.seed))
        return
    with tempfile.TemporaryDirectory() as folder:
        project = make_project(Path(folder) / "project")
        for name in ("first", "second", "third"):
            (project / f"{name}.txt").write_text("60\n")  # six seconds
        run(project, "params/other.yaml", options.kills, random.Random(options.seed))


def run(project: Path, params: str, kills: int, chance: random.Random) -> None:
    """Both runs, and what they leave, as tables."""
    unbroken, broken = Pipeline(project, params, "chaos-unbroken"), Pipeline(project, params, "chaos")
    begun = time.monotonic()
    unbroken.start()
    unbroken.watch(24 * 3600)
    seconds = time.monotonic() - begun
    if unbroken.process.wait():
        sys.exit(f"the undisturbed run failed:\n{unbroken.log.read_text()[-4000:]}")
    print("| after s | killed | the pipeline | left behind |\n|---:|---|---|---|", flush=True)
    begun = time.monotonic()
    broken.start()
    for _ in range(kills):
        if not broken.watch(chance.uniform(0, 2 * seconds / kills)):
            break
        parts = broken.parts()
        victim, moment = chance.choice(sorted(parts)), time.monotonic() - begun
        left = strike(broken, victim, parts)
        ended = broken.process.poll() is not None
        print(f"| {moment:.0f} | {victim} | {'ended' if ended else 'goes on'} | {'; '.join(left)} |", flush=True)
        if ended:
            broken.start()
    broken.watch(24 * 3600)
    if broken.process.wait():
        broken.start()  # the last one to be killed took the pipeline along
        broken.watch(24 * 3600)
    if broken.process.wait():
        sys.exit(f"the restarted run failed:\n{broken.log.read_text()[-4000:]}")
    print(f"\n| run | seconds | of work |\n|---|---:|---:|\n| unbroken | {seconds:.0f} | {unbroken.work:.0f} |")
    print(f"| broken | {time.monotonic() - begun:.0f} | {broken.work:.0f} |")
    print(
        f"\nWork lost: {broken.work - unbroken.work:.0f} s. Left at the end: {'; '.join(faults(broken)) or 'nothing'}."
    )
    expected, made = unbroken.outputs(), broken.outputs()
    different = sorted(path for path in expected.keys() | made.keys() if expected.get(path) != made.get(path))
    print(f"Outputs: {len(expected) - len(different)} of {len(expected)} equal. {', '.join(different)}")


if __name__ == "__main__":
    main()
