"""`editgan import`: the collections as distributed, hostile archives, and the folder that source `folder` reads."""

import io
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from photo_collections import SIZE, finds_one_face, picture, rows_of, tar  # noqa: F401
from PIL import Image
from typer.testing import CliRunner

from editgan.cli.pictures import app
from editgan.data import importing
from editgan.data.collections import fasseg, files, lfw, london
from editgan.data.collections.files import opened
from editgan.data.collections.london import draw_parts, smooth
from editgan.data.importing import import_photos
from editgan.data.sources import folder, listing
from editgan.errors import UserError


def link(name: str, kind: bytes) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, "/etc/passwd"
    return entry


def test_lfw_becomes_a_folder_that_the_source_reads(tmp_path):
    names = ["Ann_Lee/Ann_Lee_0001.jpg", "Ann_Lee/Ann_Lee_0002.jpg", "Bo/Bo_0001.jpg", "Bo/Bo_0002.jpg"]
    content = {f"lfw-deepfunneled/{name}": picture(seed) for seed, name in enumerate(names)}
    content |= {"lfw-deepfunneled/README.txt": b"hello", "lfw-deepfunneled/Cy/Cy_0001.jpg": b"no picture"}
    labels = tmp_path / "legend.csv"
    labels.write_text(
        "user.id,image,emotion\n1,Ann_Lee_0001.jpg,happiness\n1,Ann_Lee_0002.jpg,NEUTRAL\n1,Bo_0001.jpg,anger\n"
        "1,Bo_0002.jpg,happiness\n2,Bo_0002.jpg,neutral\n"
    )
    into = tmp_path / "mine"
    archive = tar(tmp_path / "lfw-deepfunneled.tgz", content)
    made = import_photos("lfw", archive, into, None, side=32, labels=labels)
    assert (made.pictures, made.masks) == (4, 0)
    reasons = dict(made.rejected)
    assert "PERSON/PERSON_0001.jpg" in reasons["lfw-deepfunneled/README.txt"]
    assert "cannot be decoded" in reasons["lfw-deepfunneled/Cy/Cy_0001.jpg"]
    rows = rows_of(into)
    place = "lfw/lfw-deepfunneled"
    assert [rows[f"{place}/{name[:-4]}.png"]["person"] for name in names] == ["Ann_Lee"] * 2 + ["Bo"] * 2
    assert [float(rows[f"{place}/{name[:-4]}.png"]["smile"]) for name in names] == [1.0, 0.0, 0.1, 0.1]

    listing = folder.list_pictures(into)
    assert len(listing.items) == 4 and not listing.rejected
    assert {item.person for item in listing.items} == {"Ann_Lee", "Bo"}
    whole = Image.open(io.BytesIO(content[f"lfw-deepfunneled/{names[0]}"]))
    crop = np.asarray(Image.open(into / "images" / place / names[0].replace(".jpg", ".png"))).astype(float)
    expected = np.asarray(whole.crop((20, 10, 80, 70)).resize((32, 32), Image.Resampling.BILINEAR)).astype(float)
    assert crop.shape == (32, 32, 3) and np.abs(crop - expected).mean() < 25, "random pixels differ by 85 on average"


def test_second_import_keeps_what_a_person_changed(tmp_path):
    archive, into = tar(tmp_path / "a.tar", {f"A/A_000{i}.jpg": picture(i) for i in range(2)}), tmp_path / "mine"
    import_photos("lfw", archive, into, None, side=32)
    assert not import_photos("lfw", archive, into, None, side=48).notes, "only its own files were replaced"
    table, first, second = into / "attributes.csv", *sorted((into / "images").rglob("*.png"))
    table.write_text(table.read_text().replace(",A,", ",Ann,"))
    Image.new("RGB", (48, 48), "red").save(first)
    mask = into / "masks" / second.relative_to(into / "images")
    mask.parent.mkdir(parents=True)
    Image.new("L", (48, 48), 1).save(mask)
    made = {path: path.read_bytes() for path in (table, first, mask)}
    again = import_photos("lfw", archive, into, None, side=32)
    assert "are kept in" in again.notes[-1] and not mask.exists() and rows_of(into)
    for path, content in made.items():
        assert (into / "replaced" / path.relative_to(into)).read_bytes() == content
    mask.write_bytes(b"painted anew")
    import_photos("lfw", archive, into, None, side=48)
    assert (into / "replaced" / mask.relative_to(into)).with_stem(f"{mask.stem}-2").read_bytes() == b"painted anew"


def test_interrupted_import_goes_on_and_other_collections_are_added(tmp_path, monkeypatch):
    content = {f"A/A_000{i}.jpg": picture(i) for i in range(4)}
    archive, into, crop, done = tar(tmp_path / "a.tar", content), tmp_path / "mine", importing.crop_face, []

    def dying(*arguments):
        done.append(1)
        if len(done) == 3:
            raise KeyboardInterrupt
        return crop(*arguments)

    monkeypatch.setattr(importing, "crop_face", dying)
    with pytest.raises(KeyboardInterrupt):
        import_photos("lfw", archive, into, None, side=32)
    import_photos("lfw", archive, into, None, side=32)
    assert len(done) == 3 + 2, "the two that were there are not made again"
    whole = {path.name: path.read_bytes() for path in (into / "images").rglob("*.png")}
    import_photos("lfw", archive, tmp_path / "unbroken", None, side=32)
    assert whole == {path.name: path.read_bytes() for path in (tmp_path / "unbroken" / "images").rglob("*.png")}

    more = tmp_path / "more"
    more.mkdir()
    (more / "me.png").write_bytes(picture(9, kind="PNG"))
    (more / "table.csv").write_text("file,person,smile,age\nme.png,me,0.5,0.3\nyou.png,you,1,0.4\n")
    made = import_photos("pictures", more, into, None, side=32, labels=more / "table.csv")
    assert dict(made.rejected)["you.png"] == "has a row in table.csv, but the file does not exist"
    rows = rows_of(into)
    assert len(rows) == 5 and rows["pictures/more/me.png"] == {
        "yaw": "0.0", "person": "me", "smile": "0.5", "age": "0.3",
    }  # fmt: skip
    assert rows["lfw/A/A_0000.png"]["person"] == "A", "the rows of the other collection stay"
    import_photos("lfw", archive, into, None, side=48)
    assert Image.open(into / "images/lfw/A/A_0000.png").size == (48, 48), "another side makes them anew"


@pytest.mark.parametrize("name", ["../../evil.jpg", "/tmp/evil.jpg", "a/../../evil.jpg", "a\\..\\..\\evil.jpg"])
def test_names_that_lead_out_are_refused_by_name(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr(name, picture())
        archive.writestr("A/A_0001.jpg", picture())
    for path in (tmp_path / "evil.zip", tar(tmp_path / "evil.tar", {name: picture(), "A/A_0001.jpg": picture()})):
        with opened(path) as found:
            assert found.names == ["A/A_0001.jpg"]
            ((refused, reason),) = found.rejected
            assert refused in (name, name.replace("\\", "/")) and reason == "its path leads out of the archive"


def test_links_devices_and_bombs_are_refused(tmp_path, monkeypatch):
    entries = {
        "A/A_0001.jpg": picture(), "A/A_0002.jpg": link("A/A_0002.jpg", tarfile.SYMTYPE),
        "A/A_0003.jpg": link("A/A_0003.jpg", tarfile.LNKTYPE), "A/A_0004.jpg": link("A/A_0004.jpg", tarfile.CHRTYPE),
    }  # fmt: skip
    made = import_photos("lfw", tar(tmp_path / "a.tar", entries), tmp_path / "mine", None, side=32)
    reasons = [reason for _, reason in made.rejected]
    assert made.pictures == 1 and reasons == ["is a link or a device, not a regular file"] * 3

    for module in (files, listing):
        monkeypatch.setattr(module, "MAX_BYTES", 100_000)
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("A/A_0001.jpg", b"\0" * 200_000)
        archive.writestr("A/A_0002.jpg", picture())
    with opened(bomb) as found:
        assert found.names == ["A/A_0002.jpg"] and "the limit is" in found.rejected[0].reason
    with zipfile.ZipFile(bomb) as archive:
        archive.getinfo("A/A_0001.jpg").file_size = 10  # a header that lies
        found = files._zip(bomb, archive)
        with pytest.raises(Exception, match="unpacks to more|Bad CRC|File size"):
            found.read("A/A_0001.jpg")
    monkeypatch.setattr(files, "MAX_FILES", 0)
    with pytest.raises(UserError, match="the limits for a collection"), opened(bomb):
        pass
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "A_0001.jpg").symlink_to("/etc/passwd")
    with pytest.raises(UserError, match="no usable photo.*rejected_lfw.csv lists 1 files"):
        import_photos("lfw", tmp_path / "linked", tmp_path / "none", None, side=32)


def test_what_is_no_archive_and_pictures_without_a_usable_face_are_named(tmp_path):
    with pytest.raises(UserError, match="no such file or folder"), opened(tmp_path / "nothing.tar"):
        pass
    (tmp_path / "text.tar").write_text("hello")
    with (
        pytest.raises(UserError, match="is neither a folder nor a .zip or .tar archive"),
        opened(tmp_path / "text.tar"),
    ):
        pass
    black = io.BytesIO()
    Image.new("RGB", (SIZE, SIZE)).save(black, "PNG")
    path = tmp_path / "few"
    path.mkdir()
    for name, content in (
        ("a.png", black.getvalue()),
        ("b.jpg", picture()),
        ("c.jpg", picture(size=40)),
        ("d.txt", b""),
    ):
        (path / name).write_bytes(content)
    (path / "d.txt").write_text("hello")
    made = import_photos("pictures", path, tmp_path / "mine", None, side=100)
    reasons = dict(made.rejected)
    assert made.pictures == 1 and reasons["a.png"] == "no face was found"
    assert "is beyond the border of the photo" in reasons["c.jpg"] and "is not a picture" in reasons["d.txt"]
    with pytest.raises(UserError, match="no usable photo"):
        import_photos("pictures", path, tmp_path / "other", None, side=128)
    assert "is 60 px wide, minimum 64" in (tmp_path / "other" / "rejected_pictures_few.csv").read_text()


def test_fasseg_masks_get_the_nearest_colour_and_follow_the_crop(tmp_path):
    painted = np.zeros((SIZE, SIZE, 3), np.uint8)
    painted[:] = (255, 0, 0)
    painted[10:70, 20:80] = (255, 255, 0)
    painted[40, 20:80] = (200, 60, 10)  # a mixture: nearest to background
    label = io.BytesIO()
    Image.fromarray(painted).save(label, "PNG")
    for half in ("train", "test"):
        (tmp_path / "set" / half).mkdir(parents=True)
        (tmp_path / "set" / half / "1.jpg").write_bytes(picture())
        (tmp_path / "set" / half / "1_label.png").write_bytes(label.getvalue())
    (tmp_path / "set" / "train" / "2.jpg").write_bytes(picture())
    made = import_photos("fasseg", tmp_path / "set", tmp_path / "mine", None, side=60)
    assert (made.pictures, made.masks) == (2, 2)
    assert dict(made.rejected) == {"train/2.jpg": "has no mask: neither 2_label.png nor one in train_Labels"}
    assert fasseg.nearest(label.getvalue())[40, 50] == 0 and fasseg.nearest(label.getvalue())[30, 50] == 1
    mask = np.asarray(Image.open(tmp_path / "mine/masks/fasseg/train/1.png"))
    assert (mask[:, 2:-2] == 1).mean() > 0.97 and (mask[30] == 0).all()
    rows = rows_of(tmp_path / "mine")
    assert rows["fasseg/test/1.png"]["person"] == "test 1" and rows["fasseg/test/1.png"]["partition"] == "test"
    assert folder.list_pictures(tmp_path / "mine").classes.names == fasseg.CLASSES.names
    other = tmp_path / "london" / "neutral"
    other.mkdir(parents=True)
    (other / "001.jpg").write_bytes(picture())
    with pytest.raises(UserError, match="import it into a separate folder"):
        import_photos("london", tmp_path / "london", tmp_path / "mine", None, side=60)


def test_london_pairs_and_templates(tmp_path):
    root = tmp_path / "set"
    for kind in ("neutral_front", "smiling_front"):
        (root / kind).mkdir(parents=True)
        (root / kind / "001_03.jpg").write_bytes(picture())
    (root / "smiling_front" / "002_08.jpg").write_bytes(picture())
    points = np.random.default_rng(0).uniform(0, SIZE, (189, 2))
    lines = [[index, (index + 1) % 189, (index + 2) % 189] for index in range(44)]
    text = "189\n" + "".join(f"{x}\t{y}\n" for x, y in points) + "44\n"
    text += "".join(f"0\n3\n{' '.join(map(str, line))}\n" for line in lines)
    (root / "neutral_front" / "001_03.tem").write_text(text)
    read, found = london.read_template(text)
    assert np.allclose(read, points) and found == lines
    made = import_photos("london", root, tmp_path / "mine", None, side=60)
    assert (made.pictures, made.masks, made.rejected) == (3, 1, [])
    rows = rows_of(tmp_path / "mine")
    smiling = rows["london/smiling_front/001_03.png"]
    neutral = "london/neutral_front/001_03.png"
    assert smiling == {"yaw": "0.0", "person": "london 001", "smile": "1.0", "neutral": neutral}
    assert rows["london/smiling_front/002_08.png"]["neutral"] == ""
    (root / "neutral_front" / "001_03.tem").write_text("3\n1 2\n")
    again = import_photos("london", root, tmp_path / "other", None, side=60)
    assert "not a WebMorph template" in dict(again.rejected)["neutral_front/001_03.jpg"]


def test_outlines_are_filled_and_curves_pass_through_their_points():
    square = np.array([(10.0, 20.0), (30.0, 20.0), (30.0, 60.0), (10.0, 60.0)])
    mask = draw_parts({1: [square], 2: [square / 2]}, (80, 70))
    assert mask.shape == (70, 80) and set(np.unique(mask)) == {0, 1, 2}
    assert abs(int((mask == 2).sum()) - 200) <= 20 and mask[40, 20] == 1 and mask[20, 10] == 2
    points = np.random.default_rng(1).uniform(0, 50, (6, 2))
    curve = smooth(points)
    assert np.allclose(curve[::8], points) and len(curve) == 41
    assert np.allclose(np.ptp(smooth(np.array([(0.0, 0.0), (1.0, 1.0), (2.0, 2.0)])), 0), [2, 2])


def test_labels_of_lfw_that_are_not_as_published_are_refused(tmp_path):
    (tmp_path / "legend.csv").write_text("picture,mood\na,b\n")
    with pytest.raises(UserError, match="no column `image` or `emotion`; .* but has: picture, mood"):
        lfw.read_emotions(tmp_path / "legend.csv")


def test_command_names_unknown_collections(tmp_path):
    result = CliRunner().invoke(app, ["import", "celebs", str(tmp_path), "--into", str(tmp_path / "mine")])
    assert result.exit_code == 1 and "known are lfw, london, fasseg, pictures" in result.output


@pytest.fixture
def photos(monkeypatch) -> Path:
    folder = os.environ.get("EDITGAN_PHOTOS")
    if not folder:
        pytest.skip("EDITGAN_PHOTOS is not set: no photographs of people to look at")
    monkeypatch.undo()  # the real detector
    return Path(folder)


def test_real_collections(photos, tmp_path, assets_dir):
    """Masks lie where the faces are: eyes above nose above mouth, in the heads' framing."""
    from editgan.assets.load import load_network

    detector = load_network("blazeface", assets_dir)
    few = tmp_path / "few" / "neutral"
    few.mkdir(parents=True)
    for name in ("001.jpg", "001.csv", "002.jpg", "002.csv"):
        (few / name).write_bytes((photos / "london/neutral" / name).read_bytes())
    (few.parent / "curves.csv").write_bytes((photos / "london/curves.csv").read_bytes())
    made = import_photos("london", few.parent, tmp_path / "london", detector, side=128)
    assert made.pictures == made.masks == 2
    for path in (tmp_path / "london/masks").rglob("*.png"):
        mask, names = np.asarray(Image.open(path)), london.CLASSES.names
        centre = {name: np.argwhere(mask == names.index(name)).mean(0) / 128 for name in names if name != "background"
                  and (mask == names.index(name)).any()}  # fmt: skip
        assert abs(centre["right_eye"] - [0.46, 0.375]).max() < 0.04
        assert abs(centre["left_eye"] - [0.46, 0.625]).max() < 0.04
        assert centre["left_eye"][0] < centre["nose"][0] < centre["upper_lip"][0] < centre["lower_lip"][0]
    half = tmp_path / "set" / "train"
    half.mkdir(parents=True)
    for name in ("1.jpg", "1_label.png", "2.jpg", "2_label.png"):
        (half / name).write_bytes((photos / "fasseg/train" / name).read_bytes())
    made = import_photos("fasseg", half.parent, tmp_path / "fasseg", detector, side=64)
    assert made.pictures == made.masks == 2


def test_yaw_comes_from_how_far_the_nose_is_off_the_middle_of_the_eyes(monkeypatch):
    monkeypatch.undo()  # what the fixture stands in for

    class Detector:
        def detect(self, images):
            eyes_and_nose = torch.tensor([[2.0, 3.0], [6.0, 3.0], [4.0 + 4 * 0.75 * 0.5, 5.0]])
            return torch.ones(1), torch.cat([eyes_and_nose, torch.zeros(3, 2)])[None]

    assert importing.yaw_of(Detector(), torch.zeros(3, 8, 8, dtype=torch.uint8)) == pytest.approx(
        np.arctan(0.5), abs=1e-4
    )
