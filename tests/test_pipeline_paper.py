"""params/paper.yaml and params/ffhq1024.yaml from end to end at tiny size: a random-weight .pkl, made-up faces."""

import json
import shutil
from pathlib import Path

import foreign_files as files
import numpy as np
import pytest
import torch
import yaml
from picture_sources import face, write_celeba_hq
from PIL import Image
from test_assets_reference import inception_weights

from editgan.assets.networks.ir_se50 import IrSe50
from editgan.config import STAGES, read_params
from editgan.data.archive import Classes, load_classes, save_classes
from editgan.editor.release import told_apart
from editgan.runtime.environment import PROJECT_ROOT
from editgan.runtime.stage import run_stage
from editgan.weights import load_metadata, sha256
from flows.checkout import prepare_checkout

pytestmark = [pytest.mark.slow, pytest.mark.pipeline]
SIDE = 32
COUNTS = {"train": 220, "pool": 16, "val": 32, "test": 16, "reference": 24}


def checkout_of(name: str, here: Path, assets: Path, changes: dict) -> Path:
    """A checkout of a run with the sizes of params/ci.yaml, the run's own choices, and `changes`."""
    tiny, run = (yaml.safe_load((PROJECT_ROOT / f"params/{one}.yaml").read_text()) for one in ("ci", name))
    sections = {key: {**run.get(key, {}), **tiny.get(key, {}), **changes.get(key, {})} for key in {*tiny, *run}
                if isinstance(tiny.get(key, run.get(key)), dict)}  # fmt: skip
    sections["generator"] = run["generator"] | changes["generator"]
    sections["maskgan"] |= {key: run["maskgan"][key] for key in ("learn_from",) if key in run["maskgan"]}
    (here / "params" / "edits").mkdir(parents=True)
    shutil.copy(PROJECT_ROOT / f"params/edits/{name}.yaml", here / "params/edits" / f"{name}.yaml")
    written = here / "params" / f"{name}.yaml"
    written.write_text(yaml.safe_dump({"resolution": SIDE} | sections))
    read_params(written, PROJECT_ROOT / "params.yaml")
    prepare_checkout(PROJECT_ROOT, here / "project", written, cache=here / "dvc-cache", results=False)
    shutil.copytree(assets, here / "project/outputs/assets", dirs_exist_ok=True)
    return here / "project"


def random_pkl(path: Path) -> str:
    """A generator as NVIDIA saves it; returns its hash."""
    with files.foreign_modules():
        torch.manual_seed(2)
        sizes = dict(side=SIDE, base=512, most=32)
        files.write_nvidia(path, files.nvidia_generator(w=32, **sizes), files.nvidia_discriminator(**sizes))
    return sha256(path)


def run_stages(root: Path, names, monkeypatch) -> None:
    monkeypatch.chdir(root)
    for name in names:
        run_stage(name, root=root, params_path=root / "params.yaml")
        assert json.loads((root / "outputs" / name / "metrics.json").read_text()) is not None


def test_table_of_the_paper(tmp_path, assets_dir, monkeypatch):
    pictures = write_celeba_hq(tmp_path / "CelebAMask-HQ", count=420)
    digest = random_pkl(tmp_path / "ffhq256.pkl")
    torch.save(inception_weights(), tmp_path / "inception.pth")
    torch.save(IrSe50().state_dict(), tmp_path / "ir_se50.pth")
    references = {"reference_inception": str(tmp_path / "inception.pth"), "ir_se50": str(tmp_path / "ir_se50.pth")}
    references |= {f"{name}_sha256": sha256(path) for name, path in references.items()}
    changes = {
        "assets": references,
        "data": {"source": "celeba_hq", "folder": str(pictures), **COUNTS},
        "generator": {"from_file": str(tmp_path / "ffhq256.pkl"), "start_from_sha256": digest},
        "judges": {"smile_threshold": 0.5},
        "runtime": {"device": "cpu"},
    }
    root = checkout_of("paper", tmp_path / "run", assets_dir, changes)
    run_stages(root, [stage for stage in STAGES if stage != "assets"], monkeypatch)
    assert load_metadata(root / "outputs/generator/G_ema.safetensors")["imported"]["sha256"] == digest
    table = (root / "outputs/benchmark/table.md").read_text()
    section = table[table.index("## Beside the figures of the paper") :].split("\n## ")[0]
    line = next(row for row in section.splitlines() if row.startswith("| InterFaceGAN "))
    cells = [cell.strip() for cell in line.split("|")[1:-1]]
    assert cells[1] == "83.5" and cells[3] == "39.42" and cells[5] == "0.730"
    ours = json.loads((root / "outputs/benchmark/metrics.json").read_text())["smile_test16"]["interfacegan"]
    assert cells[2].startswith(f"{ours['smiling_judge']:.1f}") and cells[6].startswith(
        f"{ours['identity_ir_se50']:.3f}"
    )
    assert "generator: ffhq256.pkl, 32 px" in section and "the paper has 400" in section and "\u2013" not in cells
    report = (root / "outputs/report/index.html").read_text()
    assert "Beside the figures of the paper" in report and "83.5" in report


def test_own_labels_and_a_generator_from_a_file(tmp_path, assets_dir, monkeypatch):
    """16 pictures with DatasetGAN's parts, left and right told apart; no other picture has a mask."""
    names = load_classes(PROJECT_ROOT / "params/classes/datasetgan_face.json")
    parts = {"skin": "skin", "l_eye": "iris", "r_eye": "iris", "nose": "nose", "mouth": "teeth", "u_lip": "upper_lip",
             "l_lip": "lower_lip", "hair": "hair"}  # fmt: skip
    folder, masks = tmp_path / "faces", {}
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    for index in range(120):
        image, shown = face(index, 64)
        path = folder / "images" / f"{index:03d}.png"
        Image.fromarray(image).save(path)
        if index < 16:
            masks[path] = np.zeros((64, 64), np.uint8)
            for part, where in shown.items():
                masks[path][where] = names.index(parts[part])
    masks, classes = told_apart(masks, Classes(names.names, names.palette))
    for path, mask in masks.items():
        Image.fromarray(mask).save(folder / "masks" / path.name)
    save_classes(folder / "classes.json", classes)
    random_pkl(tmp_path / "ffhq.pkl")
    changes = {
        "data": {"source": "folder", "folder": str(folder), **COUNTS, "train": 40, "test": 4, "few_shot": 16},
        "generator": {"from_file": str(tmp_path / "ffhq.pkl")},
        "segmentation": {"labelled_images": 16},
        "benchmark": {"grid_heads": 4},
        "runtime": {"device": "cpu"},
    }
    root = checkout_of("ffhq1024", tmp_path / "run", assets_dir, changes)
    run_stages(root, ("data", "generator", "encoder", "segmentation", "editing"), monkeypatch)
    assert list((root / "outputs/editing/vectors").glob("look_left*.safetensors"))
    assert "miou_test4" not in json.loads((root / "outputs/segmentation/metrics.json").read_text())
