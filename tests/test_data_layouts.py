"""Folders and archives as people pack them: top folders, letter case, files of other programs, masks, bad members."""

import io
import os
import unicodedata
import zipfile

import numpy as np
import pytest
from photo_collections import SIZE, finds_one_face, picture, rows_of, tar  # noqa: F401
from picture_sources import CLASSES, make_data, write_folder
from PIL import Image

from editgan.config import load_params
from editgan.data.collections.files import opened
from editgan.data.importing import import_photos
from editgan.data.sources import folder
from editgan.errors import UserError


def mask(kind: str = "PNG", size: int = SIZE) -> bytes:
    file, labels = io.BytesIO(), np.zeros((size, size), np.uint8)
    labels[size // 3 :] = 1
    Image.fromarray(labels).save(file, kind)
    return file.getvalue()


def zipped(path, content: dict[str, bytes]):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def layout(**names: str) -> dict[str, bytes]:
    images, masks, classes = (names.get(name, name) for name in ("images", "masks", "classes.json"))
    return {f"{images}/a.png": picture(1, kind="PNG"), f"{images}/b.jpg": picture(2), f"{masks}/a.png": mask(),
            classes: CLASSES.encode()}  # fmt: skip


@pytest.mark.parametrize("top", ["", "mine/", "a/b/c/"])
@pytest.mark.parametrize("names", [{}, {"images": "Images", "masks": "MASKS", "classes.json": "Classes.JSON"}])
@pytest.mark.parametrize("pack", [zipped, tar])
def test_layout_is_found_under_top_folders_in_any_letter_case(tmp_path, top, names, pack):
    content = {f"{top}{name}": data for name, data in layout(**names).items()}
    content |= {"__MACOSX/x/._a.png": b"x", f"{top}.DS_Store": b"x", f"{top}Thumbs.db": b"x", "LICENSE": b"free"}
    made = import_photos("pictures", pack(tmp_path / "a.zip", content), tmp_path / "mine", None, side=32)
    assert (made.pictures, made.masks) == (2, 1) and [file for file, _ in made.rejected] == ["LICENSE"]
    assert made.notes == ["ignored 3 hidden files or files of other programs (.DS_Store, Thumbs.db, __MACOSX)"]


def test_what_has_no_label_in_the_mask_of_a_photo_stays_so(tmp_path):
    labels, file = np.zeros((SIZE, SIZE), np.uint8), io.BytesIO()
    labels[:, SIZE // 2 :] = 255
    Image.fromarray(np.maximum(labels, np.eye(SIZE, dtype=np.uint8))).save(file, "PNG")
    archive = zipped(tmp_path / "a.zip", layout() | {"masks/a.png": file.getvalue()})
    made = import_photos("pictures", archive, tmp_path / "mine", None, side=32)
    assert made.masks == 1 and "its mask" in made.notes[-1] and "pixels have no label" in made.notes[-1]
    found = np.asarray(Image.open(tmp_path / "mine/masks/pictures/a/images/a.png"))
    assert (found[:, -14:] == 255).all() and (found[:, :14] < 2).all()


@pytest.mark.parametrize("bin", ["#recycle", "@Recycle", "$RECYCLE.BIN", "@eaDir", "@__thumb"])
def test_what_a_server_or_windows_keeps_of_photos_is_no_photo(tmp_path, bin):
    content = {"a.jpg": picture(1), f"{bin}/b.jpg": picture(2)}
    made = import_photos("pictures", zipped(tmp_path / "a.zip", content), tmp_path / "mine", None, side=32)
    assert made.pictures == 1 and made.notes == [f"ignored 1 hidden files or files of other programs ({bin})"]


@pytest.mark.parametrize("name", ["masks", "Labels", "SegmentationClass", "annotations", "face_masks"])
def test_masks_are_never_photos(tmp_path, name):
    content = {"t/images/a.png": picture(1, kind="PNG"), f"t/{name}/a.png": mask(), f"t/{name}/b.jpg": picture(3)}
    made = import_photos("pictures", zipped(tmp_path / "a.zip", content), tmp_path / "mine", None, side=32)
    assert set(rows_of(tmp_path / "mine")) == {"pictures/a/t/images/a.png"}
    assert made.notes[0].startswith(f"t/{name}/ looks like masks and is not used (2 files)")


def test_masks_under_any_name_are_told_by_their_colours(tmp_path):
    content = {"photos/a.png": picture(1, kind="PNG"), "h/a.png": mask(), "h/b.png": mask()}
    made = import_photos("pictures", zipped(tmp_path / "a.zip", content), tmp_path / "mine", None, side=32)
    assert made.pictures == 1 and made.notes == ["h/ has pictures that look like masks, which are not used"]
    assert dict(made.rejected)["h/a.png"] == "looks like a mask: it has few colours"


def test_a_folder_of_photos_named_like_masks_is_used(tmp_path):
    content = {"labels/a.jpg": picture(1), "labels/b.jpg": picture(2)}
    made = import_photos("pictures", zipped(tmp_path / "a.zip", content), tmp_path / "mine", None, side=32)
    assert (made.pictures, made.notes) == (2, [])


@pytest.mark.parametrize(
    ("more", "fault"),
    [({"b/classes.json": b"[]"}, "two layouts"), ({"IMAGES/c.png": b""}, "both folders IMAGES and images; keep one")],
)
def test_two_layouts_are_refused(tmp_path, more, fault):
    archive = zipped(tmp_path / "a.zip", layout() | more)
    with pytest.raises(UserError, match=fault):
        import_photos("pictures", archive, tmp_path / "mine", None, side=32)


def damaged(path, start: bytes):
    """The archive with a wrong byte in the member that begins with `start`."""
    content = bytearray(zipped(path, layout()).read_bytes())
    content[content.index(start) + 20] ^= 0xFF
    path.write_bytes(content)
    return path


def test_damaged_members_are_named(tmp_path):
    path = damaged(tmp_path / "a.zip", CLASSES[:8].encode())
    with pytest.raises(UserError, match="a.zip: its file classes.json cannot be read .Bad CRC-32"):
        import_photos("pictures", path, tmp_path / "mine", None, side=32)
    made = import_photos("pictures", damaged(path, b"\xff\xd8\xff\xe0"), tmp_path / "mine", None, side=32)
    assert made.pictures == 1 and "Bad CRC-32" in dict(made.rejected)["images/b.jpg"]


def test_unknown_compression_and_encryption_are_named(tmp_path):
    path = zipped(tmp_path / "a.zip", {"a.jpg": picture(1), "b.jpg": picture(2)})
    with zipfile.ZipFile(path) as archive:
        second = archive.infolist()[1].header_offset
    content = bytearray(path.read_bytes())
    directory = content.index(b"PK\x01\x02")
    content[second + 8], content[content.index(b"PK\x01\x02", directory + 1) + 10] = 9, 9  # Deflate64, as of Windows
    content[second + 8 : second + 10] = b"\x09\x00"
    path.write_bytes(content)
    made = import_photos("pictures", path, tmp_path / "mine", None, side=32)
    assert made.pictures == 1 and "cannot be read" in dict(made.rejected)["b.jpg"]
    content = bytearray(zipped(tmp_path / "c.zip", {"a.jpg": picture(1)}).read_bytes())
    content[content.index(b"PK\x03\x04") + 6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "c.zip").write_bytes(content)
    with pytest.raises(UserError, match="c.zip: is encrypted; unpack it with its password"), opened(tmp_path / "c.zip"):
        pass


def test_names_are_compared_in_one_unicode_form(tmp_path):
    name = unicodedata.normalize("NFD", "Zoë/é")
    content = {f"{name}.jpg": picture(1)}
    table = tmp_path / "table.csv"
    table.write_text(f"file;person\nset/{unicodedata.normalize('NFC', name)}.jpg;Zoë\n")
    archive = zipped(tmp_path / "a.zip", {f"set/{key}": data for key, data in content.items()})
    import_photos("pictures", archive, tmp_path / "mine", None, side=32, labels=table)
    (row,) = rows_of(tmp_path / "mine").values()
    assert row["person"] == "Zoë"


def test_names_in_utf8_without_a_mark_are_understood(tmp_path):
    path = zipped(tmp_path / "a.zip", {"x_Zoe.jpg": picture(1)})
    path.write_bytes(path.read_bytes().replace(b"x_Zoe.jpg", "Zoéx.jpg".encode()[:9]))
    with opened(path) as found:
        assert found.names == ["Zoéx.jpg"[: len("Zoéx.jpg")]]


def test_table_of_the_target_is_read_before_any_face_is_looked_for(tmp_path):
    archive, into = zipped(tmp_path / "a.zip", {"a.jpg": picture(1)}), tmp_path / "mine"
    into.mkdir()
    table = into / "attributes.csv"
    table.write_text('\ufefffile;person;Note\r\nold/x.png;"Lee; Ann";kept\r\n')
    import_photos("pictures", archive, into, None, side=32)
    rows = rows_of(into)
    assert rows["old/x.png"] == {"person": "Lee; Ann", "smile": "", "yaw": "", "note": "kept"} and len(rows) == 2
    for text, fault in (("name\nx\n", "no column `file`"), ("file\nx\nx\n", "a second one for x")):
        table.write_text(text)
        with pytest.raises(UserError, match=fault):
            import_photos("pictures", archive, into, None, side=32)
        assert table.read_text() == text


def test_photos_that_fit_no_row_are_refused_at_once(tmp_path):
    archive = zipped(tmp_path / "a.zip", {"a.jpg": picture(1)})
    (tmp_path / "t.csv").write_text("file,smile\nb.jpg,1\n")
    with pytest.raises(UserError, match="t.csv: no row fits a picture; its rows name e.g. 'b.jpg'"):
        import_photos("pictures", archive, tmp_path / "mine", None, side=32, labels=tmp_path / "t.csv")
    assert not (tmp_path / "mine").exists()
    (tmp_path / "legend.csv").write_text("image;emotion\nB_0001.jpg;neutral\n")
    lfw = zipped(tmp_path / "lfw.zip", {"A/A_0001.jpg": picture(1)})
    with pytest.raises(UserError, match="no label is of a photo"):
        import_photos("lfw", lfw, tmp_path / "mine", None, side=32, labels=tmp_path / "legend.csv")


def test_source_is_found_below_single_folders_in_any_letter_case(tmp_path, project_root, capsys):
    params = load_params(project_root / "params/ci.yaml")
    plain = make_data(tmp_path / "plain", params, "folder", write_folder(tmp_path / "own"))
    packed = tmp_path / "outer/inner"
    write_folder(packed)
    for name in ("images", "masks", "classes.json"):
        (packed / name).rename(packed / name.title())
    (packed / "attributes.csv").write_text("\ufeff" + (packed / "attributes.csv").read_text().replace(",", " ; "))
    (packed / "Images/.hidden.png").write_bytes(b"x")
    (packed / "labels").mkdir()
    capsys.readouterr()
    other = make_data(tmp_path / "other", params, "folder", tmp_path / "outer")
    for split in ("pool", "val", "test", "train_labels"):
        with zipfile.ZipFile(plain / f"{split}.zip") as first, zipfile.ZipFile(other / f"{split}.zip") as second:
            assert first.namelist() == second.namelist()
            names = [name for name in first.namelist() if name.endswith(".png")]
            assert len(names) and all(first.read(name) == second.read(name) for name in names)
    said = capsys.readouterr().out
    assert "ignored 1 hidden files" in said and "labels/ looks like masks and is not used" in said
    assert "columns that only an edits file or benchmark.yaml can use: hat" in said
    os.rename(packed / "Images", packed / "x")
    (packed / "x").rename(packed / "images")
    (packed / "IMAGES").mkdir()
    with pytest.raises(UserError, match="has both IMAGES and images; keep one"):
        folder.list_pictures(packed)


def test_backslashes_of_windows_separate_folders(tmp_path):
    path = tmp_path / "a.zip"
    content = {"mine/": b"", "mine/images/": b""} | {f"mine/{name}": data for name, data in layout().items()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in (content | {"../c.png": picture(3)}).items():
            member = zipfile.ZipInfo("x")
            member.filename = name.replace("/", "\\")
            archive.writestr(member, data)
    made = import_photos("pictures", path, tmp_path / "mine", None, side=32)
    assert (made.pictures, made.masks) == (2, 1)
    assert made.rejected == [("../c.png", "its path leads out of the archive")]


def test_how_files_were_read_is_said_and_faulty_masks_are_named(tmp_path):
    """A mask with a palette of its own is read by its numbers, an animation by its first frame: both are said."""
    frames, labels = io.BytesIO(), io.BytesIO()
    with Image.open(io.BytesIO(picture(1, kind="PNG"))) as shown:
        shown.save(frames, "PNG", save_all=True, append_images=[shown.rotate(90)])
    foreign = Image.open(io.BytesIO(mask())).convert("P")
    foreign.putpalette([9, 90, 200, 90, 9, 9])
    foreign.save(labels, "PNG")
    content = layout() | {"images/a.png": frames.getvalue(), "masks/a.png": labels.getvalue()}
    content |= {"images/c.jpg": picture(3), "masks/c.png": mask()[:60]}
    made = import_photos("pictures", zipped(tmp_path / "a.zip", content), tmp_path / "mine", None, side=32)
    assert made.pictures == 2
    assert [fault.file for fault in made.rejected if "its mask masks/c.png cannot be read" in fault.reason] == [
        "images/c.jpg"
    ]
    assert "images/a.png: has 2 frames; the first one is used" in made.notes
    assert any(note.startswith("images/a.png: its mask its colours are not those") for note in made.notes)


def test_archive_without_a_usable_photo_says_why(tmp_path):
    with pytest.raises(UserError, match="e.g. a.txt: is not a picture"):
        import_photos("pictures", zipped(tmp_path / "a.zip", {"a.txt": b"x"}), tmp_path / "mine", None, side=32)
