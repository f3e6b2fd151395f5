"""Files of a source one by one: every kind of picture, and tables, masks and names made in bad faith."""

import io
import json
import os
import zlib

import numpy as np
import pytest
from picture_sources import CLASSES, make_data, write_celeba_hq, write_folder
from PIL import Image

from editgan.config import load_params
from editgan.data.archive import Classes
from editgan.data.reading import majority, pose, read_labels, read_one
from editgan.data.sources import celeba_hq, folder
from editgan.data.sources.listing import Item, files_below, rejected_csv
from editgan.errors import UserError

SIDE = 32
ONE_CLASS = Classes(["background"], np.zeros((1, 3), np.uint8))


def halves(mode: str, top: int = 51, bottom: int = 204) -> Image.Image:
    """A grey picture, dark above and light below."""
    grey = np.repeat(np.array([top, bottom], np.uint8), SIDE // 2)[:, None].repeat(SIDE, 1)
    return Image.fromarray(grey).convert("RGB").convert(mode)


def read(root, name: str) -> tuple[np.ndarray | None, str]:
    """The picture [H, W, 3], or the reason why not."""
    picture, _, known = read_one(Item(name), root=root, resolution=SIDE, classes=ONE_CLASS)
    return (np.array(Image.open(io.BytesIO(picture))), "") if picture else (None, known["reason"])


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "CMYK", "1"])
def test_every_kind_of_eight_bit_picture_becomes_rgb(tmp_path, mode):
    name = "a.jpg" if mode == "CMYK" else "a.png"
    halves(mode, *((0, 255) if mode == "1" else ())).save(tmp_path / name)
    picture, reason = read(tmp_path, name)
    assert picture is not None, reason
    top, bottom = (0, 255) if mode == "1" else (51, 204)
    expected = np.array(halves("RGB", top, bottom), float)
    assert picture.shape == (SIDE, SIDE, 3) and abs(picture - expected).mean() < 4


@pytest.mark.parametrize(("orientation", "dark"), [(1, "top"), (3, "bottom"), (6, "right"), (8, "left")])
def test_pictures_are_turned_as_their_exif_data_say(tmp_path, orientation, dark):
    exif = Image.Exif()
    exif[0x0112] = orientation
    halves("RGB").save(tmp_path / "a.jpg", exif=exif)
    picture, _ = read(tmp_path, "a.jpg")
    sides = {"top": picture[:8], "bottom": picture[-8:], "left": picture[:, :8], "right": picture[:, -8:]}
    assert min(sides, key=lambda side: sides[side].mean()) == dark


def test_damaged_exif_data_and_texts_that_unpack_without_end_are_told(tmp_path):
    content = io.BytesIO()
    halves("RGB").save(content, "PNG")
    text = b"zTXtkey\0\0" + zlib.compress(bytes(2**27), 9)
    chunk = (len(text) - 4).to_bytes(4, "big") + text + zlib.crc32(text).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(content.getvalue()[:33] + chunk + content.getvalue()[33:])
    assert "more than 1 MiB of text" in read(tmp_path, "a.png")[1]
    halves("RGB").save(tmp_path / "b.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    picture, reason = read(tmp_path, "b.jpg")
    assert picture is not None or "cannot be decoded" in reason


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_grey_masks_hold_class_numbers_of_any_depth(bits):
    """Pillow spreads the sixteen greys of 4 bits over 0 to 255: class 1 would come as 17."""
    row = (1 << (16 * bits - bits) | 1).to_bytes(2 * bits, "big")  # 1 in the first and the last pixel
    rows = b"".join(b"\0" + row for _ in range(16))
    header = (16).to_bytes(4, "big") * 2 + bytes([bits, 0, 0, 0, 0])

    def chunk(kind: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    labels = read_labels(png, None, (16, 16), classes=20)
    assert (labels[:, [0, -1]] == 1).all() and not labels[:, 1:-1].any()


@pytest.mark.parametrize(
    "content",
    [
        '{"name": "face"}',
        "[" * 100_000,
        '[{"name": ["face"], "colour": [1, 2, 3]}, {"name": "b", "colour": [1, 2, 3]}]',
        '[{"name": "", "colour": [1, 2, 3]}, {"name": "b", "colour": [1, 2, 3]}]',
        '[{"name": "a", "colour": [1, 2, 300]}, {"name": "b", "colour": [1, 2, 3]}]',
        '[{"name": "a", "colour": [1, 2]}, {"name": "b", "colour": [1, 2, 3]}]',
        '[{"name": "a", "colour": [1, 2, 3]}, {"name": "a", "colour": [1, 2, 3]}]',
        '[{"name": "a", "colour": [1, 2, 3]}]',
        json.dumps(json.loads(CLASSES) * 200),
    ],
)
def test_bad_classes_are_refused(tmp_path, content):
    own = write_folder(tmp_path / "own", 2)
    (own / "classes.json").write_text(content)
    with pytest.raises(UserError, match=r"classes\.json"):
        folder.list_pictures(own)


@pytest.mark.parametrize("text", ["file," + "a" * 200_000, "file\n" + "a" * 200_000])
def test_table_with_endless_cells_is_no_csv(tmp_path, text):
    own = write_folder(tmp_path / "own", 2)
    (own / "attributes.csv").write_text(text)
    with pytest.raises(UserError, match="is not a CSV"):
        folder.list_pictures(own)


def test_picture_with_two_rows_is_not_used(tmp_path):
    own = write_folder(tmp_path / "own", 6)
    table = own / "attributes.csv"
    table.write_text(table.read_text() + "001.png,p9,0,\n001.png,p9,1,\n")
    listing = folder.list_pictures(own)
    assert "images/001.png" not in {item.file for item in listing.items} and len(listing.items) == 5
    assert "a second row" in dict(listing.rejected)["images/001.png"]


@pytest.mark.parametrize(
    ("table", "line", "fault"),
    [
        (celeba_hq.MAPPING, "5.jpg 1 001005.jpg", "does not have the published format"),
        (celeba_hq.MAPPING, "9999999999 1 001005.jpg", "does not have the published format"),
        (celeba_hq.MAPPING, "1 1 001005.jpg", "is a duplicate"),
        (celeba_hq.PARTITION, "../001005.jpg 0", "does not have the published format"),
        (celeba_hq.PARTITION, "001001.jpg 2", "is a duplicate"),
        (celeba_hq.ATTRIBUTES, "0.jpg 1 0", "does not have the published format"),
    ],
)
def test_bad_line_of_a_celeba_hq_table_is_named(celeba_tables, table, line, fault):
    path = celeba_tables / table
    before = path.read_text()
    path.write_text(f"{before}{line}\n")
    try:
        with pytest.raises(UserError, match=f"{table}: .*{fault}"):
            celeba_hq.list_pictures(celeba_tables)
    finally:
        path.write_text(before)


@pytest.fixture(scope="module")
def celeba_tables(tmp_path_factory):
    return write_celeba_hq(tmp_path_factory.mktemp("celeba"), 2)


def test_names_that_are_no_utf8_and_closed_folders_are_listed(tmp_path, monkeypatch):
    root = tmp_path / "images"
    (root / "closed").mkdir(parents=True)
    (root / "a.png").touch()
    for name in (b"bad\xff.png", b"link\xff"):
        os.symlink(tmp_path, os.path.join(os.fsencode(root), name))
    (tmp_path / "images" / os.fsdecode(b"bad\xff.png")).unlink()
    (tmp_path / "images" / os.fsdecode(b"bad\xff.png")).touch()
    scandir = os.scandir

    def closed(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    files, rejected, ignored = files_below(tmp_path, "images")
    assert files == ["images/a.png"]
    assert {reason for _, reason in rejected} == {
        "is a symbolic link", "its name is not valid UTF-8", "cannot be listed (Permission denied)",
    }  # fmt: skip
    assert rejected_csv(rejected).decode().count("\n") == 4


def test_empty_folder_is_told_and_leaves_nothing(tmp_path, project_root):
    (tmp_path / "own/images").mkdir(parents=True)
    params = load_params(project_root / "params/ci.yaml")
    with pytest.raises(UserError, match="too few pictures: 0 are usable"):
        make_data(tmp_path, params, "folder", tmp_path / "own")
    assert [path.name for path in (tmp_path / "outputs/data").iterdir()] == ["rejected.csv"]


def test_majority_takes_the_label_that_covers_most():
    labels = np.array([[1, 1, 2, 2], [1, 0, 2, 3], [0, 0, 3, 3], [0, 4, 4, 3]], np.uint8)
    np.testing.assert_array_equal(majority(labels, 2), [[1, 2], [0, 3]])
    np.testing.assert_array_equal(majority(labels, 4), labels)


def test_pose_is_read_off_the_mask():
    names, mask = ("background", "left_eye", "right_eye", "nose"), np.zeros((64, 64), np.uint8)
    mask[20:22, 20:22], mask[20:22, 40:42], mask[30:32, 30:32] = 1, 2, 3
    assert pose(mask, names) == {"yaw": 0.0, "roll": 0.0}
    turned = mask.copy()
    turned[30:32, 30:32], turned[30:32, 33:35] = 0, 3
    assert pose(turned, names)["yaw"] > 0.3
    mask[mask == 3] = 0
    assert pose(mask, names)["pitch"] > 1.5, "a hidden nose"
    assert pose(mask, names[:2]) == {}
