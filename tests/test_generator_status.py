"""`editgan train status`: running, stopped, finished, absent."""

import json
import os
import time

import pytest
from typer.testing import CliRunner

from editgan.cli import pictures as cli


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "mine"
    (folder / "work" / "generator").mkdir(parents=True)
    (folder / "outputs" / "generator").mkdir(parents=True)
    rows = [
        {"kimg": 16.0, "kid1k_vgg16": 0.5, "precision1k_vgg16": 0.25, "recall1k_vgg16": 0.125},
        {"kimg": 32.0, "kid1k_vgg16": 0.75, "precision1k_vgg16": 0.5, "recall1k_vgg16": 0.25},
        {"kimg": 34.0, "loss/D": 0.5},
    ]
    (folder / "outputs" / "generator" / "stats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def progress(folder, done, eta):
    path = folder / "work" / "generator" / "progress.json"
    path.write_text(json.dumps({"stage": "generator", "done": done, "total": 100.0, "eta_seconds": eta}))
    return path


def said() -> str:
    result = CliRunner().invoke(cli.app, ["train", "status"])
    assert result.exit_code == 0, result.output
    return result.output


def test_running_training(project):
    progress(project, 34.0, 1320.0)
    first, last, best = said().splitlines()
    assert first.endswith("runs/mine: 34.0 of 100 kimg, 50.0 images/s, 22:00 left")
    assert last == "  last at 32 kimg: kid1k_vgg16 0.7500, precision1k_vgg16 0.5000, recall1k_vgg16 0.2500"
    assert best.startswith("  best at 16 kimg: kid1k_vgg16 0.5000")


def test_stopped_and_finished_trainings(project):
    path = progress(project, 34.0, 1320.0)
    os.utime(path, (time.time() - 600, time.time() - 600))
    assert "34.0 of 100 kimg, no step for 10:0" in said() and "run the stage again to resume" in said()
    progress(project, 100.0, None)
    assert "100.0 of 100 kimg, finished" in said()


def test_no_training(project):
    assert said() == "no generator training found here\n"
