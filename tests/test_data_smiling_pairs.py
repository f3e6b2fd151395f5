"""Photographs of the same person neutral and smiling, as the truth of the benchmark."""

import csv
from pathlib import Path

import pytest
import torch
from picture_sources import COUNTS, face, make_data, write_folder

from editgan.config import load_params
from editgan.data.archive import count, holds_masks, load_attributes, load_images
from editgan.data.assign import Picture, assign
from editgan.methods.smile import load_heads


@pytest.fixture
def own(tmp_path) -> Path:
    """Source `folder` with masks of the neutral pictures alone, whose smiling ones name them."""
    root = write_folder(tmp_path / "own")
    with (root / "attributes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for neutral, smiling in zip(rows[::2], rows[1::2], strict=True):
        smiling["neutral"] = neutral["file"]
        (root / "masks" / smiling["file"]).with_suffix(".png").unlink()
    write(root, rows)
    return root


def write(root: Path, rows: list[dict]) -> None:
    with (root / "attributes.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, ["file", "person", "smile", "hat", "neutral"], restval="")
        table.writeheader()
        table.writerows(rows)


@pytest.fixture
def params(project_root):
    return load_params(project_root / "params/ci.yaml")


def test_smiling_pictures_become_the_truth_of_their_neutral_ones(own, tmp_path, params):
    out = make_data(tmp_path / "project", params, "folder", own, train=12)
    neutral, smiling = (load_attributes(out / f"{split}.zip") for split in ("test", "test_smiling"))
    assert count(out / "test_smiling.zip") == COUNTS["test"]
    assert [row["identity"] for row in neutral] == [row["identity"] for row in smiling]
    assert [f"images/{row['neutral']}" for row in smiling] == [row["file"] for row in neutral]
    assert {row["smile"] for row in smiling} == {1.0} and {row["smile"] for row in neutral} == {0.0}
    assert holds_masks(out / "test.zip") and not holds_masks(out / "test_smiling.zip")
    others = {
        row["identity"] for split in ("pool", "val", "reference") for row in load_attributes(out / f"{split}.zip")
    }
    assert not others & {row["identity"] for row in smiling}
    size = (params.resolution, params.resolution)
    index = int(Path(smiling[0]["file"]).stem)
    picture = torch.as_tensor(load_images(out / "test_smiling.zip"))[0].permute(1, 2, 0).float()
    shown = torch.as_tensor(face(index, 40)[0]).permute(2, 0, 1)[None].float()
    expected = torch.nn.functional.interpolate(shown, size=size, mode="bilinear", antialias=True)[0].permute(1, 2, 0)
    assert (picture - expected).abs().mean() < 12


def test_without_a_partner_for_every_one_there_is_no_truth(own, tmp_path, params):
    with (own / "attributes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if row["person"] in ("p0", "p1", "p2", "p3", "p4", "p5", "p6", "p7", "p8", "p9", "p10", "p11", "p12", "p13"):
            row["neutral"] = ""
    write(own, rows)
    out = make_data(tmp_path / "project", params, "folder", own, test=10, train=6)
    assert count(out / "test_smiling.zip") == 0


def test_benchmark_reads_photographs_with_a_truth_and_masks_of_the_neutral_ones(own, tmp_path, params):
    out = make_data(tmp_path / "project", params, "folder", own, train=12)
    (out / "classes.json").write_text(
        '[{"colour": [0, 0, 0], "name": "mouth_interior"}, {"colour": [9, 9, 9], "name": "upper_lip"},'
        ' {"colour": [5, 5, 5], "name": "lower_lip"}]'
    )
    heads = load_heads(out)
    assert heads.smiling.shape == heads.photos.shape and heads.smiling_masks is None
    assert heads.region.any() and heads.region.shape == heads.photos.shape[:1] + heads.photos.shape[2:]


def test_people_with_masks_of_what_a_split_takes_go_there_first():
    """A smiling picture without a mask does not send a person's neutral one, which has a mask, to the back."""
    labelled = [Picture(f"p{i}", None, masked=not smiles, smiles=smiles) for i in range(10) for smiles in (False, True)]
    others = [Picture(f"o{i}", None, masked=False, smiles=False) for i in range(60)]
    chosen = assign(labelled + others, {"pool": 4, "test": 6, "val": 10, "reference": 10, "train": 30}, seed=1)
    assert all(index < 20 and index % 2 == 0 for split in ("pool", "test") for index in chosen[split])
