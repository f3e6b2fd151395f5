"""Uncropped photos: what is read, which faces are found and where, and that an edit leaves everything else alone."""

import dataclasses
import math
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from test_cli import run  # noqa: F401
from tiny_editor import cheap_distance, outputs  # noqa: F401  fixtures: a model of random weights
from tiny_models import SIDE

from editgan import decoding
from editgan.assets.alignment import HEADS
from editgan.assets.load import load_network
from editgan.data.archive import encode_image, write_archive
from editgan.data.heads.head import sample_head
from editgan.data.heads.mesh import load_head_mesh
from editgan.data.heads.render import render
from editgan.data.photo import Face, Photo, blend, chosen, crop_face, find_faces, read_photo
from editgan.decoding import MAX_PIXELS
from editgan.editor import inputs, likeness
from editgan.editor.editor import Editor
from editgan.encoder.encoder import EMBEDDED_SETS, save_latents
from editgan.errors import UserError
from editgan.images import read_image, save_png, to_pil
from editgan.weights import write_json


def head(index: int, size: int) -> Image.Image:
    """A rendered head, seen from the front in the framing that the model knows."""
    mesh = load_head_mesh()
    one = sample_head(mesh, "pool", index, seed=0, few_shot=16)
    view = dataclasses.replace(one.view, yaw=0.0, pitch=0.0, roll=0.0, shift=(0.0, 0.0), zoom=1.0)
    return Image.fromarray(render(mesh, one.who, one.expression, view, resolution=size, supersample=1)[0])


def placed(canvas: Image.Image, picture: Image.Image, corner: tuple[float, float], side: float, turn: float) -> Face:
    """Paste a square picture, scaled to a side and turned clockwise about its corner: the face as it then lies."""
    c, s = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    k = picture.width / side
    x, y = corner
    back = (c * k, s * k, -k * (c * x + s * y), -s * k, c * k, k * (s * x - c * y))  # canvas -> picture
    mask = Image.new("L", picture.size, 255).transform(canvas.size, Image.Transform.AFFINE, back)
    moved = picture.transform(canvas.size, Image.Transform.AFFINE, back, Image.Resampling.BICUBIC)
    canvas.paste(moved, (0, 0), mask)
    turned = torch.tensor(HEADS) * side @ torch.tensor([[c, s], [-s, c]])
    return Face(points=turned + torch.tensor(corner), score=1.0)


def photo_of(picture: Image.Image) -> Photo:
    return Photo(pixels=torch.from_numpy(np.array(picture)).permute(2, 0, 1))


def gaps(face: Face, truth: Face) -> float:
    """Larger distance of the two eyes from where they are, in shares of the face's square."""
    return float((face.points - truth.points)[:2].norm(dim=1).max()) / truth.side


@pytest.fixture(scope="module")
def scene() -> tuple[Image.Image, list[Face]]:
    """A picture of 700x480 with two heads, one turned by 12 degrees, and where they are."""
    axis = np.linspace(90, 170, 700)
    canvas = Image.fromarray(np.broadcast_to(axis[:, None], (480, 700, 3)).astype(np.uint8))
    small = placed(canvas, head(3, 192), (470.0, 60.0), 150.0, 0.0)
    large = placed(canvas, head(8, 192), (110.0, 60.0), 280.0, 12.0)
    return canvas, [large, small]


@pytest.fixture(scope="module")
def detector(assets_dir):
    return load_network("blazeface", assets_dir)


# --- faces ---------------------------------------------------------------------------------------------------------


def test_faces_are_found_where_they_are_the_largest_first(scene, detector):
    canvas, truth = scene
    found = find_faces(detector, photo_of(canvas))
    assert len(found) == 2
    for face, true, index in zip(found, truth, (8, 3), strict=True):
        assert gaps(face, true) < 0.05
        (alone,) = find_faces(detector, photo_of(head(index, 192)))  # upright, in a picture of its own
        moved = Face(alone.points / 192 @ true.matrix[:, :2].T + true.matrix[:, 2], 1.0)
        assert gaps(face, moved) < 0.03 and face.side == pytest.approx(moved.side, rel=0.08)
    a, b = found[0].matrix[0, 0], found[0].matrix[1, 0]
    assert math.degrees(math.atan2(b, a)) == pytest.approx(12, abs=3)


def test_small_faces_of_large_pictures_are_found(scene, detector):
    """The large head fills a twelfth of the picture; the detector by itself sees it from a sixth on."""
    canvas, truth = scene
    wide = Image.new("RGB", (3200, 900), (120, 130, 140))
    wide.paste(canvas, (2300, 300))
    found = find_faces(detector, photo_of(wide))
    assert gaps(found[0], Face(truth[0].points + torch.tensor([2300.0, 300.0]), 1.0)) < 0.05


def test_nothing_is_found_where_no_face_is(detector):
    noise = torch.randint(0, 256, (3, 30, 40), dtype=torch.uint8)
    for pixels in (
        noise.repeat_interleave(8, 1).repeat_interleave(8, 2),
        torch.full((3, 5, 9), 128, dtype=torch.uint8),
    ):
        assert find_faces(detector, Photo(pixels)) == []
    with pytest.raises(UserError, match="holiday.jpg: no face was found"):
        chosen([], 1, "holiday.jpg")


def test_hidden_colours_are_no_face(scene, detector):
    photo = photo_of(scene[0])
    alpha = torch.full(photo.pixels.shape[1:], 255, dtype=torch.uint8)
    alpha[:, 420:] = 0
    assert len(find_faces(detector, dataclasses.replace(photo, alpha=alpha))) == 1


def test_a_face_is_chosen_by_its_number():
    faces = [Face(torch.tensor(HEADS) * side, 1.0) for side in (90, 40)]
    assert chosen(faces, 2, "x") == [faces[1]] and chosen(faces, None, "x") == faces
    with pytest.raises(UserError, match="x.png: --face 3 was requested, but 2 faces were found"):
        chosen(faces, 3, "x.png")


# --- into the framing and back ---------------------------------------------------------------------------------------


def test_the_crop_undoes_the_placing(scene):
    canvas, truth = scene
    for face, index in zip(truth, (8, 3), strict=True):
        crop = crop_face(photo_of(canvas), face, 64)
        expected = np.asarray(head(index, 192).resize((64, 64), Image.Resampling.BOX)).astype(int)
        crop = crop.permute(1, 2, 0).numpy().astype(int)

        def error(picture: np.ndarray) -> float:
            return np.abs(picture - expected)[4:-4, 4:-4].mean()  # noqa: B023

        shifted = min(error(np.roll(crop, step, axis)) for step in (-1, 1) for axis in (0, 1))
        assert error(crop) < 0.6 * shifted, "half a pixel off would be nearer to one of the shifted"


def test_a_change_is_put_back_at_full_size_and_nothing_else_moves(scene):
    canvas, truth = scene
    photo, face = Photo(photo_of(canvas).pixels // 2), truth[0]
    before = torch.full((3, 64, 64), 100, dtype=torch.uint8)
    region = torch.zeros(64, 64, dtype=torch.bool)
    region[40:52, 22:42] = True
    after = before + 30  # everywhere: the region alone is to be taken
    result = blend(photo, face, before, after, region).pixels
    changed = (result != photo.pixels).any(0)
    y, x = torch.meshgrid(torch.arange(480) + 0.5, torch.arange(700) + 0.5, indexing="ij")
    places = torch.stack([x, y], -1) - face.matrix[:, 2]
    u, v = (places @ face.matrix[:, :2] / face.side**2 * 64).unbind(-1)  # pixels of the crop
    outside = (u < 22 - 5) | (u > 42 + 5) | (v < 40 - 5) | (v > 52 + 5)
    inside = (u > 23) & (u < 41) & (v > 41) & (v < 51)
    assert not changed[outside].any() and changed[inside].all()
    assert ((result.int() - photo.pixels.int())[:, inside] == 30).all(), "the photo's own detail stays"
    assert torch.equal(blend(photo, face, before, before, region).pixels, photo.pixels)
    everything = blend(photo, face, before, after, torch.ones(64, 64, dtype=torch.bool)).pixels
    square = (u > 0) & (u < 64) & (v > 0) & (v < 64)
    assert torch.equal(everything[:, ~square], photo.pixels[:, ~square])
    border = square & ((u < 0.5) | (v < 0.5) | (u > 63.5) | (v > 63.5))
    assert (everything.int() - photo.pixels.int())[:, border].abs().max() <= 8, "no seam at the crop's border"


def test_faces_that_reach_over_the_border_are_cropped_and_put_back(scene):
    canvas, truth = scene
    photo = photo_of(canvas.crop((200, 100, 420, 300)))
    face = Face(truth[0].points - torch.tensor([200.0, 100.0]), 1.0)
    crop = crop_face(photo, face, 64)
    result = blend(photo, face, crop, 255 - crop, torch.ones(64, 64, dtype=torch.bool))
    assert crop.shape == (3, 64, 64) and result.pixels.shape == photo.pixels.shape
    assert not torch.equal(result.pixels, photo.pixels)


# --- what is read ----------------------------------------------------------------------------------------------------


def test_every_kind_of_picture_is_read_in_8_bits(tmp_path):
    ramp = np.linspace(0, 65535, 12).astype(np.uint16).reshape(3, 4)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    assert np.array_equal(np.asarray(read_photo(tmp_path / "deep.png").to_pil())[:, :, 0], np.round(ramp / 257))
    colours = np.random.default_rng(0).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    rgb = Image.fromarray(colours)
    rgb.convert("CMYK").save(tmp_path / "print.tif")
    assert np.abs(np.asarray(read_photo(tmp_path / "print.tif").to_pil()).astype(int) - colours).max() <= 1
    rgb.convert("L").save(tmp_path / "grey.png")
    assert read_photo(tmp_path / "grey.png").to_pil().mode == "RGB"
    rgb.convert("P").save(tmp_path / "indexed.png", transparency=0)
    assert read_photo(tmp_path / "indexed.png").to_pil().mode == "RGBA"
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert read_photo(tmp_path / "moving.gif").to_pil().getpixel((0, 0)) == (255, 0, 0)
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned by 90 degrees clockwise
    rgb.save(tmp_path / "turned.png", exif=turned)
    upright = read_photo(tmp_path / "turned.png").pixels
    assert torch.equal(upright, torch.from_numpy(np.ascontiguousarray(np.rot90(colours, -1))).permute(2, 0, 1))


def test_transparency_is_kept_and_nothing_else(tmp_path):
    alpha = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4) * 20)
    picture = Image.merge("RGBA", [*Image.new("RGB", (4, 3), (10, 20, 30)).split(), alpha])
    exif = Image.Exif()
    exif[0x010E] = "where it was taken"
    picture.save(tmp_path / "a.png", icc_profile=b"profile", exif=exif)
    photo = read_photo(tmp_path / "a.png")
    assert "profile is damaged" in photo.notes[0]
    save_png(tmp_path / "b.png", photo.to_pil())
    with Image.open(tmp_path / "b.png") as again:
        again.load()
        assert np.array_equal(np.asarray(again), np.asarray(picture))
        assert "icc_profile" not in again.info and not again.getexif()


def test_broken_and_huge_files_are_refused_in_a_line(tmp_path, monkeypatch):
    Image.effect_noise((200, 200), 50).convert("RGB").save(tmp_path / "a.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:4000])
    with pytest.raises(UserError, match="cut.jpg: cannot be read as an image .*truncated"):
        read_photo(tmp_path / "cut.jpg")
    save_png(tmp_path / "a.png", Image.new("L", (4, 4)))
    content = (tmp_path / "a.png").read_bytes()
    for name, side in (("bomb.png", 60_000), ("large.png", math.isqrt(MAX_PIXELS) + 1)):  # at the first Pillow raises
        header = b"IHDR" + struct.pack(">II", side, side) + content[24:29]
        (tmp_path / name).write_bytes(content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:])
    for name in ("bomb.png", "large.png"):
        with pytest.raises(UserError, match=f"{name}: .*pixels"):
            read_photo(tmp_path / name)
    (tmp_path / "page.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    with pytest.raises(UserError, match="page.png"):
        read_photo(tmp_path / "page.png")
    Image.fromarray(np.zeros((3, 4), np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(UserError, match="floating-point"):
        read_photo(tmp_path / "float.tif")
    monkeypatch.setattr(decoding, "MAX_PIXELS", 39_999)
    with pytest.raises(UserError, match="a.jpg: .*is 200x200"):
        read_photo(tmp_path / "a.jpg")


# --- the command line ------------------------------------------------------------------------------------------------


@pytest.fixture
def with_networks(outputs, assets_dir):  # noqa: F811
    for name in ("blazeface", "efflite0", "lpips_alex", "mobilefacenet"):
        link = outputs / "assets" / f"{name}.safetensors"
        if not link.exists():
            link.symlink_to(assets_dir / link.name)


def test_an_edit_comes_back_on_the_photo(run, with_networks, scene, tmp_path):  # noqa: F811
    canvas, truth = scene
    transparent = canvas.copy()
    transparent.putalpha(Image.linear_gradient("L").resize(canvas.size).point(lambda value: 128 + value // 2))
    save_png(tmp_path / "party.png", transparent)
    command = ("apply", "party.png", "--steps", "0", "--edit", "bigger_nose=1.5")
    status, said = run(*command, "--all-faces")
    assert status == 0 and "edited pictures in" in said
    for name in ("party_face1", "party_face2"):
        assert f"{name}: aligned from" in said and "LPIPS-Alex" in said
        assert {"aligned", "embedded", "strip"} <= {
            path.stem.removeprefix(f"{name}_") for path in (tmp_path / "edited").glob(f"{name}_*.png")
        }
    both = np.asarray(Image.open(tmp_path / "edited" / "party_edited.png"))
    before = np.asarray(transparent)
    assert both.shape == before.shape and np.array_equal(both[:, :, 3], before[:, :, 3])
    assert run(*command, "--face", "2", "--out", "second")[0] == 0
    second = np.asarray(Image.open(tmp_path / "second" / "party_edited.png"))
    changed, left = (second != before).any(2), np.zeros(before.shape[:2], bool)
    left[:, 430:650] = True
    assert changed.any() and not changed[~left].any() and (both != before).any(2)[~left].any()
    for arguments, fault in (
        (("--face", "3"), "party.png: --face 3 was requested, but 2 faces were found"),
        (("--face", "1", "--all-faces"), "are mutually exclusive"),
    ):
        status, said = run(*command, *arguments, "--out", "third")
        assert status == 1 and fault in said and not (tmp_path / "third").exists()
    save_png(tmp_path / "wall.png", Image.new("RGB", (300, 200), "grey"))
    (tmp_path / "text.png").write_text("hello")
    status, said = run("apply", "a.png", "wall.png", "text.png", "--edit", "red_hair", "--out", "third")
    assert status == 1 and "wall.png: no face was found" in said and "text.png: cannot be read" in said
    assert "2 of 3 pictures cannot be used" in said and not (tmp_path / "third").exists()


def test_masks_of_photos_are_painted_on_too(run, with_networks, scene, tmp_path):  # noqa: F811
    save_png(tmp_path / "party.png", scene[0])
    assert run("segment", "party.png", "--steps", "0")[0] == 0
    mask = np.array(Image.open(tmp_path / "edited" / "party_mask.png"))
    assert mask.shape == (SIDE, SIDE)
    mask[10:16, 8:14] = (mask[10, 8] + 1) % 4
    Image.fromarray(mask).save(tmp_path / "painted.png")
    status, said = run("edit", "party.png", "painted.png", "--steps", "0", "--edit-steps", "2")
    assert status == 0 and Image.open(tmp_path / "edited" / "party_edited.png").size == (700, 480)
    assert run("embed", "party.png", "a.png", "--steps", "0")[0] == 0


def test_pictures_of_the_models_size_are_taken_as_they_are(run, outputs, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(inputs, "find_faces", lambda *_: pytest.fail("looked for a face"))
    status, said = run("apply", "a.png", "--steps", "0", "--edit", "red_hair")
    assert status == 0 and "LPIPS" not in said
    status, said = run("embed", "a.png", "--steps", "0", "--face", "2")
    assert status == 1 and f"a.png: is an aligned face ({SIDE}x{SIDE}); --face 2 needs a whole photo" in said
    assert read_image(tmp_path / "edited" / "a_edited.png", SIDE).shape == (3, SIDE, SIDE)


def test_a_class_without_faces_takes_square_pictures_whole(request, run, outputs, with_networks, tmp_path):  # noqa: F811
    recipe = write_json(outputs / "data" / "recipe.json", {"source": "cars"})
    request.addfinalizer(recipe.unlink)
    square = torch.randint(0, 256, (3, 5 * SIDE, 5 * SIDE), dtype=torch.uint8)
    save_png(tmp_path / "car.png", to_pil(square))
    status, said = run("apply", "car.png", "--steps", "0", "--edit", "red_hair")
    assert status == 0 and "aligned from 160 px" in said and "similarity 0." in said, said
    aligned = read_image(tmp_path / "edited" / "car_aligned.png").float()
    assert (aligned - F.avg_pool2d(square.float(), 5)).abs().mean() < 8
    assert read_image(tmp_path / "edited" / "car_edited.png").shape == square.shape
    save_png(tmp_path / "wide.png", to_pil(square[:, 7:]))
    said = run("embed", "wide.png", "--steps", "0")[1]
    assert f"wide.png: is {5 * SIDE}x{5 * SIDE - 7}; crop it to a square" in said


def test_the_editor_blends_only_its_own_edit(outputs):  # noqa: F811
    editor = Editor.load(outputs, "cpu")
    photo, face = Photo(torch.full((3, 90, 120), 99, dtype=torch.uint8)), Face(torch.tensor(HEADS) * 80, 1.0)
    editor.set_image(crop_face(photo, face, SIDE), steps=0)
    edited = editor.apply({"bigger_nose": 2.0})
    changed = (editor.blend(edited, photo, {0: face}).pixels != 99).any(0)
    assert changed.any() and not changed[:, 80:].any()
    editor.sample([1])
    with pytest.raises(UserError, match="belongs to images set earlier"):
        editor.blend(edited, photo, {0: face})


def test_likeness_falls_with_blur_and_with_another_head(assets_dir):
    heads = torch.stack([photo_of(head(index, 64)).pixels for index in (3, 8)])
    blurred = torch.nn.functional.avg_pool2d(heads.float(), 5, 1, 2).to(torch.uint8)
    for itself, softer, other in zip(
        *(likeness.likenesses(heads, images_, assets_dir) for images_ in (heads, blurred, heads.flip(0))), strict=True
    ):
        assert itself.lpips < 1e-6 and itself.kept == pytest.approx(1, abs=1e-5)
        assert 0 < softer.lpips and softer.kept < 1
        assert other.lpips > 0.1 and other.kept < 0.7


def test_what_is_warned_of_is_what_the_models_own_kind_seldom_is(run, outputs, with_networks, scene, tmp_path):  # noqa: F811
    """Validation pictures that the model holds exactly, and ones that it does not hold at all."""
    editor = Editor.load(outputs, "cpu")
    held = editor.sample(list(range(12)))
    save_latents(outputs / "encoder" / "latents.safetensors", dict.fromkeys(EMBEDDED_SETS, editor.w_plus), 0)
    write_archive(outputs / "data" / "val.zip", [encode_image(image.permute(1, 2, 0).numpy()) for image in held])
    usual = likeness.usual_likeness(editor.render, outputs, editor.assets)
    assert usual.lpips < 0.01 and usual.kept > 0.98
    save_png(tmp_path / "party.png", scene[0])
    command = ("embed", "party.png", "--steps", "0")
    assert "party: the model cannot represent this picture" in run(*command)[1]
    strangers = [encode_image(np.full((SIDE, SIDE, 3), value, np.uint8)) for value in range(0, 240, 20)]
    write_archive(outputs / "data" / "val.zip", strangers)
    assert likeness.usual_likeness(editor.render, outputs, editor.assets).lpips > 0.1
    said = run(*command)[1]
    (outputs / "data" / "val.zip").unlink()
    assert "data/val.zip is missing; stage data writes it" in run(*command)[1] and "val.zip" not in said


# --- photographs of people -------------------------------------------------------------------------------------------


def test_people_are_found_and_aligned(detector, tmp_path):
    """Pupils placed by hand (Face Research Lab London Set), in photos turned and set into larger ones."""
    folder = os.environ.get("EDITGAN_PHOTOS")
    if not folder:
        pytest.skip("EDITGAN_PHOTOS is not set: no photographs of people to look at")
    for path in sorted((Path(folder) / "london" / "neutral").glob("*.jpg"))[:2]:
        rows = path.with_suffix(".csv").read_text().split()
        picture, canvas = Image.open(path).convert("RGB"), Image.new("RGB", (1300, 1100), (210, 210, 205))
        placed(canvas, picture, (500.0, 200.0), 540.0, 15.0)
        canvas.save(tmp_path / "photo.jpg", quality=95)
        (face,) = find_faces(detector, read_photo(tmp_path / "photo.jpg"))
        pupils = torch.tensor([[float(value) for value in row.split(",")[-2:]] for row in rows if row[0].isdigit()][:2])
        c, s = math.cos(math.radians(15)), math.sin(math.radians(15))
        true = pupils @ torch.tensor([[c, s], [-s, c]]) + torch.tensor([500.0, 200.0])
        assert (face.points[:2] - true).norm(dim=1).max() < 0.04 * face.side
        assert to_pil(crop_face(read_photo(tmp_path / "photo.jpg"), face, 64)).size == (64, 64)
