"""One stage under DVC: its limit, its progress, its outcome, what is tried again and what it waits for."""

import fcntl
import json
import re
import subprocess
import sys

import pytest
from fake_project import make_project, processes_in

from flows import processes, stages


def test_failed_stage_is_shown_with_its_last_lines(tmp_path):
    root = make_project(tmp_path / "project")
    (root / "first.txt").write_text("fail\n")
    said = []
    with pytest.raises(stages.Refused, match="first: told to fail"):
        stages.reproduce("first", root, say=said.append)
    assert "Running stage 'first':" in said


def test_stage_over_its_limit_is_stopped_with_all_its_processes(tmp_path):
    root = make_project(tmp_path / "project")
    (root / "first.txt").write_text("1000\n")
    with pytest.raises(stages.TimedOut, match="limit"):
        stages.reproduce("first", root, limit_seconds=6, say=lambda line: None)
    assert not processes_in(root)


def test_progress_of_a_stage_is_passed_on(tmp_path):
    root = make_project(tmp_path / "project")
    (root / "first.txt").write_text("25\n")
    seen = []
    result = stages.reproduce("first", root, say=lambda line: None, show=seen.append)
    assert result.outcome == "ran"
    assert seen and all(re.match(r"\d+/25 steps", report.text) for report in seen)
    assert 0 < seen[-1].percent <= 100
    assert [report.percent for report in seen] == sorted(report.percent for report in seen)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Stage 'data' didn't change, skipping\nData and pipelines are up to date.", "skipped"),
        ("Stage 'data' is cached - skipping run, checking out outputs", "restored"),
        ("Running stage 'data':\n> exec python -m editgan data", "ran"),
    ],
)
def test_outcome_is_read_from_what_dvc_says(text, expected):
    assert stages.outcome(text) == expected


def test_only_what_the_user_can_mend_is_never_tried_again():
    """A stage that SIGTERM or SIGINT ended leaves 143 or 130, and has its state to go on from."""
    said = "ERROR: failed to reproduce 'first': failed to run: exec python stage.py first, exited with {}"
    assert stages.REFUSED.search(said.format("1"))
    assert not any(stages.REFUSED.search(said.format(status)) for status in ("143", "130", "-9", "137"))


def test_empty_store_is_no_fault(tmp_path):
    root = make_project(tmp_path / "project")
    assert stages.fetch_missing(root) == []
    (root / "data" / "store" / "files").mkdir(parents=True)
    (root / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    assert stages.fetch_missing(root, say=lambda line: None) == []


def test_gpu_slot_waits_for_its_holder(tmp_path, monkeypatch):
    monkeypatch.setattr(stages, "has_gpu", lambda: True)
    holder = (
        "import fcntl, sys, time; file = open(sys.argv[1], 'a'); fcntl.flock(file, fcntl.LOCK_EX);"
        "print('held', flush=True); time.sleep(1)"
    )
    (tmp_path / ".cache").mkdir()
    lock = tmp_path / ".cache" / "gpu.lock"
    process = subprocess.Popen([sys.executable, "-c", holder, str(lock)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    said = []
    with stages.gpu_slot(tmp_path, said.append):
        assert said, "it says what it waits for"
        assert process.wait(1) == 0, "the holder had ended"
        with lock.open("a") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_dvc_lock_of_another_command_is_waited_for(tmp_path, monkeypatch):
    """The repository's lock is held for the first seconds; the stage still runs."""
    root = make_project(tmp_path / "project")
    monkeypatch.setattr(stages, "BUSY_WAIT_SECONDS", 0.5)
    answers = iter(["ERROR: Unable to acquire lock. Most likely another DVC process is running", None])
    start = processes.start

    def busy_once(command, **options):
        message = next(answers)
        if message is None:
            return start(command, **options)
        return start(["python", "-c", f"import sys; sys.exit({message!r})"], **options)

    monkeypatch.setattr(processes, "start", busy_once)
    said = []
    assert stages.reproduce("first", root, say=said.append).outcome == "ran"
    assert any("another DVC command is running" in line for line in said)


def test_progress_says_how_much_time_is_left(tmp_path):
    path = tmp_path / "progress.json"
    reader = stages.ProgressFile(path)
    report = {"done": 5, "total": 10, "unit": "kimg", "message": "loss 1", "eta_seconds": 75}
    path.write_text(json.dumps(report))
    assert reader.read() == stages.Progress(50.0, "5/10 kimg, 1:15 left  loss 1")
    path.write_text(json.dumps(report | {"eta_seconds": None, "done": 6}))
    assert reader.read() == stages.Progress(60.0, "6/10 kimg  loss 1")
