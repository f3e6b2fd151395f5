"""Copies of one photograph: found by hash and pixels, kept in one split, reported; faces that look alike stay apart."""

import csv
import io
import shutil

import numpy as np
import pytest
from picture_sources import COUNTS, SPLITS, attributes_of, make_data, rejected, write_folder
from PIL import Image, ImageEnhance

from editgan.config import load_params
from editgan.data.archive import encode_image
from editgan.data.assign import people_of
from editgan.data.duplicates import connected, find_copies, perceptual_hash
from editgan.data.sources.listing import Item


@pytest.fixture(scope="module")
def params(project_root):
    return load_params(project_root / "params/ci.yaml")


def jpeg(picture: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


COPIES = {
    "saved again": lambda picture: jpeg(picture, 40),
    "resized": lambda picture: jpeg(picture.resize((72, 72), Image.Resampling.LANCZOS), 85),
    "brighter": lambda picture: ImageEnhance.Brightness(picture).enhance(1.06),
    "grey": lambda picture: picture.convert("L").convert("RGB"),
    "strong colours": lambda picture: ImageEnhance.Color(picture).enhance(1.4),
    "warmer": lambda picture: Image.fromarray((np.asarray(picture) * (1.1, 1, 0.85)).clip(0, 255).astype(np.uint8)),
    "less contrast": lambda picture: ImageEnhance.Contrast(picture).enhance(0.85),
}


def scene(seed: int, side: int = 128) -> Image.Image:
    """A smooth picture of many colours."""
    coarse = np.random.default_rng(seed).integers(20, 235, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def found(pictures: list[Image.Image]) -> list[list[int]]:
    images = [np.asarray(one.resize((64, 64), Image.Resampling.LANCZOS)) for one in pictures]
    pngs = [encode_image(image) for image in images]
    digests, hashes = [str(png) for png in pngs], [perceptual_hash(image) for image in images]
    return find_copies(digests, hashes, lambda places: (pngs[place] for place in places))


@pytest.mark.parametrize("change", COPIES)
def test_copies_are_found_and_others_are_not(change):
    pictures = [scene(seed) for seed in range(40)]
    assert found(pictures) == []
    copies = [COPIES[change](picture) for picture in pictures[:10]]
    assert found([*pictures, *copies]) == [[place, 40 + place] for place in range(10)]


@pytest.mark.parametrize("quality", [75, 60, 40])
def test_small_pictures_saved_as_jpeg_are_found(quality):
    """At 64 px, the blocks of JPEG are large: their losses must not hide a copy."""
    noise = np.random.default_rng(0).normal(0, 18, (20, 64, 64, 3))
    pictures = [Image.fromarray((scene(seed, 64) + noise[seed]).clip(0, 255).astype(np.uint8)) for seed in range(20)]
    copies = [jpeg(picture, quality) for picture in pictures]
    assert found([*pictures, *copies]) == [[place, 20 + place] for place in range(20)]


def test_equal_hashes_alone_are_no_copies():
    first = scene(1)
    pixels = np.asarray(first).copy()
    pixels[20:100, 20:110, 2] = 255 - pixels[20:100, 20:110, 2]  # hardly changes grey
    second = Image.fromarray(pixels)
    hashes = [int(perceptual_hash(np.asarray(one)), 16) for one in (first, second)]
    assert (hashes[0] ^ hashes[1]).bit_count() <= 8
    flat = [Image.new("RGB", (64, 64), (shade, 90, 90)) for shade in (10, 200)]
    inverted = Image.fromarray(255 - np.asarray(first))
    assert found([first, second, inverted, *flat]) == []


def test_rendered_heads_are_no_copies_of_each_other(project_root):
    """Aligned faces look alike to a hash; a hundred of them give candidates, and no pixels confirm one."""
    from editgan.data.archive import load_images

    path = project_root / "outputs/data/val.zip"
    if not path.exists():
        pytest.skip("outputs/data/val.zip is missing: run `dvc pull`")
    heads = load_images(path).transpose(0, 2, 3, 1)
    assert found([Image.fromarray(head) for head in heads]) == []


def test_links_join_groups_in_any_order():
    assert connected(6, [(4, 5), (1, 5), (3, 2)]) == [[0], [1, 4, 5], [2, 3]]
    items = [Item("a", person="x"), Item("b", person="x"), Item("c", person="y"), Item("d")]
    assert people_of(items, []) == ["person x", "person x", "person y", "file d"]
    assert people_of(items, [[1, 2], [2, 3]]) == ["file d"] * 4


def duplicated(root, count: int = 56):
    """A folder whose second half is equal to the first; nobody's person is known."""
    write_folder(root, count)
    with (root / "attributes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    files = [root / "images" / row["file"] for row in rows]
    for row, original in zip(rows[count // 2 :], files, strict=False):
        (root / "images" / row["file"]).unlink()
        (root / "masks" / row["file"]).with_suffix(".png").unlink()
        row["file"] = f"copy of {original.stem}{original.suffix}"
        shutil.copy(original, root / "images" / row["file"])
    with (root / "attributes.csv").open("w") as file:
        file.write("file,smile\n" + "".join(f"{row['file']},0\n" for row in rows))
    return root


def test_copies_fall_into_one_split_and_are_reported(tmp_path, params, capsys):
    own = duplicated(tmp_path / "own")
    out = make_data(tmp_path, params, "folder", own, pool=4, train=12, val=4)
    split_of = {}
    for split in SPLITS:
        for row in attributes_of(out, split):
            original = row["file"].rpartition("/")[2].removeprefix("copy of ")
            split_of.setdefault(original, set()).add(split)
    assert all(len(splits) == 1 for splits in split_of.values()) and len(split_of) >= 12
    with (out / "copies.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 56 and len({row["group"] for row in rows}) == 28
    assert "copies of one photograph, kept in one split" in capsys.readouterr().out
    (own / "attributes.csv").unlink()
    shutil.rmtree(own)
    make_data(tmp_path, params, "folder", write_folder(tmp_path / "other"))
    assert not (out / "copies.csv").exists()


def test_copies_across_the_partitions_of_a_source_are_left_out_of_training(tmp_path, params):
    own = duplicated(tmp_path / "own")
    table = own / "attributes.csv"
    head, *lines = table.read_text().splitlines()
    lines = [f"{line},{'test' if line.startswith('copy') else 'train'}" for line in lines]
    lines = [line.replace(",test", ",val") if index % 3 == 0 else line for index, line in enumerate(lines)]
    table.write_text("\n".join([f"{head},partition", *lines]))
    counts = {"pool": 1, "few_shot": 1, "train": 1, "val": 4, "test": 4, "reference": 4}
    with pytest.raises(Exception, match="too few pictures"):
        make_data(tmp_path, params, "folder", own, **counts)
    reasons = rejected(tmp_path / "outputs/data")
    assert len(reasons) == 28 and COUNTS
    assert all(not name.startswith("images/copy") or "partition test" in reason for name, reason in reasons.items())
