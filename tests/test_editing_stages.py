"""Stages `segmentation` and `editing` on networks of random weights: what they leave behind, and that it is stable."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from editgan.config import load_params
from editgan.data.archive import Classes, encode_image, encode_mask, save_classes, write_archive
from editgan.editing import stage as editing
from editgan.editing.edits import Edit
from editgan.editing.stage import Lesson, plan
from editgan.editing.vectors import load_vector
from editgan.generator.generator import Generator
from editgan.images import to_uint8
from editgan.runtime.stage import StageContext
from editgan.runtime.tracking import offline_run
from editgan.segmentation import stage as segmentation
from editgan.segmentation.ensemble import load_segmentation
from editgan.weights import save_module, save_tensors, sha256

NAMES = ["background", "skin", "nose", "upper_lip", "lower_lip", "mouth_interior", "glasses"]
EDITS = """
pictures:
  learn_from: [smile = 0]
  least: [yaw]
smile:
  about: the mouth of another head
  region: [upper_lip, lower_lip, mouth_interior]
  mask:
  - transplant: {parts: [upper_lip, lower_lip, mouth_interior], donor: smile >= 0.8}
no_glasses:
  about: nobody wears any
  region: [glasses]
  mask:
  - repaint: {parts: [glasses], as: nearest}
big_nose:
  about: twice as large
  region: [nose]
  strength: 1.5
  mask:
  - move: {parts: [nose], scale: [2, 2]}
"""
COUNTS = {"pool": 4, "val": 5, "test": 6}


def make_inputs(root: Path, assets_dir: Path) -> None:
    """A random generator, its own images as photos, and simple masks: skin with a mouth, no glasses anywhere."""
    torch.manual_seed(0)
    G = Generator(z_dim=16, w_dim=16, img_resolution=32, channel_base=256, channel_max=16, num_mapping_layers=2).eval()
    outputs = root / "outputs"
    save_module(outputs / "generator" / "G_ema.safetensors", G, G.config)
    (outputs / "data").mkdir()
    palette = np.arange(3 * len(NAMES), dtype=np.uint8).reshape(-1, 3) * 10
    save_classes(outputs / "data" / "classes.json", Classes(names=NAMES, palette=palette))
    latents = {}
    for split, count in COUNTS.items():
        with torch.no_grad():
            w_plus = G.mapping(torch.randn(count, 16))
            images = to_uint8(G.synthesis(w_plus) / 3).permute(0, 2, 3, 1).numpy()
        mask = np.ones((32, 32), np.uint8)
        mask[:4], mask[13:18, 11:21], mask[22:24, 10:22], mask[26:28, 10:22] = 0, 2, 3, 4
        mask[24:26, 12:20] = 5 if split == "pool" else 1
        attributes = [
            {"smile": 0.9 if split == "pool" else 0.0, "mouth_open": 0.0, "beard": "none", "yaw": 0.1 * i, "pitch": 0.0,
             "roll": 0.0, "frown": 0.0, "blink": 0.0} for i in range(count)
        ]  # fmt: skip
        write_archive(
            outputs / "data" / f"{split}.zip",
            [encode_image(image) for image in images],
            [encode_mask(mask, palette)] * count,
            attributes,
        )
        latents[{"pool": "few_shot"}.get(split, split)] = w_plus
    latents["val_encoder"] = latents["val"].clone()
    save_tensors(outputs / "encoder" / "latents.safetensors", latents)
    (outputs / "assets").symlink_to(assets_dir)
    (root / "edits.yaml").write_text(EDITS)


def run_stage(root: Path, name: str) -> Path:
    context = StageContext(
        name=name,
        params=load_params(root / "params.yaml"),
        root=root,
        out=root / "outputs" / name,
        work=root / "work" / name,
        run=offline_run(),
        device=torch.device("cpu"),
    )
    shutil.rmtree(context.out, ignore_errors=True)
    context.out.mkdir(parents=True)
    context.work.mkdir(parents=True, exist_ok=True)
    {"segmentation": segmentation, "editing": editing}[name].run(context)
    return context.out


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.assets
def test_both_stages_leave_their_outputs_with_stable_bytes(checkout: Path, assets_dir: Path, capsys, monkeypatch):
    monkeypatch.setattr(editing, "PREVIEW_HEADS", 2)
    make_inputs(checkout, assets_dir)
    out = run_stage(checkout, "segmentation")
    metrics = json.loads((out / "metrics.json").read_text())
    assert set(metrics["iou_test6"]) == set(NAMES) - {"mouth_interior", "glasses"}
    assert metrics["absent_classes_test6"] == "mouth_interior, glasses" and metrics["accuracy_fewshot4"] > 0.9
    val = COUNTS["val"]
    assert 0 <= metrics[f"miou_val{val}"] <= 1 and set(metrics[f"iou_val{val}"]) == set(metrics["iou_test6"])
    assert load_segmentation(out / "S.safetensors").class_names == NAMES
    assert all(Image.open(out / name).width > 100 for name in ("predictions.png", "uncertainty.png"))
    first = hashes(out)
    assert hashes(run_stage(checkout, "segmentation")) == first

    out = run_stage(checkout, "editing")
    names = {"big_nose", "big_nose_mean", "smile", "smile_mean"}
    assert {path.stem for path in (out / "vectors").iterdir()} == names
    alone = load_vector(out / "vectors" / "smile.safetensors").source
    vector = load_vector(out / "vectors" / "smile_mean.safetensors")
    assert vector.region_classes == ("upper_lip", "lower_lip", "mouth_interior") and vector.scale == 1.0
    assert alone in vector.source.split(", ")
    assert vector.source.startswith("val/00000, val/") and vector.target == "pool/00000"
    assert vector.delta_w_plus.shape == (8, 16)
    assert load_vector(out / "vectors" / "big_nose.safetensors").scale == 1.5
    metrics = json.loads((out / "metrics.json").read_text())
    assert set(metrics) == names, "no vector for glasses that nobody wears"
    assert "no_glasses: skipped" in capsys.readouterr().out
    assert metrics["smile"]["heads"] == 2 == len(vector.source.split(", "))
    for row in metrics.values():
        assert row["total_best"] <= row["total_start"]
        assert 0 <= row["refined_leak_lpips_vgg_val2"] and 0 <= row["refined_followed_val2"] <= 1
    assert Image.open(out / "pictures" / "smile.png").height > 3 * 32
    first = hashes(out)
    assert hashes(run_stage(checkout, "editing")) == first


@pytest.mark.assets
def test_one_vector_is_of_the_head_that_suits_the_others_and_the_other_the_mean_of_all(
    checkout: Path, assets_dir: Path, monkeypatch
):
    make_inputs(checkout, assets_dir)
    run_stage(checkout, "segmentation")
    learn = editing.edit

    def numbered(G, S, lpips, w_plus, *masks, **options):
        """The first head moves by 2, the second by 1, which changes the other head less outside the mouth."""
        moves = torch.arange(len(w_plus), 0.0, -1.0)[:, None, None]
        return replace(learn(G, S, lpips, w_plus, *masks, **options), w_plus=w_plus + moves)

    monkeypatch.setattr(editing, "edit", numbered)
    folder = run_stage(checkout, "editing") / "vectors"
    for name, expected in (("smile", 1.0), ("smile_mean", 1.5)):
        vector = load_vector(folder / f"{name}.safetensors")
        torch.testing.assert_close(vector.delta_w_plus, torch.full((8, 16), expected))


def test_lessons_come_from_heads_that_show_the_parts_and_leave_others_to_try():
    described = Edit(about="", region=("nose",), mask=[{"move": {"parts": ["nose"], "x": 0.1}}], least=("yaw",))
    head = {"smile": 0.0}
    sizes = (1, 9, 9, 0, 9, 9)  # noses on heads ever more turned
    masks = np.ones((6, 32, 32), np.uint8)
    for mask, size in zip(masks, sizes, strict=True):
        mask[10, 10 : 10 + size] = 2

    def planned(masks: np.ndarray, heads: int) -> list[Lesson]:
        return plan(
            {"nose": described},
            masks,
            [head | {"yaw": 0.1 * index} for index in range(len(masks))],
            class_names=NAMES,
            donors=masks[1:3],
            donor_attributes=[head, head],
            folder=Path(),
            heads=heads,
            preview_heads=2,
        )

    (lesson,) = planned(masks, 2)
    assert lesson.sources == [1, 2] and lesson.others == [0, 3] and lesson.targets.shape == (2, 32, 32)
    assert (lesson.before == masks[[1, 2]]).all() and (lesson.before != lesson.targets).any((1, 2)).all()
    assert planned(masks, 9)[0].sources == [1, 2, 4], "at most half of those that fit"
    masks[1:3, 10, 10:19] = 1
    poor = masks[[0, 3]]
    (lesson,) = plan(
        {"nose": described},
        poor,
        [head | {"yaw": 0.0}] * 2,
        class_names=NAMES,
        donors=masks[4:6],
        donor_attributes=[head, head],
        folder=Path(),
        heads=2,
        preview_heads=2,
    )
    assert lesson.sources == [0], "where none shows enough, the one that shows most"
