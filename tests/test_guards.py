"""Nothing is left behind and nothing is lost when a process of the pipeline is killed with -9."""

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from fake_project import environment, make_project, named, processes_in, run_pipeline, start_pipeline, wait_for

SECONDS = 600  # for what takes a few on a machine with nothing else to do


@pytest.fixture
def project(tmp_path) -> Path:
    """A project whose first stage takes a minute, so that there is time to kill it."""
    root = make_project(tmp_path / "project")
    (root / "first.txt").write_text("600\n")
    return root


@pytest.fixture(autouse=True)
def nothing_left(tmp_path):
    """Ends what a failed test has left."""
    yield
    for process in processes_in(tmp_path):
        process.kill()


def dvc(root: Path) -> list:
    return named(root, "dvc", "repro")


def stage_at_work(root: Path) -> list:
    """The stage's process, as soon as it has saved a few steps."""
    state = root / "work" / "first" / "state"
    return named(root, "stage.py", "first") if state.exists() and int(state.read_text() or 0) > 5 else []


def steps(root: Path) -> int:
    return int((root / "work" / "first" / "state").read_text())


def starts(root: Path) -> list[int]:
    """The step from which every attempt of the first stage started."""
    lines = (root / "work" / "first" / "log").read_text().splitlines()
    return [int(line.removeprefix("from ")) for line in lines]


def test_killed_stage_is_tried_again_and_resumes(project):
    pipeline = start_pipeline(project, "--stages", "first")
    (stage,) = wait_for(lambda: stage_at_work(project), SECONDS, "the stage works")
    stage.kill()
    wait_for(lambda: len(starts(project)) == 2, SECONDS, "a second attempt")
    assert starts(project)[1] >= 5, "the retry goes on where the first attempt was killed"
    (project / "work" / "first" / "state").write_text("599")  # what is left is not worth waiting for
    pipeline.kill()
    wait_for(lambda: not processes_in(project), SECONDS, "no process is left")


def test_killed_dvc_takes_the_stage_along_and_the_next_run_resumes(project):
    command = [sys.executable, "-m", "dvc", "repro", "--single-item", "first"]
    repro = subprocess.Popen(command, cwd=project, env=environment(project), stdout=subprocess.DEVNULL)
    wait_for(lambda: stage_at_work(project), SECONDS, "the stage works")
    repro.kill()
    wait_for(lambda: not processes_in(project), 20, "no process is left")
    repro.wait()
    done = steps(project)
    (project / "work" / "first" / "state").write_text("595")
    assert subprocess.run(command, cwd=project, env=environment(project), capture_output=True).returncode == 0
    assert done >= 5 and starts(project) == [0, 595]


@pytest.mark.slow
def test_killed_flow_takes_everything_along_and_is_closed_by_the_next(project):
    pipeline = start_pipeline(project, "--stages", "first")
    wait_for(lambda: stage_at_work(project), SECONDS, "the stage works")
    second = run_pipeline(project, "--stages", "first")
    assert second.returncode == 1 and "another pipeline runs in this checkout" in second.stderr
    assert len(dvc(project)) == 1, "the refused pipeline has touched nothing"
    pipeline.kill()
    pipeline.wait()
    wait_for(lambda: not processes_in(project), 20, "neither dvc nor stage nor server is left")
    (project / "work" / "first" / "state").write_text("598")
    third = run_pipeline(project, "--stages", "first")
    assert third.returncode == 0, third.stdout + third.stderr
    assert "closed the flow run" in third.stdout + third.stderr
    with sqlite3.connect(project / ".cache" / "prefect" / "prefect.db") as database:
        states = database.execute("SELECT state_type FROM flow_run ORDER BY start_time").fetchall()
    assert states == [("CRASHED",), ("COMPLETED",)], "killed, gone on; the refused one has started no flow"
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    runs = client.search_runs(["1"], order_by=["attributes.start_time ASC"])
    assert sorted(run.info.status for run in runs) == ["FINISHED", "KILLED"]


def test_stopped_flow_stops_its_stage_properly(project):
    pipeline = start_pipeline(project, "--stages", "first")
    wait_for(lambda: stage_at_work(project), SECONDS, "the stage works")
    os.kill(pipeline.pid, signal.SIGTERM)
    assert pipeline.wait(SECONDS) == 130
    assert not processes_in(project)
    assert "run again to go on" in (project / "pipeline.log").read_text()


def test_two_pipelines_in_two_checkouts_run_side_by_side(tmp_path):
    root = make_project(tmp_path / "project")
    other = start_pipeline(root, "--params", "params/other.yaml", "--stages", "first", "second")
    own = run_pipeline(root, "--stages", "first", "second")
    assert own.returncode == 0, own.stdout + own.stderr
    assert other.wait(SECONDS) == 0, (root / "pipeline.log").read_text()
    for folder in (root, root / "runs" / "other"):
        assert (folder / "outputs" / "second" / "out.txt").read_text() == "second 3"
