"""Stage `data` as a whole: what it leaves behind, whatever the number of workers."""

import json
import os
from pathlib import Path

import pytest
import torch

from editgan.config import load_params
from editgan.data import stage
from editgan.data.archive import count, load_attributes, load_images, load_masks
from editgan.stage import StageContext
from editgan.tracking import Run, offline_run


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
    sizes = {"train": 20, "pool": 3, "val": 2, "test": 2, "test_smiling": 2, "reference": 2}
    assert {name: count(outputs / f"{name}.zip") for name in sizes} == sizes
    assert load_images(outputs / "train.zip").shape == (20, 3, 32, 32)
    assert load_masks(outputs / "train_labels.zip").shape == (20, 32, 32)
    assert all(a["smile"] == 0 == a["mouth_open"] for a in load_attributes(outputs / "test.zip"))
    assert all(a["smile"] > 0.8 for a in load_attributes(outputs / "test_smiling.zip"))
    metrics = json.loads((outputs / "metrics.json").read_text())
    assert metrics["train"]["images"] == 20
    assert sum(metrics["train"]["mean_pixels"].values()) == pytest.approx(32 * 32)


def test_masks_of_train_are_kept_apart(outputs):
    assert not (outputs / "train.zip").read_bytes().count(b"mask/")


def test_the_number_of_workers_changes_no_byte(outputs, tmp_path, project_root, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2})
    assert contents(make(tmp_path, project_root)) == contents(outputs)


def test_interrupted_rendering_goes_on_and_leaves_the_same_bytes(outputs, tmp_path, project_root, monkeypatch):
    """Stopped in the middle of the training split; what was rendered before is not rendered again."""
    monkeypatch.setattr(stage, "BLOCK", 6)
    tracked, reports = offline_run(), []

    def stop(done, *_):
        reports.append(done)
        if done > 8:
            raise KeyboardInterrupt

    monkeypatch.setattr(tracked, "progress", stop)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, project_root, tracked)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("train_*.zip")}
    assert reports == [6, 12] and len(kept) == 2
    rendered = []
    write = stage.write_archive
    monkeypatch.setattr(stage, "write_archive", lambda path, *a, **k: (rendered.append(path), write(path, *a, **k)))
    assert contents(make(tmp_path, project_root)) == contents(outputs)
    assert not kept.keys() & set(rendered) and not list(tmp_path.glob("*.zip"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
