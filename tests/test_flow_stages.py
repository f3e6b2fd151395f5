"""One stage under DVC: its limit, its progress, its outcome, what is tried again and what it waits for."""

import fcntl
import json
import re
import subprocess
import sys

import pytest
from fake_project import make_project, processes_in

from editgan.runtime.dvc import DvcFailed
from flows import stages


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


def test_stage_that_a_signal_ended_is_not_refused(tmp_path):
    """It has its state to go on from, so that another attempt may succeed."""
    root = make_project(tmp_path / "project")
    (root / "first.txt").write_text("fail\n")
    (root / "stage.py").write_text("import os; os.kill(os.getpid(), 9)")
    (root / "work" / "first").mkdir(parents=True)
    (root / "work" / "first" / "error.txt").write_text("of an earlier attempt")
    with pytest.raises(stages.StageFailed, match="first: `dvc repro --single-item first` ended with status") as failed:
        stages.reproduce("first", root, say=lambda line: None)
    assert not isinstance(failed.value, stages.Refused)


def test_status_that_dvc_cannot_give_is_a_failure_with_its_reason(tmp_path):
    root = make_project(tmp_path / "project")
    (root / "dvc.lock").write_text("stages: [")
    with pytest.raises(DvcFailed, match="dvc.lock"):
        stages.reproduce("first", root, say=lambda line: None)


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


def test_dvc_lock_of_another_command_is_waited_for(tmp_path):
    """The repository's lock is held for longer than DVC waits by itself; the stage still runs."""
    root = make_project(tmp_path / "project")
    (root / ".dvc" / "tmp").mkdir()
    code = "import time, zc.lockfile; lock = zc.lockfile.LockFile('.dvc/tmp/lock'); print('held', flush=True)"
    holder = subprocess.Popen([sys.executable, "-c", f"{code}; time.sleep(6)"], cwd=root, stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"held\n"
    assert stages.reproduce("first", root, say=lambda line: None).outcome == "ran"
    assert holder.wait(1) == 0


def test_progress_says_how_much_time_is_left(tmp_path):
    path = tmp_path / "progress.json"
    reader = stages.ProgressFile(tmp_path)
    report = {"done": 5, "total": 10, "unit": "kimg", "message": "loss 1", "eta_seconds": 75}
    path.write_text(json.dumps(report))
    assert reader.read() == stages.Progress(50.0, "5/10 kimg, 1:15 left  loss 1")
    path.write_text(json.dumps(report | {"eta_seconds": None, "done": 6}))
    assert reader.read() == stages.Progress(60.0, "6/10 kimg  loss 1")
