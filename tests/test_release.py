"""An imported generator alone, and the files of EditGAN's and DatasetGAN's releases."""

# ruff: noqa: F811  fixtures are imported by name

import foreign_files as files
import numpy as np
import pytest
import torch
from PIL import Image
from tiny_editor import cheap_distance  # noqa: F401
from torch import nn
from typer.testing import CliRunner

from editgan.cli.pictures import app
from editgan.data.archive import encode_image, load_classes, write_archive
from editgan.editor import likeness, loading
from editgan.editor.editor import Editor
from editgan.editor.inputs import read_masks
from editgan.editor.release import import_classifiers, import_labels, import_latents, import_vectors, read_array
from editgan.encoder.encoder import EMBEDDED_SETS, save_latents
from editgan.errors import UserError
from editgan.generator.generator import load_generator
from editgan.images import save_png, to_pil
from editgan.segmentation.ensemble import load_segmentation
from editgan.segmentation.pixels import full_feature_stack
from editgan.weights import load_metadata, save_tensors, sha256

SIDE, W, ROWS = 32, 16, 8
NAMES = ["background", "skin", "nose", "eye"]


@pytest.fixture
def run(tmp_path):
    """runs/NAME of an imported generator, and the pretrained network that embedding needs."""
    with files.foreign_modules():
        torch.save(files.nvidia_generator(side=SIDE), tmp_path / "G.pt")
    folder = tmp_path / "runs" / "mine"
    said = editgan("import", "generator", tmp_path / "G.pt", "--into", folder)
    assert f"{SIDE} px, {ROWS} rows" in said and "parameters: G" in said and "licence" in said
    save_tensors(folder / "outputs/assets/lpips_vgg.safetensors", {"nothing": torch.zeros(1)})
    return folder


def editgan(*words, status=0):
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == status, done.output
    return done.output


def labelled(folder, count=2):
    """DatasetGAN's annotations: pictures, and masks with an eye on either side of the nose."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(count):
        Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(folder / f"image_{index}.png")
        mask = np.ones((SIDE, SIDE, 1))
        mask[:4], mask[12:20, 14:18], mask[8:10, 6:10], mask[8:10, 22:26] = 0, 2, 3, 3
        np.save(folder / f"image_mask{index}.npy", mask)
    classes = [{"name": name, "colour": [60 * k, 10, 200 - 60 * k]} for k, name in enumerate(NAMES)]
    (folder / "classes.json").write_text(str(classes).replace("'", '"'))
    return folder


def test_vectors_can_be_applied_to_photos_before_there_is_a_segmentation(run, tmp_path):
    outputs, out = run / "outputs", tmp_path / "out"
    np.save(tmp_path / "smile.npy", np.random.default_rng(0).normal(size=(ROWS, W)))
    editgan("import", "vectors", tmp_path / "smile.npy", "--into", run)
    save_png(tmp_path / "face.png", Image.fromarray(np.full((SIDE, SIDE, 3), 90, np.uint8)))
    options = ("--steps", 0, "--edit", "smile=1", "--outputs", outputs, "--out", out)
    editgan("apply", tmp_path / "face.png", *options)
    assert {path.name for path in out.iterdir()} == {f"face_{name}" for name in ("edited.png", "edited.safetensors", "strip.png")}  # noqa: E501  # fmt: skip
    editor = Editor.load(outputs, "cpu")
    editor.set_image(torch.zeros(1, 3, SIDE, SIDE, dtype=torch.uint8), steps=0)
    edited = editor.apply({"smile": 1.0})
    assert edited.region.all() and torch.equal(editor.paste(edited), edited.images)


def test_photos_are_not_compared_with_the_pictures_of_another_run(run, tmp_path, monkeypatch):
    """The main project lends its pretrained networks to an imported generator, and nothing else."""
    home = tmp_path / "home"
    (home / "outputs").mkdir(parents=True)
    (run / "outputs/assets").rename(home / "outputs/assets")
    save_latents(home / "outputs/encoder/latents.safetensors", dict.fromkeys(EMBEDDED_SETS, torch.zeros(2, 4, 4)), 0)
    (home / "outputs/data").mkdir()
    write_archive(home / "outputs/data/val.zip", [encode_image(np.zeros((SIDE, SIDE, 3), np.uint8))] * 2)
    monkeypatch.setattr(loading, "home_project", lambda: home)
    monkeypatch.setattr(likeness, "likenesses", lambda images, *_: [likeness.Likeness(0.5, 0.5)] * len(images))
    editor = Editor.load(run / "outputs", "cpu")
    editor.set_image(torch.zeros(1, 3, SIDE, SIDE, dtype=torch.uint8), steps=0)
    (found,) = editor.representation()
    assert editor.assets == home / "outputs/assets" and found.usual is None
    assert found.unknown == "encoder/latents.safetensors is missing; stage encoder writes it"


def test_a_generator_alone_embeds_samples_and_applies_vectors(run, tmp_path):
    outputs = run / "outputs"
    editor = Editor.load(outputs, "cpu")
    assert editor.settings.embedding(None, None) == (500, 0.1)
    picture = editor.sample([3])[0]
    save_png(tmp_path / "face.png", to_pil(picture))
    start = editor.set_image(picture, steps=0)
    torch.testing.assert_close(editor.w_plus, editor.G.w_avg.expand(1, ROWS, W))
    near = editor.set_image(picture, steps=60)
    error = [(one.float() - picture.float()).square().mean() for one in (start, near)]
    assert error[1] < 0.8 * error[0], "embedded from the mean latent"
    editgan("embed", tmp_path / "face.png", "--steps", 2, "--outputs", outputs, "--out", tmp_path / "edited")
    np.save(tmp_path / "wider.npy", np.full((1, ROWS, W), 0.3, np.float32))
    editgan("import", "vectors", tmp_path / "wider.npy", "--into", run)
    again = Editor.load(generator=outputs / "generator/G_ema.safetensors", device="cpu")
    assert Editor.load(generator=run, device="cpu").vectors.keys() == again.vectors.keys() == {"wider"}
    with pytest.raises(UserError, match="nothing: missing; `editgan import generator` writes"):
        Editor.load(generator=tmp_path / "nothing", device="cpu")
    again.set_latents(editor.w_plus)
    edited = again.apply({"wider": 2.0})
    torch.testing.assert_close(edited.w_plus, editor.w_plus + 0.6)
    painted = lambda: read_masks([tmp_path / "painted.png"], again)  # noqa: E731
    for fails in (lambda: again.apply({"wider": 1.0}, refine=3), again.segment, painted):
        with pytest.raises(UserError, match="no segmentation yet: label 16 pictures"):
            fails()
    for command in (("segment",), ("apply", "--edit", "wider", "--refine", 2)):
        options = ("--outputs", outputs, "--out", tmp_path / "none")
        failed = editgan(*command, tmp_path / "face.png", *options, status=1)
        assert "no segmentation yet" in failed and not (tmp_path / "none").exists(), "nothing is embedded before"


def test_labels_make_a_segmentation_and_then_everything_works(run, tmp_path):
    outputs, folder = run / "outputs", labelled(tmp_path / "annotation")
    classes = folder / "classes.json"
    editgan("import", "annotations", folder, "--into", tmp_path / "labels", "--classes", classes, "--left-right")
    names = load_classes(tmp_path / "labels/classes.json").names
    assert names == ["background", "skin", "nose", "left_eye", "right_eye"]
    mask = np.array(Image.open(tmp_path / "labels/masks/image_1.png"))
    assert set(mask[8:10, 6:10].ravel()) == {4} and set(mask[8:10, 22:26].ravel()) == {3}, "left is the person's"
    editor = Editor.load(outputs, "cpu")
    editor.sample([1, 2])
    for index in range(2):  # latents beside the pictures are used
        save_tensors(
            tmp_path / f"labels/images/image_{index}.safetensors", {"w_plus": editor.w_plus[index : index + 1]}
        )
    said = editgan("train", "segmentation", tmp_path / "labels", "--outputs", outputs)
    assert "of the labelled pixels" in said
    recorded = load_metadata(outputs / "segmentation/S.safetensors")["generator"]
    assert recorded == sha256(outputs / "generator/G_ema.safetensors")
    editor = Editor.load(outputs, "cpu")
    editor.sample([1])
    before = editor.segment()
    assert (before[0] == torch.from_numpy(mask)).float().mean() > 0.9 and editor.class_names == names
    painted = before.clone()
    painted[:, 24:28, 10:20] = 2
    edited = editor.edit(painted, steps=5)
    editor.save_vector(run / "outputs/editing/vectors/mine", edited)
    refined = editor.apply({"mine": 1.0}, refine=2)
    assert refined.images.shape == (1, 3, SIDE, SIDE)
    np.save(tmp_path / "none.npy", np.ones((ROWS, W)))
    import_vectors(tmp_path / "none.npy", outputs)
    editor = Editor.load(outputs, "cpu")
    editor.sample([1])
    with pytest.raises(UserError, match="names no parts"):
        editor.apply({"none": 1.0}, refine=2)
    with pytest.raises(UserError, match="exists already"):
        editgan_fails("train", "segmentation", tmp_path / "labels", "--outputs", outputs)


def editgan_fails(*words):
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 1
    raise UserError(done.output)


def test_networks_of_another_generator_are_refused(run, tmp_path):
    from editgan.encoder.encoder import Encoder, save_encoder

    widths = dict(channel_base=256, channel_max=16, pyramid_width=8, head_width=8)
    save_encoder(run / "outputs/encoder/E.safetensors", Encoder(img_resolution=64, num_ws=10, w_dim=W, **widths))
    with pytest.raises(UserError, match="is for pictures of 64x64"):
        Editor.load(run / "outputs", "cpu")
    (run / "outputs/encoder/E.safetensors").unlink()
    E = Encoder(img_resolution=SIDE, num_ws=ROWS, w_dim=W, **widths)
    save_encoder(run / "outputs/encoder/E.safetensors", E)
    with pytest.raises(UserError, match="their w_avg differ"):
        Editor.load(run / "outputs", "cpu")
    (run / "outputs/encoder/E.safetensors").unlink()
    E.start_at(load_generator(run / "outputs/generator/G_ema.safetensors").w_avg)
    save_encoder(run / "outputs/encoder/E.safetensors", E)
    assert isinstance(Editor.load(run / "outputs", "cpu").E, Encoder), "used once it is there"


class Classifier(nn.Module):
    """A pixel classifier of the release."""

    def __init__(self, features, count):
        super().__init__()
        one, two = (128, 32) if count < 32 else (256, 128)
        self.layers = nn.Sequential(
            nn.Linear(features, one), nn.ReLU(), nn.BatchNorm1d(one),
            nn.Linear(one, two), nn.ReLU(), nn.BatchNorm1d(two), nn.Linear(two, count),
        )  # fmt: skip
        for norm in (self.layers[2], self.layers[5]):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)


@pytest.mark.parametrize("count", [20, 32])
@torch.no_grad()
def test_classifiers_of_the_release_give_the_same_logits(run, tmp_path, count):
    editor, folder = Editor.load(run / "outputs", "cpu"), tmp_path / "classifiers"
    folder.mkdir()
    made = [Classifier(sum(editor.G.feature_channels), count).eval() for _ in range(11)]
    for index, one in enumerate(made):
        state = {f"module.{name}": tensor for name, tensor in one.state_dict().items()}
        torch.save({"model_state_dict": state}, folder / f"model_{index}.pth")
    path = import_classifiers(folder, run / "outputs")
    S = load_segmentation(path)
    editor.sample([5])
    maps = editor.G.synthesis_features(editor.w_plus)[1]
    pixels = full_feature_stack(maps, SIDE)[0].flatten(1).T
    theirs = torch.stack([one.layers(pixels) for one in made])  # [M, pixels, K]
    ours = S(maps, SIDE)[0].flatten(2).transpose(1, 2)
    assert (ours - theirs).abs().max() < 1e-5 * theirs.abs().max()
    assert load_classes(run / "outputs/data/classes.json").names[:2] == ["background", "part_01"]
    with pytest.raises(UserError, match="exists already"):
        import_classifiers(folder, run / "outputs")
    Editor.load(run / "outputs", "cpu")


@pytest.mark.parametrize("flips", [40, pytest.param(200, marks=pytest.mark.slow)])
def test_damaged_arrays_and_classifiers_give_one_line(run, tmp_path, flips):
    """Flipped bits, of arrays in the header, which is Python text."""
    editor, folder = Editor.load(run / "outputs", "cpu"), tmp_path / "classifiers"
    folder.mkdir()
    np.save(tmp_path / "ok.npy", np.ones((ROWS, W), np.float32))
    torch.save(Classifier(sum(editor.G.feature_channels), 4).state_dict(), folder / "model_0.pth")
    array, model, rng = (
        (tmp_path / "ok.npy").read_bytes(),
        (folder / "model_0.pth").read_bytes(),
        np.random.default_rng(0),
    )
    for whole, path, read, last in (
        (
            array,
            tmp_path / "x.npy",
            lambda: import_latents(tmp_path / "x.npy", run / "outputs", tmp_path / "latents"),
            128,
        ),
        (model, folder / "model_0.pth", lambda: import_classifiers(folder, run / "outputs"), len(model)),
    ):
        failed = 0
        for place in rng.integers(0, last, flips):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << int(rng.integers(8))
            path.write_bytes(damaged)
            try:
                for written in np.ravel(read()):
                    written.unlink()
                (run / "outputs/data/classes.json").unlink(missing_ok=True)
            except UserError as error:
                assert "\n" not in str(error) and str(path.name) in str(error), place
                failed += 1
        assert failed > flips // 4


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (
            lambda state: state.update({"layers.5.running_var": -state["layers.5.running_var"]}),
            "5.running_var has values",
        ),
        (
            lambda state: state.update({"layers.0.bias": state["layers.0.bias"] * np.nan}),
            "0.bias has values that are NaN",
        ),
        (lambda state: state.update({"layers.0.weight": torch.ones(3)}), "0.weight has the shape .3. instead of"),
        (lambda state: state.update({"layers.6.weight": torch.ones(4, 33)}), "6.weight has the shape .4, 33."),
        (lambda state: state.update({"layers.6.weight": torch.tensor(1.0)}), "6.weight has the shape .. instead"),
        (lambda state: state.update({"model_state_dict": torch.ones(2)}), "not a pixel classifier"),
    ],
)
def test_classifiers_that_are_none_are_refused(run, tmp_path, change, fault):
    editor, folder = Editor.load(run / "outputs", "cpu"), tmp_path / "classifiers"
    folder.mkdir()
    state = dict(Classifier(sum(editor.G.feature_channels), 4).state_dict())
    change(state)
    torch.save(state, folder / "model_0.pth")
    with pytest.raises(UserError, match=fault):
        import_classifiers(folder, run / "outputs")


def test_unsuitable_files_are_named(run, tmp_path):
    outputs = run / "outputs"
    np.save(tmp_path / "large.npy", np.full((ROWS, W), 1e300))
    with pytest.raises(UserError, match="infinite as 32-bit numbers"):
        import_vectors(tmp_path / "large.npy", outputs)
    np.save(tmp_path / "pose.npy", np.array({"pose": 1}, dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="pose.npy: not an array of numbers .it holds pickled objects"):
        read_array(tmp_path / "pose.npy")
    np.save(tmp_path / "car.npy", np.zeros((16, 512), np.float32))
    with pytest.raises(UserError, match=r"has the shape \[16, 512\]; this generator's is \[8, 16\]"):
        import_vectors(tmp_path / "car.npy", outputs)
    np.save(tmp_path / "nan.npy", np.full((ROWS, W), np.nan))
    with pytest.raises(UserError, match="NaN or infinite"):
        import_latents(tmp_path / "nan.npy", outputs, tmp_path / "latents")
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY\x01")
    with pytest.raises(UserError, match="cut.npy: not an array"):
        read_array(tmp_path / "cut.npy")
    with pytest.raises(UserError, match="import the generator first"):
        import_vectors(tmp_path / "car.npy", tmp_path / "nothing")
    folder = labelled(tmp_path / "annotation")
    (folder / "image_mask1.npy").unlink()
    with pytest.raises(UserError, match="image_1.png: has no mask image_mask1.npy"):
        import_labels(folder, tmp_path / "labels")
    (folder / "image_1.png").rename(tmp_path / "away.png")
    np.save(folder / "image_mask1.npy", np.zeros((8, 8)))
    with pytest.raises(UserError, match="image_mask1.npy has no picture image_1.png"):
        import_labels(folder, tmp_path / "labels")
    Image.open(tmp_path / "away.png").save(folder / "image_0.jpg")
    with pytest.raises(UserError, match="image_0.png: has the number of image_0.jpg"):
        import_labels(folder, tmp_path / "labels")
    (folder / "image_0.jpg").unlink()
    (tmp_path / "away.png").rename(folder / "image_1.png")
    np.save(folder / "image_mask1.npy", np.zeros((0, 8)))
    with pytest.raises(UserError, match="not a mask of class numbers"):
        import_labels(folder, tmp_path / "labels")
    np.save(folder / "image_mask1.npy", np.zeros((8, 8)))
    with pytest.raises(UserError, match="is 32x32, its mask 8x8"):
        import_labels(folder, tmp_path / "labels")
    np.save(folder / "image_mask1.npy", np.zeros((SIDE, SIDE)))
    pixels = np.random.default_rng(2).integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
    Image.fromarray(pixels.astype(np.uint16) * 257).save(folder / "image_1.png")  # as every reader of pictures sees it
    import_labels(folder, tmp_path / "deep")
    assert (np.asarray(Image.open(tmp_path / "deep/images/image_1.png")) == pixels[:, :, None]).all()
    np.save(folder / "image_mask1.npy", np.full((SIDE, SIDE), 9))
    with pytest.raises(UserError, match="has the label 9"):
        import_labels(folder, tmp_path / "labels", folder / "classes.json")
    np.save(tmp_path / "ok.npy", np.zeros((1, ROWS, W)))
    (tmp_path / "release").mkdir()
    (tmp_path / "ok.npy").rename(tmp_path / "release" / "ok.npy")
    np.save(tmp_path / "release" / "ok_npose.npy", np.array([{}]), allow_pickle=True)  # as EditGAN's poses
    (written,) = import_latents(tmp_path / "release", outputs, tmp_path / "latents")
    editgan("embed", written, "--outputs", outputs, "--out", tmp_path / "edited")
    assert not (tmp_path / "labels").exists(), "nothing is left half done"
