"""Stages side by side: order, limit, what a failure and a stop leave behind."""

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fake_project import make_project, processes_in, run_pipeline, start_pipeline, wait_for

from flows.side_by_side import side_by_side, threads_each

NEEDS = {"a": set(), "b": {"a"}, "c": {"a"}, "d": {"a"}, "e": {"a", "b", "c"}}


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_order_is_kept_and_the_limit_is_reached_and_never_passed(limit):
    lock, running, done, most = threading.Lock(), set(), set(), 0

    def work(stage: str) -> str:
        nonlocal most
        with lock:
            assert NEEDS[stage] <= done
            running.add(stage)
            most = max(most, len(running))
        time.sleep(0.05)
        with lock:
            running.remove(stage)
            done.add(stage)
        return stage.upper()

    with ThreadPoolExecutor() as pool:
        results = list(side_by_side(NEEDS, lambda stage: pool.submit(work, stage), limit))
    assert sorted(results) == [stage.upper() for stage in NEEDS]
    assert most == limit


def test_failure_starts_nothing_more_and_waits_for_what_runs():
    started, finished = [], []

    def work(stage: str) -> None:
        if stage == "b":
            raise ValueError("b is broken")
        time.sleep(0.1)
        finished.append(stage)

    def submit(stage: str):
        started.append(stage)
        return pool.submit(work, stage)

    with ThreadPoolExecutor() as pool, pytest.raises(ValueError, match="b is broken"):
        list(side_by_side(NEEDS, submit, 2))
    assert started == ["a", "b", "c"] and finished == ["a", "c"]


def test_processors_are_divided(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert threads_each(1) == {}
    assert threads_each(3) == {"OMP_NUM_THREADS": "2"}
    assert threads_each(20) == {"OMP_NUM_THREADS": "1"}


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
