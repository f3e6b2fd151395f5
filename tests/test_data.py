"""The rendered heads: what a picture depends on, what differs between two, and what the archives hold."""

import dataclasses
import hashlib
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import scipy.ndimage

from editgan.data.archive import (
    ArchiveError,
    count,
    encode_image,
    encode_mask,
    load_attributes,
    load_classes,
    load_images,
    load_masks,
    save_classes,
    write_archive,
)
from editgan.data.drawing.mesh import vertex_normals
from editgan.data.drawing.raster import majority, rasterise
from editgan.data.heads.head import FEW_SHOT, sample_head
from editgan.data.heads.mesh import load_head_mesh
from editgan.data.heads.paint import CLASS, CLASSES
from editgan.data.heads.render import render
from editgan.data.splits import SPLITS
from editgan.images import EYE_CENTRE, EYE_DISTANCE

MOUTH = [CLASS[name] for name in ("upper_lip", "lower_lip", "mouth_interior")]


def draw(split: str, index: int, *, resolution: int = 64, **changes):
    mesh = load_head_mesh()
    head = sample_head(mesh, split, index, seed=0, few_shot=16)
    view = dataclasses.replace(head.view, **changes)
    return render(mesh, head.who, head.expression, view, resolution=resolution, supersample=2)


@pytest.fixture(scope="module")
def few_shot():
    images, masks = zip(*(draw("pool", index) for index in range(16)), strict=True)
    return np.stack(images), np.stack(masks)


def test_rasteriser_agrees_with_ray_casting():
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 24, (60, 3)).astype(np.float32)
    faces = rng.permutation(60).reshape(20, 3)
    corners = points[faces, :2]  # [F, 3, 2]
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    behind = first[:, 0] * second[:, 1] > first[:, 1] * second[:, 0]
    assert len(rasterise(points, faces[behind], 24).face) == 0
    faces[behind] = faces[behind, ::-1]  # seen from the front
    surface = rasterise(points, faces, 24)
    seen = np.full(24 * 24, -1)
    seen[surface.pixel] = surface.face
    expected, nearest = np.full(24 * 24, -1), np.full(24 * 24, -np.inf)
    for number, (a, b, c) in enumerate(points[faces].astype(np.float64)):
        edges = np.array([b[:2] - a[:2], c[:2] - a[:2]]).T
        for pixel in range(24 * 24):
            place = np.array([pixel % 24 + 0.5, pixel // 24 + 0.5])
            u, v = np.linalg.solve(edges, place - a[:2])
            depth = a[2] + u * (b[2] - a[2]) + v * (c[2] - a[2])
            if u >= 0 and v >= 0 and u + v <= 1 and depth > nearest[pixel]:
                expected[pixel], nearest[pixel] = number, depth
    assert (seen == expected).mean() > 0.999
    assert np.allclose(surface.depth, nearest[surface.pixel], atol=1e-3)


def test_normals_of_a_tetrahedron_point_outwards():
    points = np.float32([[1, 1, 1], [-1, -1, 1], [-1, 1, -1], [1, -1, -1]])
    faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    assert np.allclose(vertex_normals(points, faces), points / np.sqrt(3), atol=1e-6)


def test_a_pixel_has_the_class_of_most_samples():
    labels = np.uint8([[1, 1, 0, 7], [1, 12, 7, 0]])
    labels = np.concatenate([labels, labels[::-1]])
    assert majority(labels, 2, 13).tolist() == [[1, 7], [1, 7]]  # in a tie the part wins over the background


def test_a_head_depends_on_nothing_but_its_seed_split_and_index():
    script = (
        "import hashlib; from editgan.data.heads.mesh import load_head_mesh; from editgan.data.heads.head import "
        "sample_head; from editgan.data.heads.render import render; m = load_head_mesh(); h = sample_head(m, 'val', 7,"
        " seed=0); i, k = render(m, h.who, h.expression, h.view, resolution=64, supersample=2);"
        " print(hashlib.sha256(i.tobytes() + k.tobytes()).hexdigest())"
    )
    elsewhere = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    draw("train", 3)
    image, mask = draw("val", 7)
    assert hashlib.sha256(image.tobytes() + mask.tobytes()).hexdigest() == elsewhere.strip()
    assert not np.array_equal(image, draw("val", 8)[0])


def test_no_identity_is_in_two_splits():
    mesh = load_head_mesh()
    heads = {s: [sample_head(mesh, s, i, seed=0) for i in (0, 1, 2)] for s in SPLITS}
    names = {s: {h.identity for h in heads[s]} for s in SPLITS}
    assert names.pop("test_smiling") == names["test"]
    assert len(set.union(*names.values())) == 15
    people = [repr(h.who) for s in SPLITS if s != "test_smiling" for h in heads[s]]
    assert len(set(people)) == 15
    assert repr(heads["test"][0].who) == repr(heads["test_smiling"][0].who)
    other = sample_head(mesh, "train", 0, seed=1)
    assert repr(other.who) != repr(heads["train"][0].who)


def test_left_and_right_are_the_persons_own(few_shot):
    _, masks = few_shot
    columns = np.arange(masks.shape[2])[None, None].repeat(len(masks), 0).repeat(masks.shape[1], 1)
    for part in ("eye", "brow", "ear"):
        left = columns[masks == CLASS[f"left_{part}"]].mean()
        right = columns[masks == CLASS[f"right_{part}"]].mean()
        assert left > right + 8, part  # the left of a person who looks at us is at the right of the picture


def test_parts_lie_in_the_order_of_a_face(few_shot):
    _, masks = few_shot
    rows = np.arange(masks.shape[1])[None, :, None].repeat(len(masks), 0).repeat(masks.shape[2], 2)
    height = {name: rows[masks == number].mean() for name, number in CLASS.items()}
    order = ["hair", "left_brow", "left_eye", "nose", "upper_lip", "lower_lip", "neck", "clothing"]
    assert sorted(order, key=height.get) == order


def test_eyes_stand_in_the_framing():
    straight = {"yaw": 0.0, "pitch": 0.0, "roll": 0.0, "shift": (0.0, 0.0), "zoom": 1.0}
    centres = []
    for index in range(12):
        _, mask = draw("test", index, resolution=128, **straight)
        rows, columns = np.mgrid[:128, :128] + 0.5
        if all((mask == CLASS[f"{side}_eye"]).sum() > 20 for side in ("left", "right")):
            centres.append(
                [[a[mask == CLASS[f"{side}_eye"]].mean() / 128 for a in (columns, rows)] for side in ("right", "left")]
            )
    right, left = np.mean(centres, 0)
    assert abs(left[0] - right[0] - EYE_DISTANCE) < 0.09 * EYE_DISTANCE
    assert np.allclose((left + right) / 2, EYE_CENTRE, atol=0.07 * EYE_DISTANCE)  # lids hide the upper part of an eye


def test_few_shot_heads_show_every_class_and_open_smiles(few_shot):
    _, masks = few_shot
    pixels = np.stack([np.bincount(m.ravel(), minlength=len(CLASSES.names)) for m in masks])
    assert (pixels.sum(0) > 0).all(), [n for n, p in zip(CLASSES.names, pixels.sum(0), strict=True) if p == 0]
    wide = [i for i, row in enumerate(FEW_SHOT) if row[3] > 0.8]
    assert len(wide) >= 3
    assert (pixels[wide, CLASS["mouth_interior"]] >= 6).sum() >= 3


def test_a_smile_changes_the_face_and_nothing_else():
    clothing = 0
    for index in range(6):
        (neutral, mask), (smiling, smiling_mask) = draw("test", index), draw("test_smiling", index)
        change = np.abs(neutral.astype(int) - smiling).max(2)
        still = scipy.ndimage.minimum_filter(mask, 3) == scipy.ndimage.maximum_filter(smiling_mask, 3)
        assert not change[still & (mask == CLASS["background"])].any()
        clothed = still & (mask == CLASS["clothing"])
        assert change[clothed].max(initial=0) <= 4  # a collar may stir with the neck
        clothing += clothed.sum()
        assert not change[: int(0.2 * 64)].any()  # forehead and hair
        changed = change > 0
        mouth = np.isin(mask, MOUTH) | np.isin(smiling_mask, MOUTH)
        assert changed[mouth].mean() > 0.8
    assert clothing > 100


def test_smiling_heads_show_more_of_the_mouth():
    area = {s: np.mean([np.isin(draw(s, i)[1], MOUTH).sum() for i in range(8)]) for s in ("test", "test_smiling")}
    assert area["test_smiling"] > 1.3 * area["test"]


@pytest.mark.parametrize("resolution", [32, 64, 128, 256])
def test_a_head_is_the_same_at_every_resolution(resolution):
    image, mask = draw("val", 1, resolution=resolution)
    assert image.shape == (resolution, resolution, 3) and mask.shape == (resolution, resolution)
    small = image.reshape(32, resolution // 32, 32, resolution // 32, 3).mean((1, 3))
    assert np.abs(small - draw("val", 1, resolution=32)[0]).mean() < 4


def test_half_of_the_reference_smiles():
    mesh = load_head_mesh()
    smiles = [sample_head(mesh, "reference", i, seed=0).expression.smile > 0 for i in range(10)]
    assert smiles == [False, True] * 5


def write(path, **changes):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    masks = rng.integers(0, len(CLASSES.names), (3, 8, 8), dtype=np.uint8)
    content = {
        "images": [encode_image(i) for i in images],
        "masks": [encode_mask(m, CLASSES.palette) for m in masks],
        "attributes": [{"smile": k / 3} for k in range(3)],
    } | changes
    write_archive(path, **content)
    return images, masks


def test_an_archive_gives_back_what_was_written(tmp_path):
    images, masks = write(tmp_path / "a.zip")
    assert np.array_equal(load_images(tmp_path / "a.zip"), images.transpose(0, 3, 1, 2))
    assert np.array_equal(load_masks(tmp_path / "a.zip", [2, 0]), masks[[2, 0]])
    assert [a["smile"] for a in load_attributes(tmp_path / "a.zip")] == [0, 1 / 3, 2 / 3]
    assert count(tmp_path / "a.zip") == 3
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.namelist()[:2] == ["dataset.json", "img/00000.png"]
        assert archive.read("dataset.json") == b'{"labels": null}'


def test_an_archive_has_the_same_bytes_in_every_process(tmp_path):
    script = (
        "import sys; sys.path.insert(0, 'tests'); from pathlib import Path; from test_data import write;"
        " write(Path(sys.argv[1]))"
    )
    for name in "ab":
        subprocess.run([sys.executable, "-c", script, tmp_path / name], check=True)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_classes_are_written_and_read(tmp_path):
    save_classes(tmp_path / "classes.json", CLASSES)
    classes = load_classes(tmp_path / "classes.json")
    assert classes.names == CLASSES.names and np.array_equal(classes.palette, CLASSES.palette)
    assert len(classes.names) == 17 and classes.index("mouth_interior") == 9
    with pytest.raises(KeyError, match="moustache"):
        classes.index("moustache")
    (tmp_path / "bad.json").write_text('{"names": 3}')
    with pytest.raises(ArchiveError, match="bad.json"):
        load_classes(tmp_path / "bad.json")


def test_errors_name_the_archive_and_the_remedy(tmp_path):
    with pytest.raises(ArchiveError, match="absent.zip does not exist.*editgan data"):
        load_images(tmp_path / "absent.zip")
    write(tmp_path / "whole.zip")
    (tmp_path / "cut.zip").write_bytes((tmp_path / "whole.zip").read_bytes()[:300])
    with pytest.raises(ArchiveError, match="cut.zip is damaged"):
        load_images(tmp_path / "cut.zip")
    content = bytearray((tmp_path / "whole.zip").read_bytes())
    start = content.find(b"IDAT")
    content[start + 8 : start + 40] = bytes(32)
    (tmp_path / "flipped.zip").write_bytes(content)
    with pytest.raises(ArchiveError, match="img/00000.png is damaged"):
        load_images(tmp_path / "flipped.zip")
    with pytest.raises(ArchiveError, match="index 3 does not exist"):
        load_images(tmp_path / "whole.zip", [3])
    write(tmp_path / "images.zip", masks=None, attributes=None)
    with pytest.raises(ArchiveError, match="no part masks"):
        load_masks(tmp_path / "images.zip")
    with pytest.raises(ArchiveError, match="no attributes.json"):
        load_attributes(tmp_path / "images.zip")
