"""`editgan import labels` and `export labels`: files of LabelMe, COCO, CVAT, Label Studio as documented."""

import base64
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from editgan.cli.pictures import app
from editgan.data.annotations.coco import run_lengths, uncompressed
from editgan.data.annotations.importing import coloured, import_labels
from editgan.data.annotations.parts import Part, drawn
from editgan.data.archive import load_classes
from editgan.data.sources import folder
from editgan.errors import UserError

SIDE = 40
NAMES = ["background", "skin", "left_eye"]
CLASSES = [{"name": name, "colour": [40 * index, 200, 9]} for index, name in enumerate(NAMES)]
SKIN, EYE = [[5, 5], [34, 5], [34, 34], [5, 34]], [[10, 10], [19, 10], [19, 14], [10, 14]]


def picture(seed: int = 0, side: int = SIDE) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def png(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def into(tmp_path) -> Path:
    """A folder of two pictures and the classes."""
    root = tmp_path / "mine"
    (root / "images/deep").mkdir(parents=True)
    (root / "images/a.png").write_bytes(picture(1))
    (root / "images/deep/b.png").write_bytes(picture(2))
    (root / "classes.json").write_text(json.dumps(CLASSES))
    return root


def shape(label: str, points, kind: str = "polygon", **more) -> dict:
    return {"label": label, "points": points, "group_id": None, "description": "", "shape_type": kind, "flags": {},
            "mask": None} | more  # fmt: skip


def labelme(path: Path, *shapes: dict, name: str = "a.png", side: int = SIDE, **more) -> Path:
    """What LabelMe 5 saves."""
    content = {"version": "5.5.0", "flags": {}, "shapes": list(shapes), "imagePath": name, "imageData": None,
               "imageHeight": side, "imageWidth": side} | more  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def mask(into: Path, name: str = "a.png") -> np.ndarray:
    return np.asarray(Image.open(into / "masks" / name))


def expected() -> np.ndarray:
    wanted = np.zeros((SIDE, SIDE), np.uint8)
    wanted[5:35, 5:35] = 1
    wanted[10:15, 10:20] = 2
    return wanted


def test_labelme_polygons_are_drawn_in_the_order_of_the_classes(tmp_path, into):
    labelme(tmp_path / "json/a.json", shape(" Left-Eye", EYE), shape("skin", SKIN))
    labelme(tmp_path / "json/deep/b.json", shape("skin", [[5, 5], [34, 34]], "rectangle"), name="..\\images\\b.png")
    made = import_labels(tmp_path / "json", into)
    assert made.masks == 2 and made.rejected == []
    np.testing.assert_array_equal(mask(into), expected())
    np.testing.assert_array_equal(mask(into, "deep/b.png"), expected().clip(max=1))
    assert made.notes[-1].endswith("later ones cover earlier ones: skin, left_eye")
    listing = folder.list_pictures(into)
    assert all(item.masks for item in listing.items) and len(listing.items) == 2 and not listing.rejected


def test_labelme_masks_and_circles_are_areas(tmp_path, into):
    labelme(tmp_path / "turned/a.json", shape("skin", SKIN, "oriented_rectangle"), shape("left_eye", EYE))
    assert import_labels(tmp_path / "turned", into, overwrite=True).masks == 1
    np.testing.assert_array_equal(mask(into), expected())
    (into / "masks/a.png").unlink()
    inner = np.ones((5, 10), np.uint8)
    encoded = base64.b64encode(png(inner * 255)).decode()
    masked = shape("left_eye", [[10, 10], [19, 14]], "mask", mask=encoded)
    labelme(tmp_path / "json/a.json", shape("skin", SKIN), masked)
    labelme(tmp_path / "json/b.json", shape("skin", [[20, 20], [20, 30]], "circle"), name="b.png")
    import_labels(tmp_path / "json", into)
    np.testing.assert_array_equal(mask(into), expected())
    assert abs(int((mask(into, "deep/b.png") == 1).sum()) - 314) < 40


@pytest.mark.parametrize(
    ("shapes", "more", "reason"),
    [
        ([shape("skin", SKIN), shape("noze", EYE), shape("noze", EYE)], {}, "does not name: 'noze' .2."),
        ([shape("skin", EYE[:2], "linestrip")], {}, "'skin' is a linestrip, which has no area; draw a polygon"),
        ([shape("skin", [[1, 1]], "point")], {}, "'skin' is a point"),
        ([shape(" ", SKIN)], {}, "a shape has no label"),
        ([shape("skin", EYE[:2])], {}, "expected at least 3 points"),
        ([shape("skin", [[1, 1], [2, 1e30], [3, 3]])], {}, "outside of any picture"),
        ([shape("skin", [[1, 1], [2, None], [3, 3]])], {}, "'skin'"),
        ([shape("skin", "abc")], {}, "'skin'"),
        ([shape("skin", [[1]], "circle")], {}, "the circle of 'skin' does not have the points of one"),
        ([shape("skin", [[1, 1]], "mask", mask="%%")], {}, "'skin'"),
        ([shape("skin", SKIN)], {"imageWidth": 80, "imageHeight": 80}, "is 40x40, but the labels are of 80x80 pixels"),
        ([shape("skin", SKIN)], {"imageWidth": None}, "are not those of a picture"),
        ([shape("skin", [[50, 50], [60, 50], [60, 60]])], {}, "covers no pixel"),
        ([], {}, "has no shapes: not labelled"),
    ],
)
def test_labels_that_cannot_be_drawn_are_named(tmp_path, into, shapes, more, reason):
    labelme(tmp_path / "json/a.json", *shapes, **more)
    labelme(tmp_path / "json/b.json", shape("skin", SKIN), name="b.png")
    made = import_labels(tmp_path / "json", into)
    ((file, said),) = made.rejected
    assert made.masks == 1 and file == "a.json"
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(said)
    (tmp_path / "json/b.json").unlink()
    with pytest.raises(UserError, match="no labels found|none of its 1 labelled pictures can be used"):
        import_labels(tmp_path / "json", into)


def test_pictures_beside_the_labels_or_in_them_are_copied(tmp_path):
    labelme(tmp_path / "json/a.json", shape("skin", SKIN), shape("__ignore__", EYE))
    (tmp_path / "json/a.png").write_bytes(picture(1))
    data = base64.b64encode(picture(2)).decode()
    labelme(tmp_path / "json/x/b.json", shape("skin", SKIN), shape("nose", EYE), name="b.png", imageData=data)
    labelme(tmp_path / "json/c.json", shape("skin", SKIN), name="c.png")
    made = import_labels(tmp_path / "json", tmp_path / "new")
    reasons = dict(made.rejected)
    assert made.classes.names == ["background", "skin", "nose"] == load_classes(tmp_path / "new/classes.json").names
    assert mask(tmp_path / "new")[10, 10] == 255 and (tmp_path / "new/images/a.png").read_bytes() == picture(1)
    assert list(reasons) == ["c.json"]
    assert reasons["c.json"] == "its picture c.png is neither in images/ nor beside the labels"
    assert (tmp_path / "new/images/x/b.png").read_bytes() == picture(2) and mask(tmp_path / "new", "x/b.png").max() == 2
    assert folder.list_pictures(tmp_path / "new").items[0].masks


def test_masks_that_a_person_painted_are_not_replaced(tmp_path, into):
    labelme(tmp_path / "json/a.json", shape("skin", SKIN))
    assert import_labels(tmp_path / "json", into).masks == 1 == import_labels(tmp_path / "json", into).masks
    Image.fromarray(np.ones((SIDE, SIDE), np.uint8)).save(into / "masks/a.png")
    with pytest.raises(UserError, match="a.png exists and differs; --overwrite replaces it"):
        import_labels(tmp_path / "json", into)
    import_labels(tmp_path / "json", into, overwrite=True)
    np.testing.assert_array_equal(mask(into), expected().clip(max=1))


def coco(*segmentations, names=("skin", "left_eye"), file="a.png", **more) -> dict:
    """COCO's object detection format."""
    labels = [
        {"id": 7 + n, "image_id": 1, "category_id": 3 + n, "segmentation": one, "area": 1.0, "bbox": [0, 0, 1, 1],
         "iscrowd": int(isinstance(one, dict))}
        for n, one in enumerate(segmentations)
    ]  # fmt: skip
    return {
        "info": {},
        "licenses": [],
        "categories": [{"id": 3 + n, "name": name, "supercategory": ""} for n, name in enumerate(names)],
        "images": [{"id": 1, "file_name": file, "width": SIDE, "height": SIDE}],
        "annotations": labels,
    } | more


def rle(pixels: np.ndarray) -> dict:
    flat = pixels.T.ravel().astype(int)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat]))).tolist()
    return {"size": list(pixels.shape), "counts": np.diff([0, *edges, len(flat)]).tolist()}


def flat(points) -> list[float]:
    return [float(value) for point in points for value in point]


def test_coco_polygons_and_run_lengths(tmp_path, into):
    (tmp_path / "labels").mkdir()
    path = tmp_path / "labels/instances_default.json"
    for eye in ([flat(EYE)], rle(expected() == 2)):
        path.write_text(json.dumps(coco([flat(SKIN)], eye, file="images/a.png")))
        import_labels(tmp_path / "labels", into, overwrite=True)
        np.testing.assert_array_equal(mask(into), expected())
    path.write_text(json.dumps(coco([flat(SKIN), flat(EYE)])))
    made = import_labels(tmp_path / "labels", into, overwrite=True)
    assert made.notes[0].endswith("skin has a ring inside another one, which COCO does not mean as a hole: filled")
    for broken, reason in (
        ({"size": [SIDE, SIDE], "counts": [3, 4]}, "do not add up to 40x40 pixels"),
        ({"size": [SIDE, SIDE], "counts": "é"}, "run lengths contain 'é'"),
        ([[1, 2, 3]], "annotation 8 .left_eye."),
        ([], "has no segmentation, only a box"),
    ):
        path.write_text(json.dumps(coco([flat(SKIN)], broken)))
        with pytest.raises(UserError, match=reason):
            import_labels(tmp_path / "labels", into)
    for broken, reason in (
        (coco([flat(SKIN)], images=[{"id": 2}]), "is of image 1, which is not listed"),
        (coco([flat(SKIN)], categories=[{"id": 1}]), "an entry has no 'name'"),
        (coco([flat(SKIN)], names=("hat",)), "does not name: 'hat' .1."),
    ):
        path.write_text(json.dumps(broken))
        with pytest.raises(UserError, match=reason):
            import_labels(tmp_path / "labels", into)


def test_compressed_run_lengths_as_pycocotools_writes_them():
    """What `pycocotools.mask.encode` 2.0.11 gives for this array."""
    pixels = np.zeros((9, 8), bool)
    pixels[2:6, 1:7] = True
    pixels[4, 3] = False
    compressed = {"size": [9, 8], "counts": ";4500NLO4300007"}
    np.testing.assert_array_equal(run_lengths(compressed), pixels)
    assert uncompressed(compressed["counts"]) == rle(pixels)["counts"]


def zipped(path: Path, content: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize("kind", ["colours", "palette"])
def test_segmentation_masks_of_cvat(tmp_path, into, kind):
    """The zip of CVAT's `Segmentation mask 1.1`; its label order is another one than that of classes.json."""
    lines = "# label:color_rgb:parts:actions\nLeft_eye:10,20,30::\nbackground:0,0,0::\nskin:200,0,40::\n"
    palette = np.array([(0, 0, 0), (200, 0, 40), (10, 20, 30)], np.uint8)
    painted = palette[expected()]
    if kind == "palette":
        picture_ = Image.fromarray(painted).quantize(8)
        file = io.BytesIO()
        picture_.save(file, "PNG")
        content = file.getvalue()
    else:
        content = png(painted)
    files = {"labelmap.txt": lines.encode(), "SegmentationClass/a.png": content,
             "SegmentationObject/a.png": picture(5), "ImageSets/Segmentation/default.txt": b"a\n"}  # fmt: skip
    made = import_labels(zipped(tmp_path / "task.zip", files), into)
    assert made.masks == 1
    np.testing.assert_array_equal(mask(into), expected())
    painted[0, 0] = (1, 200, 3)
    files["SegmentationClass/a.png"] = png(painted)
    with pytest.raises(UserError, match=r"\(1, 200, 3\) in 1 pixels"):
        import_labels(zipped(tmp_path / "task.zip", files), into)


@pytest.mark.parametrize("export", ["json", "json_min"])
def test_brush_masks_of_label_studio(tmp_path, into, export):
    """`Brush labels to PNG`, with the project's JSON or JSON-MIN export beside it."""
    start = "task-12-annotation-34-by-me-too@x.org-tag"
    files = {f"{start}-{label}-0.png": png((expected() >= number).astype(np.uint8) * 255)
             for number, label in ((1, "skin"), (2, "left-eye"))}  # fmt: skip
    with pytest.raises(UserError, match="nothing says which picture task 12 shows; export the project as JSON too"):
        import_labels(zipped(tmp_path / "brush.zip", files), into)
    task = {"id": 12, "file_upload": "0a1b2c3d-a.png", "data": {"image": "/data/upload/1/0a1b2c3d-a.png"}}
    task = task if export == "json" else {"id": 12, "image": "/data/upload/1/0a1b2c3d-a.png", "tag": []}
    files["project-1-at-2026.json"] = json.dumps([task]).encode()
    assert import_labels(zipped(tmp_path / "brush.zip", files), into).masks == 1
    np.testing.assert_array_equal(mask(into), expected())


def test_labels_of_label_studio_with_dashes_are_told_apart_without_classes(tmp_path, into):
    """The JSON export names the labels; masks of several annotations of a task are all drawn, which is said."""
    (into / "classes.json").unlink()
    files = {f"task-3-annotation-{number}-by-1-tag-{label}-0.png": png((expected() == number).astype(np.uint8) * 255)
             for number, label in ((1, "upper-lip"), (2, "lower-lip"))}  # fmt: skip
    results = [{"value": {"format": "rle", "rle": [0], "brushlabels": [label]}} for label in ("upper-lip", "lower-lip")]
    task = {"id": 3, "data": {"image": "https://x.org/my/a.png?token=1.2"}, "annotations": [{"result": results}]}
    made = import_labels(zipped(tmp_path / "a.zip", files | {"p.json": json.dumps([task]).encode()}), into)
    assert made.classes.names == ["background", "upper-lip", "lower-lip"]
    assert "task 3: has 2 annotations, and the masks of all of them were drawn" in made.notes
    np.testing.assert_array_equal(mask(into), expected())
    with pytest.raises(UserError, match="p.json: is Label Studio's list of tasks; .* `Brush labels to PNG`"):
        import_labels(zipped(tmp_path / "b.zip", {"p.json": json.dumps([task]).encode()}), into)


def test_cvat_with_its_pictures_and_a_damaged_mask(tmp_path):
    lines = "background:0,0,0::\nskin:40,200,9::\nleft_eye:80,200,9::\n"
    palette = np.array([(0, 0, 0), (40, 200, 9), (80, 200, 9)], np.uint8)
    files = {"labelmap.txt": lines.encode(), "SegmentationClass/a.png": png(palette[expected()]),
             "SegmentationClass/b.png": png(palette[expected()])[:60], "JPEGImages/a.jpg": picture(1)}  # fmt: skip
    made = import_labels(zipped(tmp_path / "task.zip", files), tmp_path / "new")
    assert made.masks == 1 and [fault.file for fault in made.rejected] == ["SegmentationClass/b.png"]
    assert (tmp_path / "new/images/a.jpg").exists()
    np.testing.assert_array_equal(mask(tmp_path / "new"), expected())


def test_pictures_are_found_where_labelme_and_coco_say(tmp_path):
    """In another folder with a path of Windows, under an absolute path, of every format of pictures."""
    webp = io.BytesIO()
    Image.open(io.BytesIO(picture(1))).save(webp, "WEBP", lossless=True)
    labelme(tmp_path / "src/labels/a.json", shape("skin", SKIN), name="..\\pictures\\a.webp")
    for folder_, content in (("pictures", webp.getvalue()), ("others", picture(3))):
        (tmp_path / "src" / folder_).mkdir()
        (tmp_path / "src" / folder_ / "a.webp").write_bytes(content)
    import_labels(tmp_path / "src", tmp_path / "new")
    assert (tmp_path / "new/images/pictures/a.webp").read_bytes() == webp.getvalue()
    content = json.dumps(coco([flat(SKIN)], file="C:\\mine\\b.png")).encode()
    made = import_labels(zipped(tmp_path / "c.zip", {"c.json": content, "x/b.png": picture(2)}), tmp_path / "coco")
    assert made.masks == 1 and (tmp_path / "coco/images/x/b.png").exists()


@pytest.mark.parametrize("key", ["images", "categories"])
def test_coco_ids_that_stand_for_two_are_refused(tmp_path, into, key):
    content = coco([flat(SKIN)])
    content[key].append(content[key][0])
    with pytest.raises(UserError, match=f"several {key} have one id"):
        import_labels(zipped(tmp_path / "c.zip", {"c.json": json.dumps(content).encode()}), into)


def test_run_lengths_of_another_size_are_refused_before_they_are_drawn(tmp_path, into):
    content = json.dumps(coco({"size": [60000, 60000], "counts": [3600000000]})).encode()
    with pytest.raises(UserError, match="run lengths are of 60000x60000 pixels, not 40x40"):
        import_labels(zipped(tmp_path / "c.zip", {"c.json": content}), into)


def test_two_files_of_one_picture_are_not_both_drawn(tmp_path, into):
    files = {f"{name}.json": json.dumps(coco([flat(SKIN)])).encode() for name in "cd"}
    made = import_labels(zipped(tmp_path / "c.zip", files), into, overwrite=True)
    ((file, reason),) = made.rejected
    assert file == "d.json, a.png" and reason.startswith("labels the picture a.png, as c.json, a.png does")


def test_what_is_ignored_has_no_label_and_background_cuts_no_holes(tmp_path, into):
    labelme(tmp_path / "src/a.json", shape("skin", SKIN), shape("__ignore__", EYE), shape("_background_", EYE))
    made = import_labels(tmp_path / "src", into)
    np.testing.assert_array_equal(mask(into), np.where(expected() == 2, 255, expected()))
    assert "a.json: its parts cover its background, which cuts no holes into them" in made.notes
    files = {"classes.json": json.dumps(CLASSES).encode(), "masks/a.png": (into / "masks/a.png").read_bytes()}
    (into / "masks/a.png").unlink()
    import_labels(zipped(tmp_path / "masks.zip", files), into)
    np.testing.assert_array_equal(mask(into), np.where(expected() == 2, 255, expected()))


def test_names_of_labels_are_unique_and_in_utf8(tmp_path, into):
    """A category that is listed twice is one class; two classes that a label could mean are refused."""
    content = coco([flat(SKIN)], names=("skin", "skin", "left_eye"))
    content["annotations"][0]["category_id"] = content["categories"][1]["id"]
    made = import_labels(zipped(tmp_path / "c.zip", {"c.json": json.dumps(content).encode(), "a.png": picture(1)}),
                         tmp_path / "new")  # fmt: skip
    assert made.classes.names == ["background", "skin", "left_eye"] and mask(tmp_path / "new").max() == 1
    content["annotations"][0]["category_id"] = [1]
    with pytest.raises(UserError, match="unhashable"):
        import_labels(zipped(tmp_path / "c.zip", {"c.json": json.dumps(content).encode()}), into)
    cvat = {"SegmentationClass/a.png": png(expected()), "a.png": picture(1)}
    for lines, fault in (("eye:1,1,1::\nEye:2,2,2::", "rename 'eye' or 'Eye'"), ("é:1,1,1::", "is not UTF-8 text")):
        files = cvat | {"labelmap.txt": lines.encode("latin-1")}
        with pytest.raises(UserError, match=fault):
            import_labels(zipped(tmp_path / "cvat.zip", files), tmp_path / "other")


def test_masks_of_any_program_with_their_classes(tmp_path, into):
    files = {"x/classes.json": json.dumps(CLASSES).encode(), "x/masks/a.png": png(expected())}
    import_labels(zipped(tmp_path / "masks.zip", files), into)
    np.testing.assert_array_equal(mask(into), expected())


def test_what_holds_no_labels_is_refused(tmp_path, into):
    files = {"a.json": b"{", "b.json": b'{"x": 1}', "c.png": picture(1)}
    with pytest.raises(UserError, match="no labels found: expected LabelMe .*a.json: is not readable as JSON"):
        import_labels(zipped(tmp_path / "no.zip", files), into)


def test_later_classes_cover_earlier_ones_whatever_the_order():
    parts = [Part("left_eye", [np.array(EYE)]), Part("skin", [np.array(SKIN)])]
    for order in (parts, parts[::-1]):
        np.testing.assert_array_equal(drawn(order, NAMES, (SIDE, SIDE)), expected())
    voc = coloured(["a", "b", "c", "d"]).palette
    assert voc.tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128]]


def test_commands_export_and_import_again(tmp_path, into):
    (tmp_path / "suggested.txt").write_text(f"{into / 'images/a.png'}\n{into / 'images/deep/b.png'}\n")
    out, run = tmp_path / "to_label", CliRunner().invoke
    command = ["export", "labels", str(tmp_path / "suggested.txt"), "--out", str(out)]
    done = run(app, [*command, "--classes", str(into / "classes.json")])
    assert done.exit_code == 0 and "labelme" in done.output, done.output
    assert (out / "a.png").read_bytes() == picture(1) and (out / "deep/b.png").exists()
    assert (out / "labels.txt").read_text().split() == ["__ignore__", "_background_", "skin", "left_eye"]
    labelme(out / "a.json", shape("skin", SKIN), shape("left_eye", EYE))
    labelme(out / "deep/b.json", shape("skin", SKIN), name="b.png")
    done = run(app, ["import", "labels", str(out), "--into", str(into)])
    assert done.exit_code == 0 and "2 masks" in done.output, done.output
    np.testing.assert_array_equal(mask(into), expected())
    (into / "images/a.png").write_bytes(picture(9))
    done = run(app, [*command, "--classes", str(into / "classes.json")])
    assert done.exit_code == 1 and "a.png: exists and differs" in done.output
