"""`editgan import` of collections as they come: other views and layouts, broken tables, damaged, hostile archives."""

import io
import tarfile
import zipfile

import numpy as np
import pytest
from photo_collections import SIZE, finds_one_face, picture, rows_of, tar  # noqa: F401
from PIL import Image

from editgan.data.collections import fasseg
from editgan.data.collections.files import opened
from editgan.data.importing import import_photos
from editgan.data.sources import folder
from editgan.errors import UserError


def test_london_as_distributed_gives_front_views_alone(tmp_path):
    views = [
        f"{kind}_{view}" for kind in ("neutral", "smiling") for view in ("front", "left_3quarter", "right_profile")
    ]
    content = {f"london/{view}/001_0{index}.jpg": picture(index) for index, view in enumerate(views)}
    made = import_photos("london", tar(tmp_path / "set.tar", content), tmp_path / "mine", None, side=32)
    assert made.pictures == 2 and {reason for _, reason in made.rejected} == {"shows the face from the side"}
    rows = rows_of(tmp_path / "mine")
    assert rows["london/london/smiling_front/001_03.png"]["neutral"] == "london/london/neutral_front/001_00.png"


def test_fasseg_as_distributed(tmp_path):
    painted = io.BytesIO()
    Image.new("RGB", (SIZE, SIZE), (0, 255, 0)).save(painted, "BMP")
    content = {"V2/Train_RGB/1.bmp": picture(1, kind="BMP"), "V2/Train_Labels/1.bmp": painted.getvalue()}
    content |= {"V2/Test_RGB/1.bmp": picture(2, kind="BMP"), "V2/Test_Labels/1.bmp": painted.getvalue()}
    made = import_photos("fasseg", tar(tmp_path / "set.tgz", content), tmp_path / "mine", None, side=32)
    assert (made.pictures, made.masks, made.rejected) == (2, 2, [])
    mask = np.asarray(Image.open(tmp_path / "mine/masks/fasseg/V2/Train_RGB/1.png"))
    assert (mask == fasseg.CLASSES.names.index("mouth")).all()
    assert rows_of(tmp_path / "mine")["fasseg/V2/Test_RGB/1.png"]["partition"] == "test"


def test_other_photos_under_the_same_names_are_made_anew(tmp_path):
    archive, into = tmp_path / "a.tar", tmp_path / "mine"
    made = []
    for seed in (1, 2):
        import_photos("pictures", tar(archive, {"me.jpg": picture(seed)}), into, None, side=32)
        made.append(np.asarray(Image.open(into / "images/pictures/a/me.png")).astype(float))
    assert np.abs(made[0] - made[1]).mean() > 10
    import_photos("pictures", tar(tmp_path / "b.tar", {"me.jpg": picture(3)}), into, None, side=32)
    assert set(rows_of(into)) == {"pictures/a/me.png", "pictures/b/me.png"}, "archives stand beside each other"


def test_masks_of_uncropped_photos_follow_the_crop(tmp_path):
    root = tmp_path / "set"
    labels = np.zeros((SIZE, SIZE), np.uint8)
    labels[40:, :] = 1
    for name, content in (("images/a/me.jpg", picture()), ("images/you.jpg", picture(1)), ("images/she.jpg", b"no")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    for name, mask in (("a/me", labels), ("you", labels[1:]), ("nobody", labels)):
        (root / "masks" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(root / "masks" / f"{name}.png")
    (root / "classes.json").write_text(
        '[{"name": "background", "colour": [0, 0, 0]}, {"name": "skin", "colour": [9, 9, 9]}]'
    )
    made = import_photos("pictures", root, tmp_path / "mine", None, side=60)
    assert (made.pictures, made.masks) == (1, 1)
    reasons = dict(made.rejected)
    assert reasons["masks/nobody.png"] == "belongs to no photo" and "cannot be decoded" in reasons["images/she.jpg"]
    assert reasons["images/you.jpg"] == f"its mask is {SIZE}x{SIZE - 1}, which is not the photo's size"
    mask = np.asarray(Image.open(tmp_path / "mine/masks/pictures/set/images/a/me.png"))
    assert (mask[:29] == 0).all() and (mask[31:] == 1).all(), "the square begins at row 10"
    (item,) = folder.list_pictures(tmp_path / "mine").items
    assert item.masks


def test_tables_of_photos_are_checked_like_those_of_the_folder(tmp_path):
    archive = tar(tmp_path / "a.tar", {f"./{name}.jpg": picture(seed) for seed, name in enumerate("abcde")})
    table = tmp_path / "table.csv"
    table.write_text("file,person,smile\na.jpg,me,0.5\nb.jpg,me\nc.jpg,me,7\nd.jpg,me,1\nd.jpg,you,1\n")
    made = import_photos("pictures", archive, tmp_path / "mine", None, side=32, labels=table)
    reasons = dict(made.rejected)
    assert set(rows_of(tmp_path / "mine")) == {"pictures/a/a.png", "pictures/a/b.png"}, "a short row is not known"
    assert "smile is '7'" in reasons["c.jpg"] and "a second row" in reasons["d.jpg"]
    assert reasons["e.jpg"] == "has no row in table.csv"
    table.write_text("file,identity\na.jpg,me\n")
    with pytest.raises(UserError, match="the column with the person of a picture must be called `person`"):
        import_photos("pictures", archive, tmp_path / "mine", None, side=32, labels=table)


def test_names_that_no_file_can_have_are_refused_by_name(tmp_path):
    names = {
        "n" * 300 + ".jpg": "more than 200 bytes",
        "caf\udce9.jpg": "not valid UTF-8",
        "b.png/c.jpg": "the name of an existing folder",
    }
    content = {"b.jpg": picture(), **{name: picture(seed) for seed, name in enumerate(names)}, "a.jpg": picture(7)}
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w", format=tarfile.GNU_FORMAT, encoding="utf-8", errors="surrogateescape") as made:
        for name, data in content.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            made.addfile(entry, io.BytesIO(data))
    made = import_photos("pictures", archive, tmp_path / "mine", None, side=32)
    assert made.pictures == 2 and len(made.rejected) == 3
    for _, reason in made.rejected:
        assert any(expected in reason for expected in names.values()), reason


@pytest.mark.parametrize("ending", ["tgz", "tar.bz2", "tar.xz", "zip"])
def test_damaged_archives_are_named(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    if ending == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("A/A_0001.jpg", picture())
    else:
        with tarfile.open(path, f"w:{ {'tgz': 'gz'}.get(ending, ending[4:]) }") as archive:
            for seed in range(3):
                entry = tarfile.TarInfo(f"A/A_000{seed}.jpg")
                entry.size = len(picture(seed))
                archive.addfile(entry, io.BytesIO(picture(seed)))
    with opened(path) as found:
        assert found.names and found.read(found.names[0]) == picture(0)
    content = bytearray(path.read_bytes())
    if ending == "zip":
        content[content.index(b"PK\x01\x02")] = 0  # the central directory
    elif ending == "tgz":
        content = content[: len(content) // 2]
    else:
        content[len(content) // 2 : len(content) // 2 + 600] = b"\0" * 600
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"a.{ending}: .*fetch it again"), opened(path) as found:
        pass


def test_a_header_that_swells_is_not_read(tmp_path):
    path = tmp_path / "a.tgz"
    with tarfile.open(path, "w:gz", format=tarfile.GNU_FORMAT) as archive:
        entry = tarfile.TarInfo("n" * 3 * 2**20)
        archive.addfile(entry)
    with pytest.raises(UserError, match="a header of 3 MiB"), opened(path):
        pass


def test_large_masks_are_read_row_by_row(tmp_path):
    painted = io.BytesIO()
    Image.new("RGB", (9000, 9000)).save(painted, "PNG")
    with pytest.raises(Exception, match="the limit is 64 million pixels"):
        fasseg.nearest(painted.getvalue())
