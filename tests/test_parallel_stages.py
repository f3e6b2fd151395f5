"""Stages in parallel: order, limit, what a failure and a stop leave behind."""

import os
import signal
from pathlib import Path

import pytest
from fake_project import STAGE, make_project, processes_in, run_pipeline, start_pipeline, wait_for


@pytest.fixture
def fork(tmp_path) -> Path:
    """A project whose second and third stage both need the first alone; they take 4 s."""
    root = make_project(tmp_path / "project")
    graph = root / "dvc.yaml"
    graph.write_text(
        graph.read_text().replace("outputs/second/out.txt\n    params", "outputs/first/out.txt\n    params")
    )
    for stage in ("second", "third"):
        (root / f"{stage}.txt").write_text("40\n")
    yield root
    for process in processes_in(tmp_path):  # what a failed test has left
        process.kill()


def at_work(root: Path, stage: str) -> bool:
    state = root / "work" / stage / "state"
    return state.exists() and int(state.read_text()) > 1


@pytest.mark.slow
def test_pipeline_runs_two_stages_at_a_time_and_a_stop_ends_both(fork):
    running = start_pipeline(fork, "--at-a-time", "2")
    wait_for(lambda: at_work(fork, "second") and at_work(fork, "third"), 300, "both work at the same time")
    running.send_signal(signal.SIGTERM)
    assert running.wait(120) == 130, (fork / "pipeline.log").read_text()
    assert not processes_in(fork)
    again = run_pipeline(fork, "--at-a-time", "2")
    assert again.returncode == 0, again.stdout + again.stderr
    for stage in ("second", "third"):
        starts = (fork / "work" / stage / "log").read_text().split("\n")
        assert starts[0] == "from 0" and int(starts[1].split()[1]) > 1, "the second went on where the first was stopped"
        assert (fork / "outputs" / stage / "out.txt").read_text() == f"{stage} 40"


@pytest.mark.slow
def test_failure_stops_no_independent_stage_and_processors_are_divided(fork):
    (fork / "stage.py").write_text(STAGE + "print('threads', os.environ['OMP_NUM_THREADS'])\n")
    (fork / "second.txt").write_text("fail\n")
    done = run_pipeline(fork, "--at-a-time", "2")
    assert done.returncode == 1 and "second: told to fail" in done.stderr, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert (fork / "outputs" / "third" / "out.txt").exists() and not processes_in(fork)
    assert f"threads {max(1, os.cpu_count() // 2)}" in done.stdout + done.stderr
    (fork / "first.txt").write_text("fail\n")
    done = run_pipeline(fork, "--at-a-time", "2", "--force")
    assert done.returncode == 1 and "first: told to fail" in done.stderr, done.stdout + done.stderr
    starts = (fork / "work" / "third" / "log").read_text().splitlines()
    assert starts == ["from 0"], "what needs the failed stage is not started"
