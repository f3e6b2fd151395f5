"""The whole pipeline on photographs at params/ci-photos.yaml size: imported, learned from, edited and judged."""

import csv
import json
import os
import shutil
import tarfile
from pathlib import Path

import pytest
from fake_project import copy_databases, run_pipeline
from typer.testing import CliRunner

from editgan.cli.pictures import app
from editgan.data.archive import holds_masks, load_attributes
from editgan.runtime.environment import PROJECT_ROOT
from flows.checkout import prepare_checkout

pytestmark = [
    pytest.mark.pipeline,
    pytest.mark.skipif(not os.environ.get("EDITGAN_PHOTOS"), reason="EDITGAN_PHOTOS names no folder of photos"),
]
PEOPLE = 32  # of the London set: 16 are labelled, 16 judged
PHOTOS = 400  # of LFW
MINUTES = 15  # after which a run counts as stuck


def some_of_lfw(source: Path, archive: Path) -> None:
    """Every eleventh person's photos, at most two of each."""
    with tarfile.open(source) as whole, tarfile.open(archive, "w") as some:
        taken: dict[str, int] = {}
        people: dict[str, int] = {}
        for entry in whole:
            person = Path(entry.name).parent.name
            if not entry.isfile() or people.setdefault(person, len(people)) % 11 or taken.get(person, 0) == 2:
                continue
            some.addfile(entry, whole.extractfile(entry))
            taken[person] = taken.get(person, 0) + 1
            if sum(taken.values()) == PHOTOS:
                return


def some_of_london(source: Path, folder: Path) -> None:
    folder.mkdir()
    shutil.copy(source / "curves.csv", folder)
    people = sorted(path.stem for path in source.glob("neutral/*.jpg"))[:PEOPLE]
    for path in sorted(source.glob("*/*")):
        if path.stem in people:
            (folder / path.parent.name).mkdir(exist_ok=True)
            shutil.copy(path, folder / path.parent.name)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory, assets_dir) -> tuple[Path, str]:
    """A checkout after one run on imported photos: its folder, and what was said."""
    source, here = Path(os.environ["EDITGAN_PHOTOS"]), tmp_path_factory.mktemp("photos")
    some_of_lfw(source / "lfw-deepfunneled.tar", here / "lfw.tar")
    some_of_london(source / "london", here / "london")
    faces = here / "faces"
    for collection, path, more in (
        ("london", here / "london", []),
        ("lfw", here / "lfw.tar", ["--labels", str(source / "lfw-expressions-legend.csv")]),
    ):
        options = ["--into", str(faces), "--side", "64", "--outputs", str(assets_dir.parent), *more]
        done = CliRunner().invoke(app, ["import", collection, str(path), *options])
        assert done.exit_code == 0, done.output
    root = here / "project"
    params = here / "params" / "ci-photos.yaml"
    (params.parent / "edits").mkdir(parents=True)
    shutil.copy(PROJECT_ROOT / "params" / "edits" / "ci-photos.yaml", params.parent / "edits")
    text = (PROJECT_ROOT / "params" / "ci-photos.yaml").read_text()
    assert "folder: data/pictures/faces" in text
    params.write_text(text.replace("folder: data/pictures/faces", f"folder: {faces}"))
    prepare_checkout(PROJECT_ROOT, root, params, cache=here / "dvc-cache", results=False)
    copy_databases(root)
    archives = Path(os.environ.get("EDITGAN_ASSET_CACHE") or PROJECT_ROOT / ".cache" / "assets")
    archives.mkdir(parents=True, exist_ok=True)
    (root / ".cache" / "assets").symlink_to(archives)
    done = run_pipeline(root, timeout=60 * MINUTES)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-12000:]
    return root, done.stdout


def test_photos_are_split_by_person_and_labelled_people_are_not_judged(checkout):
    data = checkout[0] / "outputs" / "data"
    pool, test, truth = (load_attributes(data / f"{name}.zip") for name in ("pool", "test", "test_smiling"))
    assert all(row["file"].startswith("images/london/neutral/") for row in [*pool, *test])
    assert len(pool) == len(test) == 16 and not {row["identity"] for row in pool} & {row["identity"] for row in test}
    assert [row["identity"] for row in truth] == [row["identity"] for row in test]
    assert all(row["file"].startswith("images/london/smiling/") for row in truth)
    train = load_attributes(data / "train_labels.zip")
    assert not any(row["file"].startswith("images/london/") for row in train)
    assert len({row["yaw"] for row in train}) > 100, "the poses were measured at import"
    assert holds_masks(data / "pool.zip") and holds_masks(data / "test.zip") and not holds_masks(data / "val.zip")


def test_methods_are_judged_against_the_true_smiles_and_maskgan_is_left_out(checkout):
    root, said = checkout
    table = (root / "outputs" / "benchmark" / "table.md").read_text()
    assert "# Smile benchmark on 16 heads" in said and "| InterFaceGAN " in said and "| MaskGAN " not in said
    rows = json.loads((root / "outputs" / "benchmark" / "metrics.json").read_text())["smile_test16"]
    assert {"truly_smiling", "editgan", "interfacegan", "localediting", "distillation"} <= rows.keys()
    assert not any("maskgan" in name for name in rows) and "MaskGAN is left out" in table
    assert "lpips_alex" in rows["editgan"], "measured against the true smile"
    assert not json.loads((root / "outputs" / "maskgan" / "metrics.json").read_text())["train_masks"]
    report = (root / "outputs" / "report" / "index.html").read_text()
    assert "smile benchmark on 16 photographs" in report and "truly smiling" in report


def test_rejected_photos_are_listed(checkout):
    faces = checkout[0].parent / "faces"
    with (faces / "rejected_lfw.csv").open(newline="") as file:
        assert all(row["reason"] for row in csv.DictReader(file))
    with (faces / "attributes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sum(row["file"].startswith("london/") for row in rows) == 2 * PEOPLE
    assert sum(row["file"].startswith("lfw/") for row in rows) > 0.97 * PHOTOS
