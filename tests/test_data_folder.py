"""Stage `data` on your own pictures: splits by person, tables, hostile and broken files, and the recipes."""

import csv
import json
import os
import struct
import zlib

import numpy as np
import pytest
import torch
from picture_sources import COUNTS, SPLITS, attributes_of, make_data, rejected, write_folder
from PIL import Image
from pydantic import ValidationError

from editgan.config import load_params
from editgan.data.archive import load_classes, load_images, load_masks
from editgan.data.assign import Picture, assign, covering_first
from editgan.data.params import DataParams
from editgan.data.rendering import rendered_recipe
from editgan.data.sources import folder
from editgan.errors import UserError
from editgan.images import colourize
from editgan.segmentation.metrics import segmentation_scores


@pytest.fixture(scope="module")
def params(project_root):
    return load_params(project_root / "params/ci.yaml")


@pytest.fixture
def own(tmp_path):
    return write_folder(tmp_path / "own")


def test_folder_is_split_by_person(own, tmp_path, params):
    out = make_data(tmp_path, params, "folder", own)
    people = {split: {row["identity"] for row in attributes_of(out, split)} for split in SPLITS}
    assert sum(map(len, people.values())) == len(set().union(*people.values()))
    assert {row["smile"] for row in attributes_of(out, "test")} == {0.0}
    assert load_masks(out / "val.zip").max() == 1 and load_classes(out / "classes.json").names == ["background", "face"]
    rows = [row for split in SPLITS for row in attributes_of(out, split)]
    assert {row["hat"] for row in rows if "hat" in row} == {"red"} and not all("hat" in row for row in rows)


@pytest.mark.parametrize("name", ["attributes.xlsx", "Attributes.csv.txt"])
def test_a_table_under_another_name_is_not_left_out_in_silence(own, name):
    (own / "attributes.csv").rename(own / name)
    (own / "rejected_lfw.csv").write_text("file,reason\n")
    assert f"not used: {name}; the table must be called attributes.csv" in folder.list_pictures(own).notes


def test_one_person_in_any_letter_case_is_one_person(own):
    """Otherwise pictures of Anna and of anna would be in training and in test."""
    table, before = own / "attributes.csv", [item.person for item in folder.list_pictures(own).items]
    header, *lines = table.read_text().splitlines(keepends=True)
    lines = [line.replace(",p", ",Mr  P" if place % 2 else ",mr p") for place, line in enumerate(lines)]
    table.write_text(header + "".join(lines))
    after = [item.person for item in folder.list_pictures(own).items]
    groups = {(old, new.casefold().split()[-1]) for old, new in zip(before, after, strict=True)}
    assert len(set(before)) == len(set(after)) == len(groups) > 9


def test_folder_keeps_its_own_partition_and_people_out_of_two(own, tmp_path, params):
    with (own / "attributes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    people = sorted({row["person"] for row in rows})
    halves = {person: "train" if index % 2 else "test" for index, person in enumerate(people)}
    halves |= dict.fromkeys(people[-4:], "")
    for row in rows:
        row["partition"] = halves[row["person"]]
    torn = [row for row in rows if row["person"] == people[0]]
    torn[0]["partition"], rows[-1]["partition"] = "train", "dev"
    with (own / "attributes.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    out = make_data(tmp_path, params, "folder", own, train=12, val=4)
    partition = {f"images/{row['file']}": row["partition"] for row in rows}
    taken = {split: {partition[row["file"]] for row in attributes_of(out, split)} for split in SPLITS}
    assert taken["train"] | taken["pool"] <= {"train", ""} and taken["test"] | taken["reference"] <= {"test", ""}
    assert taken["val"] == {""}, "there are no others"
    reasons = rejected(out)
    for row in torn:
        assert "in several partitions: test, train" in reasons[f"images/{row['file']}"]
    assert "partition is 'dev'; valid values are train, val, test" in reasons[f"images/{rows[-1]['file']}"]


def test_folder_of_pictures_alone_is_enough_for_a_generator(tmp_path, params):
    own = write_folder(tmp_path / "own", masked=False)
    (own / "attributes.csv").unlink()
    out = make_data(tmp_path, params, "folder", own)
    assert load_images(out / "train.zip").shape == (24, 3, 32, 32)
    assert len({row["identity"] for split in SPLITS for row in attributes_of(out, split)}) == sum(
        COUNTS[split] for split in SPLITS
    ), "each is a person"
    with pytest.raises(UserError, match="holds no part masks"):
        load_masks(out / "pool.zip")


def test_masked_pictures_are_used_where_masks_are_needed(own, tmp_path, params):
    for index in range(0, 56, 2):
        for path in (own / "masks").rglob(f"{index:03d}.png"):
            if index >= 40:
                path.unlink()
    out = make_data(tmp_path, params, "folder", own)
    assert all(len(load_masks(out / f"{split}.zip")) == COUNTS[split] for split in ("pool", "val", "test"))
    with pytest.raises(UserError, match="holds no part masks"):
        load_masks(out / "train_labels.zip")


def test_pixels_without_a_label_stay_without_one(own, tmp_path, params):
    for path in (own / "masks").rglob("*.png"):
        mask = np.array(Image.open(path))
        mask[:10] = 255
        Image.fromarray(mask).save(path)
    out = make_data(tmp_path, params, "folder", own)
    masks = load_masks(out / "pool.zip")
    assert (masks[:, :6] == 255).all() and masks[:, 12:].max() <= 1
    assert colourize(torch.as_tensor(masks), torch.zeros(2, 3, dtype=torch.uint8))[:, :, :6].min() == 255
    scores = segmentation_scores(torch.zeros(1, 2, 2), torch.tensor([[[0, 255], [0, 1]]]), ["a", "b"])
    assert scores.pixel_accuracy == pytest.approx(2 / 3)


def test_masks_of_painting_programs_give_the_same_archives(own, tmp_path, params):
    """Palettes in another order, without unused colours, and pictures of colours: by the colours of classes.json."""
    first = load_masks(make_data(tmp_path, params, "folder", own) / "pool.zip")
    classes = load_classes(own / "classes.json")
    for number, path in enumerate(sorted((own / "masks").rglob("*.png"))):
        labels = np.array(Image.open(path))
        picture = Image.fromarray(classes.palette[labels])
        picture = picture.quantize(8) if number % 3 == 0 else picture.convert("RGBA") if number % 3 == 1 else picture
        picture.save(path)
    assert np.array_equal(load_masks(make_data(tmp_path, params, "folder", own) / "pool.zip"), first)


def bomb() -> bytes:
    """A PNG of 40,000 x 40,000 black pixels in few bytes."""
    header = struct.pack(">IIBBBBB", 40_000, 40_000, 1, 0, 0, 0, 0)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_every_rejected_file_is_listed_with_its_reason(own, tmp_path, params):
    images, masks = own / "images", own / "masks"
    (images / "001.png").write_bytes((images / "001.png").read_bytes()[:200])
    (images / "002.png").write_bytes(b"")
    (images / "003.png").write_bytes(bomb())
    Image.new("RGB", (40, 30)).save(images / "005.png")
    Image.new("RGB", (16, 16)).save(images / "006.png")
    Image.new("F", (40, 40)).save(images / "007.png", "TIFF")
    Image.new("RGBA", (40, 40), (9, 9, 9, 0)).save(images / "009.png")
    Image.new("L", (39, 40)).save(masks / "010.png")
    Image.new("L", (40, 40), 7).save(masks / "011.png")
    Image.new("RGB", (40, 40), (250, 0, 250)).save(masks / "013.png")
    Image.new("L", (40, 40)).save(masks / "stray.png")
    Image.new("RGB", (40, 40)).save(images / "no_row.png")
    Image.new("RGB", (40, 40)).save(images / "014.jpg")
    (images / "gif.gif").write_bytes(b"GIF89a")
    (images / "text.txt").touch()
    with (own / "attributes.csv").open("a") as file:
        file.write("gif.gif,p1,0,\n")
    (images / "015.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n")
    table = own / "attributes.csv"
    table.write_text(table.read_text() + "gone.png,p1,0,\n018.png,p1,0,\n014.jpg,p1,0,\n")
    with pytest.raises(UserError) as caught:
        make_data(tmp_path, params, "folder", own)
    reasons, message = rejected(tmp_path / "outputs/data"), str(caught.value)
    expected = {
        "001.png": "cannot be decoded", "002.png": "cannot be decoded", "003.png": "", "005.png": "not square",
        "006.png": "smaller than the resolution 32", "007.png": "floating-point", "009.png": "transparent",
        "010.png": "masks/010.png is 39x40, expected 40x40", "011.png": "has the label 7",
        "013.png": "(250, 0, 250) in 1600 pixels",
        "no_row.png": "has no row in attributes.csv", "014.png": "another picture has", "gif.gif": "cannot be decoded",
        "text.txt": "not a picture",
        "015.png": "cannot be decoded", "gone.png": "does not exist", "018.png": "a second row for this file",
    }  # fmt: skip
    for name, reason in expected.items():
        assert reason in reasons[f"images/{name}"], (name, reasons[f"images/{name}"])
    assert "40000x40000" in reasons["images/003.png"] or "too large" in reasons["images/003.png"]
    assert reasons["masks/stray.png"] == "belongs to no picture"
    assert all(f"{file}: {reason}" in message for file, reason in reasons.items())
    assert [path.name for path in (tmp_path / "outputs/data").iterdir()] == ["rejected.csv"], "nothing else is written"
    kept = make_data(tmp_path, params, "folder", own, train=12)
    assert rejected(kept) == reasons and json.loads((kept / "metrics.json").read_text())["rejected"] == len(reasons)
    used = {row["file"] for split in SPLITS for row in attributes_of(kept, split)}
    assert not used & reasons.keys(), "what is rejected is not used"


def test_links_and_paths_that_lead_out_are_never_opened(own, tmp_path, params):
    secret = tmp_path / "secret.png"
    Image.new("RGB", (40, 40), (1, 2, 3)).save(secret)
    (own / "images/001.png").unlink()
    (own / "images/001.png").symlink_to(secret)
    (own / "masks/002.png").unlink()
    (own / "masks/002.png").symlink_to(secret)
    (own / "images/linked").symlink_to(tmp_path)
    os.mkfifo(own / "images/pipe.png")
    table = own / "attributes.csv"
    table.write_text(table.read_text() + f"../../secret.png,p1,0,\n{secret},p1,0,\npipe.png,p1,0,\n")
    out = make_data(tmp_path, params, "folder", own, train=12)
    reasons = rejected(out)
    assert reasons["images/001.png"] == "is a symbolic link" == reasons["images/linked"]
    assert reasons["images/002.png"] == "its mask masks/002.png is a symbolic link"
    assert reasons["images/pipe.png"] == "is not a regular file"
    assert "leads out of the folder" in reasons["images/../../secret.png"]
    assert "leads out of the folder" in reasons[f"images/{secret}"]
    assert not [row for split in SPLITS for row in attributes_of(out, split) if "secret" in row["file"]]
    (own / "images").rename(tmp_path / "images")
    (own / "images").symlink_to(tmp_path / "images")
    with pytest.raises(UserError, match="images: is a symbolic link"):
        make_data(tmp_path, params, "folder", own)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("name,smile\na.png,1\n", "no column `file`; the header must name it, but has: name, smile"),
        ("file,identity\na.png,1\n", "the column with the person of a picture must be called `person`"),
        ("file,file\na.png,1\n", "name each column once"),
    ],
)
def test_bad_table_is_refused(own, text, fault):
    (own / "attributes.csv").write_text(text)
    with pytest.raises(UserError, match=fault):
        folder.list_pictures(own)


@pytest.mark.parametrize("cell", ["yes", "2", "nan", "-0.1"])
def test_bad_value_rejects_its_row_and_picture(own, cell):
    table = own / "attributes.csv"
    table.write_text(table.read_text().replace("001.png,p0,1", f"001.png,p0,{cell}"))
    reasons = dict(folder.list_pictures(own).rejected)
    assert f"attributes.csv, row 3: smile is '{cell}'; expected a number from 0 to 1" in reasons["images/001.png"]


def test_changed_file_is_read_again_and_changes_the_recipe(own, tmp_path, params):
    first = (make_data(tmp_path, params, "folder", own) / "recipe.json").read_bytes()
    assert (make_data(tmp_path, params, "folder", own) / "recipe.json").read_bytes() == first
    Image.new("RGB", (40, 40), (9, 9, 9)).save(own / "images/001.png")
    assert (make_data(tmp_path, params, "folder", own) / "recipe.json").read_bytes() != first


def test_changed_mask_changes_the_labels_and_not_the_recipe(own, tmp_path, params):
    def made():
        folder = make_data(tmp_path, params, "folder", own)
        return [(folder / name).read_bytes() for name in ("recipe.json", "labels.json")]

    recipe, labels = made()
    path = own / "masks/001.png"
    mask = Image.open(path)
    mask.putpixel((0, 0), (mask.getpixel((0, 0)) + 1) % 2)
    mask.save(path)
    same_recipe, other_labels = made()
    assert recipe == same_recipe and labels != other_labels


def test_folder_that_is_not_there_is_named(tmp_path, params):
    with pytest.raises(UserError, match="data.folder nowhere: no such folder"):
        make_data(tmp_path, params, "folder", "nowhere")


@pytest.mark.parametrize("given", [{"source": "folder"}, {"folder": "pictures"}, {"source": "lsun", "folder": "x"}])
def test_source_and_folder_belong_together(given):
    with pytest.raises(ValidationError):
        DataParams(train=1, pool=1, few_shot=1, val=1, test=2, reference=2, **given)


def test_recipe_of_rendered_heads_is_as_it_was(project_root):
    """Everything shipped was trained on data of this recipe."""
    params = load_params(project_root / "params.yaml")
    text = json.dumps(rendered_recipe(params), indent=2, sort_keys=True)
    assert text + "\n" == (
        '{\n  "data": {\n    "few_shot": 16,\n    "pool": 320,\n    "reference": 2000,\n    "supersample": 2,\n'
        '    "test": 400,\n    "train": 20000,\n    "val": 500\n  },\n  "renderer": 1,\n  "resolution": 64,\n'
        '  "seed": 0\n}\n'
    )


def test_assignment_keeps_people_apart_and_fills_exactly():
    rng = np.random.default_rng(0)
    pictures = [Picture(str(rng.integers(60)), None, bool(rng.integers(2)), bool(rng.integers(2))) for _ in range(300)]
    counts = {"pool": 10, "test": 12, "val": 15, "reference": 20, "train": 100}
    chosen = assign(pictures, counts, seed=3)
    assert {split: len(mine) for split, mine in chosen.items()} == counts
    people = [{pictures[index].person for index in mine} for mine in chosen.values()]
    assert sum(map(len, people)) == len(set().union(*people))
    assert all(pictures[index].masked for index in chosen["pool"])
    assert not any(pictures[index].smiles for index in chosen["test"])
    assert assign(pictures, counts, seed=3) == chosen != assign(pictures, counts, seed=4)


def test_labelled_pictures_cover_every_class_first():
    shown = np.zeros((6, 4), bool)
    shown[:, 0] = True
    shown[[2, 3], 1] = shown[4, 2] = shown[5, 3] = True
    order = covering_first(shown, 3)
    assert sorted(order) == list(range(6)) and shown[order[:3]].any(0).all() and order[3:] == sorted(order[3:])
