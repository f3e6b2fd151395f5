"""Stage `data` as a whole: what it leaves behind, whatever the number of workers."""

import contextlib
import dataclasses
import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from editgan.config import load_params
from editgan.data import blocks, stage, training
from editgan.data.archive import count, load_attributes, load_images, load_masks
from editgan.data.training import training_folder
from editgan.errors import UserError
from editgan.runtime.stage import StageContext
from editgan.runtime.tracking import Run, offline_run


def make(root: Path, project_root: Path, tracked: Run | None = None) -> Path:
    params = load_params(project_root / "params/ci.yaml")
    few = params.data.model_copy(update={"train": 20, "pool": 3, "val": 2, "test": 2, "reference": 2})
    out = root / "outputs/data"
    out.mkdir(parents=True, exist_ok=True)
    stage.run(
        StageContext(
            name="data",
            params=params.model_copy(update={"data": few}),
            root=root,
            out=out,
            work=root,
            run=tracked or offline_run(),
            device=torch.device("cpu"),
        )
    )
    return out


@pytest.fixture(scope="module")
def outputs(tmp_path_factory, project_root):
    return make(tmp_path_factory.mktemp("two"), project_root)


def test_every_split_is_whole(outputs):
    sizes = {"pool": 3, "val": 2, "test": 2, "test_smiling": 2, "reference": 2}
    assert {name: count(outputs / f"{name}.zip") for name in sizes} == sizes
    assert all(a["smile"] == 0 == a["mouth_open"] for a in load_attributes(outputs / "test.zip"))
    assert all(a["smile"] > 0.8 for a in load_attributes(outputs / "test_smiling.zip"))
    metrics = json.loads((outputs / "metrics.json").read_text())
    assert metrics["pool"]["images"] == 3
    assert sum(metrics["pool"]["mean_pixels"].values()) == pytest.approx(32 * 32)
    assert not (outputs / "train.zip").exists(), "the training heads are rendered when something trains"


@pytest.fixture
def learner(outputs, tmp_path, project_root):
    """The context of a stage that trains, in a project of its own where stage data has run."""
    shutil.copytree(outputs, tmp_path / "outputs" / "data")
    params = load_params(project_root / "params/ci.yaml")
    few = params.data.model_copy(update={"train": 20, "pool": 3, "val": 2, "test": 2, "reference": 2})
    return StageContext(
        name="generator", params=params.model_copy(update={"data": few}), root=tmp_path, out=tmp_path, work=tmp_path,
        run=offline_run(), device=torch.device("cpu"),
    )  # fmt: skip


def test_training_heads_are_rendered_when_asked_for_and_once(learner, monkeypatch):
    folder = training_folder(learner)
    assert load_images(folder / "train.zip").shape == (20, 3, 32, 32)
    assert load_masks(folder / "train_labels.zip").shape == (20, 32, 32)
    assert not (folder / "train.zip").read_bytes().count(b"mask/"), "masks of train are kept apart"
    monkeypatch.setattr(training, "render", lambda *_: pytest.fail("rendered again"))
    assert training_folder(learner) == folder
    monkeypatch.undo()
    recipe = learner.input("data") / "recipe.json"
    recipe.write_text(recipe.read_text().replace('"seed": 0', '"seed": 1'))
    other = learner.params.model_copy(update={"seed": 1})
    again = training_folder(dataclasses.replace(learner, params=other))
    assert again != folder and (again / "train.zip").read_bytes() != (folder / "train.zip").read_bytes()


def test_training_heads_wait_for_whoever_renders_them(learner, monkeypatch):
    monkeypatch.setattr(training, "WAIT_SECONDS", 0.0)
    attempts = []

    @contextlib.contextmanager
    def taken_once(folder):
        attempts.append(folder)
        if len(attempts) == 1:
            raise UserError("another process")
        yield folder.mkdir(parents=True)

    monkeypatch.setattr(training, "exclusive", taken_once)
    assert (training_folder(learner) / "train.zip").exists() and len(attempts) == 2


def test_faults_of_the_rendering_are_not_taken_for_waiting(learner, monkeypatch):
    def fail(*_):
        raise UserError("the mesh is damaged")

    monkeypatch.setattr(training, "render", fail)
    with pytest.raises(UserError, match="mesh"):
        training_folder(learner)


def test_training_pictures_without_stage_data_are_refused(learner):
    (learner.input("data") / "recipe.json").unlink()
    with pytest.raises(UserError, match="recipe.json: missing; run stage data first"):
        training_folder(learner)


def test_the_number_of_workers_changes_no_byte(outputs, tmp_path, project_root, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2})
    assert contents(make(tmp_path, project_root)) == contents(outputs)


def test_interrupted_rendering_goes_on_and_leaves_the_same_bytes(outputs, tmp_path, project_root, monkeypatch):
    """Stopped in the middle of the first split; what was rendered before is not rendered again."""
    monkeypatch.setattr(blocks, "BLOCK", 1)
    tracked, reports = offline_run(), []

    def stop(done, *_):
        reports.append(done)
        if done > 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(tracked, "progress", stop)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, project_root, tracked)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("pool_*.zip")}
    assert reports == [1, 2] and len(kept) == 2
    rendered = []
    write = blocks.write_archive
    monkeypatch.setattr(blocks, "write_archive", lambda path, *a, **k: (rendered.append(path), write(path, *a, **k)))
    assert contents(make(tmp_path, project_root)) == contents(outputs)
    assert not kept.keys() & set(rendered) and not list(tmp_path.glob("*.zip"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
