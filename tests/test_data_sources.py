"""Stage `data` on CelebA-HQ as distributed: the archives, the official split, faults, and what later stages do."""

import json

import numpy as np
import pytest
import torch
from picture_sources import COUNTS, SPLITS, attributes_of, face, make_data, rejected, write_celeba_hq
from PIL import Image

from editgan.config import load_params
from editgan.data.archive import count, load_attributes, load_classes, load_images, load_masks
from editgan.data.protocol import SMILE
from editgan.data.reading import majority
from editgan.data.sources import celeba_hq
from editgan.editing.edits import load_edits, suitable_pictures
from editgan.errors import UserError
from editgan.judges.stage import training_halves
from editgan.methods.smile import at_rest, load_heads
from editgan.runtime.stage import StageContext, stage_module
from editgan.runtime.tracking import offline_run


@pytest.fixture(scope="module")
def params(project_root):
    return load_params(project_root / "params/ci.yaml")


@pytest.fixture(scope="module")
def celeba(tmp_path_factory):
    return write_celeba_hq(tmp_path_factory.mktemp("celeba"))


@pytest.fixture(scope="module")
def celeba_data(celeba, tmp_path_factory, params):
    return make_data(tmp_path_factory.mktemp("project"), params, "celeba_hq", celeba)


def test_celeba_hq_fills_the_same_archives(celeba_data):
    out = celeba_data
    assert {split: count(out / f"{split}.zip") for split in SPLITS} == {split: COUNTS[split] for split in SPLITS}
    assert count(out / "test_smiling.zip") == 0 and load_attributes(out / "test_smiling.zip") == []
    assert load_images(out / "train.zip").shape == (24, 3, 32, 32)
    assert load_masks(out / "train_labels.zip").shape == (24, 32, 32)
    assert load_masks(out / "test.zip").shape == (4, 32, 32)
    classes = load_classes(out / "classes.json")
    assert len(classes.names) == 19 and classes.names[0] == "background" and classes.index("mouth_interior") == 10
    assert rejected(out) == {}
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["rejected"] == 0 and metrics["people"] == 20 and metrics["test"]["smiling"] == 0
    assert (out / "samples.png").exists() and not list(out.parent.parent.glob("work/*"))


def test_celeba_hq_keeps_the_official_split_and_its_people_apart(celeba_data):
    ranges = {"train": (0, 36), "pool": (0, 36), "val": (36, 45), "test": (45, 60), "reference": (45, 60)}
    people = {}
    for split, (low, high) in ranges.items():
        rows = attributes_of(celeba_data, split)
        assert all(low <= int(row["file"].split("/")[1].removesuffix(".jpg")) < high for row in rows)
        people[split] = {row["identity"] for row in rows}
    assert sum(map(len, people.values())) == len(set().union(*people.values())), "nobody is in two splits"
    assert {row["smile"] for row in attributes_of(celeba_data, "test")} == {0.0}


def test_celeba_hq_parts_cover_one_another_in_the_published_order(celeba_data):
    row = attributes_of(celeba_data, "val")[0]
    index = int(row["file"].split("/")[1].removesuffix(".jpg"))
    mask, classes = load_masks(celeba_data / "val.zip")[0], load_classes(celeba_data / "classes.json")
    parts = face(index, celeba_hq.MASK_SIDE)[1]
    merged = np.zeros((celeba_hq.MASK_SIDE,) * 2, np.uint8)
    for name in ("skin", "nose", "l_eye", "r_eye", "mouth", "u_lip", "l_lip", "hair"):
        merged[parts[name]] = classes.index(celeba_hq.PARTS[name][0])
    np.testing.assert_array_equal(mask, majority(merged, 32))


def test_celeba_hq_images_are_shrunk_with_pillow(celeba, celeba_data):
    row, image = attributes_of(celeba_data, "val")[0], load_images(celeba_data / "val.zip")[0]
    with Image.open(celeba / row["file"]) as picture:
        expected = np.array(picture.resize((32, 32), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(image.transpose(1, 2, 0), expected)


def test_celeba_hq_attributes_serve_later_stages(celeba_data, project_root):
    val = attributes_of(celeba_data, "val")
    assert {row["smile"] for row in val} == {0.0, 1.0} and {row["Smiling"] for row in val} == {0, 1}
    assert any(map(at_rest, val)) and all({"masculine", "age", "yaw"} <= row.keys() for row in val)
    assert all(abs(row["yaw"]) < 0.6 and abs(row["roll"]) < 0.1 for row in val), "drawn from the front"
    edits = load_edits(project_root / "params/edits/celeba_hq256.yaml", celeba_hq.CLASSES.names)
    assert "smile" in edits
    assert suitable_pictures(edits["smile"], val)
    pool = attributes_of(celeba_data, "pool")[: COUNTS["few_shot"]]
    assert {row["smile"] for row in pool} == {0.0, 1.0}, "a donor of the smile is labelled, and faces at rest are"
    halves = training_halves(celeba_data, SMILE.model_copy(update={"high": 0.35}), seed=0)
    assert all(0 < heads.smiling.sum() < len(heads.smiling) for heads in halves.values())


def test_benchmark_loads_photographs_without_a_truth(celeba_data):
    heads = load_heads(celeba_data)
    assert heads.smiling is None and heads.smiling_masks is None
    assert (
        heads.photos.shape == (4, 3, 32, 32) and heads.region.any((1, 2)).all() and not heads.region.all((1, 2)).any()
    )


def test_same_files_give_the_same_bytes_wherever_they_lie(celeba, celeba_data, tmp_path, params):
    moved = tmp_path / "elsewhere"
    moved.symlink_to(celeba)  # the folder that is named may be a link, what is in it may not
    again = make_data(tmp_path / "project", params, "celeba_hq", moved)
    for path in celeba_data.iterdir():
        assert (again / path.name).read_bytes() == path.read_bytes(), path.name
    recipe = json.loads((again / "recipe.json").read_text())
    assert recipe["source"] == "celeba_hq" and len(recipe["content"]) == 64
    assert "folder" not in recipe["data"] and recipe["data"]["train"] == COUNTS["train"]


@pytest.mark.parametrize("name", [celeba_hq.PARTITION, celeba_hq.MAPPING, celeba_hq.ATTRIBUTES])
def test_missing_table_of_celeba_hq_is_named(celeba, tmp_path, params, name):
    broken = tmp_path / "celeba"
    broken.mkdir()
    for path in celeba.iterdir():
        if path.name not in (name, celeba_hq.IMAGES, celeba_hq.MASKS):
            (broken / path.name).write_bytes(path.read_bytes())
    with pytest.raises(UserError, match=f"{name}: no such file"):
        make_data(tmp_path, params, "celeba_hq", broken)


def test_celeba_hq_lists_every_fault(tmp_path, params):
    root = write_celeba_hq(tmp_path / "celeba", 16)
    images, masks = root / celeba_hq.IMAGES, root / celeba_hq.MASKS / "0"
    (images / "0.jpg").unlink()
    (images / "1.jpg").write_bytes((images / "1.jpg").read_bytes()[:300])
    Image.new("L", (256, 200)).save(masks / "00002_skin.png")
    Image.new("L", (512, 512)).save(masks / "00003_tail.png")
    for path in masks.glob("00004_*.png"):
        path.unlink()
    lines = (root / celeba_hq.ATTRIBUTES).read_text().splitlines()
    (root / celeba_hq.ATTRIBUTES).write_text("\n".join(line for line in lines if not line.startswith("5.jpg")))
    Image.new("RGB", (64, 64)).save(images / "99.jpg")
    with pytest.raises(UserError) as caught:
        make_data(tmp_path, params, "celeba_hq", root)
    reasons, message = rejected(tmp_path / "outputs/data"), str(caught.value)
    expected = {
        "0.jpg": "no such file", "1.jpg": "cannot be decoded", "2.jpg": "00002_skin.png is 256x200, expected 512x512",
        "3.jpg": "unknown part tail", "4.jpg": "has no masks", "5.jpg": "has no row", "99.jpg": "has no row",
    }  # fmt: skip
    for name, reason in expected.items():
        assert reason in reasons[f"{celeba_hq.IMAGES}/{name}"]
    assert "unknown part tail" in reasons[f"{celeba_hq.MASKS}/0/00003_tail.png"] and len(reasons) == 8
    assert all(f"{file}: {reason}" in message for file, reason in reasons.items())
    assert "train: 24 requested (data.train), " in message and "too few pictures" in message


@pytest.mark.assets
def test_celeba_hq_goes_through_the_stages_up_to_the_segmentation(celeba_data, assets_dir, tmp_path, params):
    """Few images and tiny networks: that every stage takes what it is given."""
    outputs = celeba_data.parent
    if not (outputs / "assets").exists():
        (outputs / "assets").symlink_to(assets_dir)
    sections = {
        "data": params.data.model_copy(update={"source": "celeba_hq", "folder": "elsewhere", **COUNTS}),
        "generator": params.generator.model_copy(update={"kimg": 0.08, "kid_images": 8}),
        "encoder": params.encoder.model_copy(update={"val_images": 4, "kimg": 0.08, "warmup_kimg": 0.04}),
        "segmentation": params.segmentation.model_copy(update={"epochs": 1, "members": 2}),
    }
    for name in ("generator", "encoder", "segmentation"):
        (outputs / name).mkdir(exist_ok=True)
        (tmp_path / name).mkdir()
        stage_module(name).run(
            StageContext(
                name=name,
                params=params.model_copy(update=sections),
                root=outputs.parent,
                out=outputs / name,
                work=tmp_path / name,
                run=offline_run(),
                device=torch.device("cpu"),
            )
        )
    metrics = json.loads((outputs / "segmentation" / "metrics.json").read_text())
    assert {"miou_test4", "miou_val4"} <= metrics.keys()
    assert (outputs / "segmentation" / "S.safetensors").exists()
