"""The walk-through of docs/new-class.md: pictures in a folder, masks from LabelMe, `editgan new-class`, the stages."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from picture_sources import make_data
from PIL import Image
from test_data_annotations import labelme, shape
from test_pipeline_classes import run_stages
from typer.testing import CliRunner

from editgan.cli.pictures import app
from editgan.config import check_needs, load_params, read_params
from editgan.data.archive import holds_masks, load_attributes, load_classes
from editgan.data.protocol import load_protocol, read_protocol
from editgan.editing.edits import load_edits
from editgan.methods.smile import load_heads
from editgan.runtime.environment import PROJECT_ROOT
from editgan.scoring.table import Column, Row, parse_table

COUNT, MASKS, SIDE = 360, 16, 64
TAILS = np.linspace(6, 26, COUNT).round()  # length of the tail in pixels


def lizard(index: int) -> np.ndarray:
    """A green body with a red tail to its right, on coloured ground that differs enough for no picture to be a copy."""
    rng = np.random.default_rng(index)
    picture = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    top = 20 + index % 20
    picture[top : top + 10, 6:30] = (40, 180, 60)
    picture[top + 3 : top + 7, 30 : 30 + int(TAILS[index])] = (200, 40, 30)
    return picture


def drawn(index: int) -> list[dict]:
    """What a person draws in LabelMe on it."""
    top, end = 20 + index % 20, 29 + int(TAILS[index])
    return [
        shape("body", [[6, top], [29, top], [29, top + 9], [6, top + 9]]),
        shape("tail", [[30, top + 3], [end, top + 3], [end, top + 6], [30, top + 6]]),
    ]


def editgan(*arguments: str, fails: bool = False) -> str:
    done = CliRunner().invoke(app, list(arguments))
    assert (done.exit_code != 0) is fails, done.output + repr(done.exception)
    return done.output


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A project's folder after the walk-through up to `editgan import labels`."""
    root = tmp_path_factory.mktemp("walk") / "project"
    images = root / "data" / "pictures" / "lizards" / "images"
    images.mkdir(parents=True)
    shutil.copy(PROJECT_ROOT / "params.yaml", root)
    for index in range(COUNT):
        Image.fromarray(lizard(index)).save(images / f"{index:03d}.png")
    for index in range(0, COUNT, COUNT // MASKS):
        if index // (COUNT // MASKS) < MASKS:
            labelme(root / "to_label" / f"{index:03d}.json", *drawn(index), name=f"{index:03d}.png", side=SIDE)
            shutil.copy(images / f"{index:03d}.png", root / "to_label")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        editgan("import", "labels", "to_label", "--into", "data/pictures/lizards")
    return root


@pytest.fixture
def walk(project, tmp_path, monkeypatch) -> Path:
    """A copy of it as the working directory."""
    root = tmp_path / "project"
    shutil.copytree(project, root)
    monkeypatch.chdir(root)
    return root


def table(root: Path) -> None:
    """attributes.csv, as a person writes it."""
    with (root / "data/pictures/lizards/attributes.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "tail_length", "row"])
        rows.writerows([f"{index:03d}.png", TAILS[index], index % 20] for index in range(COUNT))


def test_without_an_attribute_the_run_goes_up_to_the_editing_vectors(walk):
    said = editgan("new-class", "lizards", "--pictures", "data/pictures/lizards")
    assert "360 pictures, 16 with masks of 3 classes" in said
    assert "--params params/lizards.yaml --stages assets data generator samples encoder segmentation editing" in said
    params = load_params("params/lizards.yaml")
    assert params.data.pool == params.data.few_shot == params.segmentation.labelled_images == MASKS
    check_needs(params, ["data", "generator", "samples", "encoder", "segmentation", "editing"], "params/lizards.yaml")
    edits = load_edits("params/edits/lizards.yaml", ["background", "body", "tail"])
    assert set(edits) == {"bigger_body", "bigger_tail"} and params.scoring.vector in edits
    out = make_data(walk, params, "folder", walk / params.data.folder, **sizes(params))
    assert load_classes(out / "classes.json").names == ["background", "body", "tail"] and holds_masks(out / "pool.zip")


def sizes(params) -> dict[str, int]:
    return {split: getattr(params.data, split) for split in ("train", "pool", "few_shot", "val", "test", "reference")}


def test_with_an_attribute_the_class_brings_its_benchmark(walk):
    table(walk)
    options = ["--pictures", "data/pictures/lizards", "--attribute", "tail_length", "--parts", "tail"]
    said = editgan("new-class", "lizards", *options)
    assert "python -m flows.pipeline --params params/lizards.yaml\n" in said and "benchmark.yaml" in said
    protocol = read_protocol(walk / "data/pictures/lizards")
    assert protocol.parts == ("tail",) and protocol.conditions == ("row",) and 13 < protocol.low < protocol.high < 21
    params = load_params("params/lizards.yaml")
    check_needs(params, ["interfacegan", "localediting", "maskgan", "samples"], "params/lizards.yaml")
    assert params.scoring.vector == "more_tail_length" and params.maskgan.learn_from == "pool"
    out = make_data(walk, params, "folder", walk / params.data.folder, **sizes(params))
    assert load_protocol(out) == protocol
    assert all(row["tail_length"] <= protocol.low for row in load_attributes(out / "test.zip"))
    for split in ("val", "reference"):
        without = [row["tail_length"] <= protocol.low for row in load_attributes(out / f"{split}.zip")]
        assert 0.15 < np.mean(without) < 0.5, "of both kinds, though test takes those without it first"
    heads = load_heads(out)
    assert heads.masks is None and heads.smiling is None and len(heads.photos) == params.data.test
    assert heads.region.any() and not heads.region.all(), "around the tails that are labelled"


def test_nothing_is_overwritten_and_what_is_missing_is_named(walk):
    folder = "data/pictures/lizards"
    editgan("new-class", "lizards", "--pictures", folder)
    before = Path("params/lizards.yaml").read_bytes()
    assert "params/lizards.yaml: exists and is kept" in editgan(
        "new-class", "lizards", "--pictures", folder, fails=True
    )
    assert Path("params/lizards.yaml").read_bytes() == before
    for options, fault in (
        (["Big Lizards", "--pictures", folder], "lowercase letters"),
        (["newts", "--pictures", "nowhere"], "nowhere: no such folder"),
        (["newts", "--pictures", folder, "--attribute", "tail_length"], "together"),
        (["newts", "--pictures", folder, "--attribute", "x", "--parts", "wing"], "unknown part 'wing'"),
        (["newts", "--pictures", folder, "--attribute", "x", "--parts", "tail"], "0 pictures have a number 'x'"),
    ):
        assert fault in editgan("new-class", *options, fails=True)
    Image.new("RGB", (80, 64)).save(f"{folder}/images/wide.png")
    assert "e.g. images/wide.png is 80x64" in editgan("new-class", "newts", "--pictures", folder, fails=True)
    shutil.rmtree(f"{folder}/masks")
    assert "0 pictures have masks" in editgan("new-class", "newts", "--pictures", folder, fails=True)
    assert not Path("params/newts.yaml").exists() and not Path("params/edits/newts.yaml").exists()


@pytest.mark.slow
@pytest.mark.assets
def test_every_stage_runs_on_the_class(walk, assets_dir):
    table(walk)
    options = ["--pictures", "data/pictures/lizards", "--attribute", "tail_length", "--parts", "tail"]
    editgan("new-class", "lizards", *options)
    tiny = read_params(PROJECT_ROOT / "params" / "ci.yaml")
    whole = read_params(Path("params/lizards.yaml"))
    data = whole["data"] | {"folder": str(walk / "data/pictures/lizards")}
    vectors = {name: whole["scoring"][name] for name in ("vector", "plus_vector")}
    params = tiny | {"data": data, "scoring": tiny["scoring"] | vectors}
    params["maskgan"]["learn_from"] = whole["maskgan"]["learn_from"]
    root = walk / "run"
    edits = yaml.safe_load((walk / "params/edits/lizards.yaml").read_text())
    edit = edits["more_tail_length"] | {"adds": True}  # the tiny segmentation finds no tail, so it gets a labelled one
    edit["mask"] = [{"transplant": {"parts": ["tail"], "donor": "tail_length >= 0"}}, *edit["mask"]]
    (walk / "edits.yaml").write_text(yaml.safe_dump({"more_tail_length": edit}))
    run_stages(root, assets_dir, params, walk / "edits.yaml")
    path = root / "outputs" / "benchmark" / "results.csv"
    found = parse_table(path.read_bytes(), str(path))
    assert {"editgan", "editgan_plus", "interfacegan", "localediting", "input"} <= {row.method for row in found}
    assert {column.network for column in found[Row("input")] if column.metric == "changed"} == {"judge", "parser"}
    assert Column("leak_to_input") in found[Row("reconstruction", 0.0)]
    assert "`tail_length`" in (root / "outputs" / "benchmark" / "table.md").read_text()
