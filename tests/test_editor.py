"""The editor and its command line on networks of random weights: what people call, what they get, what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import SIDE, save_models
from torch import nn
from typer.testing import CliRunner

from editgan.cli import pictures as cli
from editgan.data.archive import load_attributes, load_classes, load_images, load_masks
from editgan.data.paste import paste_back
from editgan.editing.masks import painted_parts
from editgan.editing.params import ObjectiveWeights
from editgan.editing.vectors import EditingVector, load_vector, save_vector
from editgan.editor import editor as editor_module
from editgan.editor.editor import Editor
from editgan.editor.inputs import files_in
from editgan.editor.settings import Settings, run_settings
from editgan.errors import UserError
from editgan.images import read_image, read_mask, save_mask, save_png, to_float, to_pil
from editgan.runtime.environment import PROJECT_ROOT
from editgan.segmentation.labelled import labelled_samples
from editgan.weights import load_tensors, save_tensors

NAMES = ["background", "skin", "nose", "hair"]
PALETTE = np.array([[0, 0, 0], [200, 150, 100], [250, 220, 10], [90, 60, 150]], np.uint8)


class Distance(nn.Module):
    """In the place of LPIPS and of the face network: pictures at half size, and their differences."""

    def forward(self, images):
        return self.features(images).flatten(1)

    def features(self, x):
        return nn.functional.avg_pool2d(x, 2)

    def distance(self, first, second):
        return (first - second).square().mean((1, 2, 3))


@pytest.fixture(scope="module")
def outputs(tmp_path_factory) -> Path:
    """A folder as the stages leave it."""
    root = tmp_path_factory.mktemp("models") / "outputs"
    save_models(root, NAMES, PALETTE)
    save_tensors(root / "assets" / "lpips_vgg.safetensors", {"nothing": torch.zeros(1)})
    for name, parts, scale in (("bigger_nose", ("nose",), 1.0), ("red_hair", ("hair",), 0.5)):
        delta = 0.3 * torch.randn(8, 16)
        save_vector(
            root / "editing" / "vectors" / f"{name}.safetensors",
            EditingVector(name=name, region_classes=parts, source="val/0", delta_w_plus=delta, scale=scale),
        )
    return root


@pytest.fixture(autouse=True)
def cheap_distance(monkeypatch):
    monkeypatch.setattr(editor_module, "load_network", lambda name, folder: Distance())
    monkeypatch.setattr(editor_module, "use_winograd", lambda network: network)


@pytest.fixture
def editor(outputs) -> Editor:
    return Editor.load(outputs, "cpu")


def photos(count: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    small = torch.randint(0, 256, (count, 3, 4, 4), generator=generator).float()
    return nn.functional.interpolate(small, size=SIDE, mode="bilinear").to(torch.uint8)


def painted(editor: Editor, label: int = 2) -> torch.Tensor:
    masks = editor.segment().clone()
    masks[:, 10:16, 8:14] = label
    return masks


# --- the editor ----------------------------------------------------------------------------------------------------


def test_embedding_comes_nearer_with_steps(editor):
    errors = []
    for steps in (0, 20):
        images = editor.set_image(photos(), steps=steps)
        errors.append((images.float() - photos().float()).square().mean().item())
    assert images.dtype == torch.uint8 and images.shape == photos().shape and errors[1] < errors[0]
    assert editor.w_plus.shape == (2, 8, 16) and torch.equal(editor.photos, photos())


def test_an_identity_loss_brings_the_face_nearer(editor, monkeypatch):
    asked = []

    def network(name, folder):
        asked.append(name)
        return Distance()

    monkeypatch.setattr(editor_module, "load_network", network)
    face, likeness = Distance()(to_float(photos())), []
    for weight in (0.0, 10.0, 10.0):
        images = editor.set_image(photos(), steps=20, identity_weight=weight)
        likeness.append(torch.cosine_similarity(Distance()(to_float(images)), face).mean())
    assert likeness[2] == likeness[1] > likeness[0] and asked == ["dlib_resnet"], "read once, where it is asked for"


def test_tuning_brings_photos_nearer_and_is_left_behind_by_the_next_image(editor):
    before = editor.set_image(photos()[0], steps=0)
    trained, weights = editor.G, [parameter.clone() for parameter in editor.G.parameters()]
    after = editor.tune(steps=40, lr=0.01)

    def error(images):
        return (images.float() - photos()[:1].float()).square().mean().item()

    assert error(after) < 0.5 * error(before) and editor.G is not trained
    assert torch.equal(editor.apply({"bigger_nose": 0.0}).images, after), "edits use the copy"
    again = editor.set_image(photos()[0], steps=0)
    assert editor.G is trained and torch.equal(again, before)
    assert all(torch.equal(one, other) for one, other in zip(weights, trained.parameters(), strict=True))
    editor.sample([1])
    with pytest.raises(UserError, match="no photo to tune"):
        editor.tune()


def test_edits_are_optimised_learned_and_used_again(editor, tmp_path):
    editor.set_image(photos(), steps=0)
    target, before = painted(editor), editor.segment()
    edited = editor.edit(target, steps=30)
    changed = before != target
    gained = (edited.masks == target)[changed].float().mean() - (before == target)[changed].float().mean()
    assert gained > 0.2 and all("nose" in parts for parts in edited.parts) and edited.region[changed].all()
    editor.set_image(photos()[:1], steps=0)  # what was learned before does not depend on what is set now
    path = editor.save_vector(tmp_path / "mine", edited, index=1, source="b.png")
    vector = load_vector(path)
    assert path.name == "mine.safetensors" and vector.name == "mine" and vector.source == "b.png"
    assert editor.save_vector(tmp_path / "mine.v2", edited).name == "mine.v2.safetensors"
    editor.set_image(photos(), steps=0)
    again = editor.apply({"mine": 1.0})
    assert torch.allclose(again.w_plus[1], edited.w_plus[1], atol=1e-6)
    assert torch.equal(again.images[1], edited.images[1])
    assert torch.equal(editor.apply({"mine": 0.0}).images, editor.render(editor.w_plus))


def test_identity_loss_is_asked_for_by_its_weight(editor, monkeypatch):
    class Face(nn.Module):
        def forward(self, x):
            return nn.functional.normalize(x.flatten(1), dim=1)

    loaded = []
    monkeypatch.setattr(editor_module, "load_network", lambda name, folder: loaded.append((name, folder)) or Face())
    editor.sample([0])
    plain = editor.apply({"bigger_nose": 1.0}, refine=2)
    assert not loaded, "only when it is asked for"
    weights = ObjectiveWeights(lpips=50, mse=25, ce=1, identity=1e4)
    held = editor.apply({"bigger_nose": 1.0}, refine=2, weights=weights)
    editor.apply({"bigger_nose": 1.0}, refine=2, weights=weights)
    assert loaded == [("dlib_resnet", editor.assets)] and not torch.equal(plain.w_plus, held.w_plus)
    editor.assets = editor._identity_net = None
    with pytest.raises(UserError, match="identity loss needs its pretrained network"):
        editor.apply({"bigger_nose": 1.0}, refine=2, weights=weights)


def test_images_together_are_edited_as_if_alone(editor):
    editor.set_image(photos(3), steps=5)
    together = [editor.edit(painted(editor), steps=8), editor.apply({"bigger_nose": 1.0}, refine=5)]
    for index in range(3):
        editor.set_image(photos(3)[index], steps=5)
        alone = [editor.edit(painted(editor)[0], steps=8), editor.apply({"bigger_nose": 1.0}, refine=5)]
        for one, many in zip(alone, together, strict=True):
            assert torch.allclose(one.w_plus[0], many.w_plus[index], atol=1e-3)
            assert one.parts[0] == many.parts[index]


def test_each_image_has_its_own_region_and_parts(editor):
    editor.sample([1, 2, 3])
    masks, before = editor.segment().clone(), editor.segment()
    masks[0, 4:8, 4:8] = 3 - (before[0, 4:8, 4:8] == 3).to(torch.uint8)  # hair, or nose where hair was
    masks[1, 20:24, 20:24] = (before[1, 20:24, 20:24] == 0).to(torch.uint8)  # surroundings alone
    edited = editor.edit(masks, steps=4)
    assert edited.parts[2] == () and torch.equal(edited.w_plus[2], editor.w_plus[2]) and not edited.region[2].any()
    assert "hair" in edited.parts[0] and edited.region[0, 4:8, 4:8].all()
    kinds = set(before[1, 20:24, 20:24].flatten().tolist()) - {0, 1}
    assert edited.parts[1] == (tuple(NAMES[label] for label in sorted(kinds)) or ("skin",))
    box = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    box[4:8, 4:8] = True
    editor.sample([1])
    assert not set(editor.edit(masks[0], box, steps=1).parts[0]) & {"background", "skin"}


def test_the_outline_of_a_face_is_an_edit_of_the_skin():
    """A vector learned from it knows where it acts, so that it can be refined and pasted."""
    before, after = torch.zeros(3, 8, 8, dtype=torch.uint8), torch.zeros(3, 8, 8, dtype=torch.uint8)
    before[:2, 2:6, 2:6] = 1
    after[0, 1:6, 1:6], after[1, 1:6, 1:6] = 1, 2
    assert painted_parts(before, after, before != after, NAMES) == (("skin",), ("nose",), ("skin",))[:2] + ((),)


def test_many_images_are_optimised_a_batch_at_a_time(editor, monkeypatch):
    editor.sample([1, 2, 3])
    masks, steps = painted(editor), []
    whole = editor.edit(masks, steps=3)
    monkeypatch.setattr(editor_module, "BATCH", 2)
    parted = editor.edit(masks, steps=3, progress=lambda done, total: steps.append((done, total)))
    assert torch.allclose(whole.w_plus, parted.w_plus, atol=1e-3)
    assert steps == [(step, 6) for step in (0, 1, 2, 3, 3, 4, 5, 6)] or steps == [(step, 6) for step in range(1, 7)]


def test_order_of_edits_does_not_matter_and_strengths_are_the_vectors_own_by_default(editor):
    editor.sample([1, 2])
    one = editor.apply({"bigger_nose": 1.2, "red_hair": -0.5}, refine=4)
    other = editor.apply({"red_hair": -0.5, "bigger_nose": 1.2}, refine=4)
    assert torch.allclose(one.w_plus, other.w_plus, atol=1e-5) and set(one.parts[0]) == {"nose", "hair"}
    own = editor.apply({"red_hair": None})
    assert torch.allclose(own.w_plus - editor.w_plus, 0.5 * editor.vectors["red_hair"].delta_w_plus, atol=1e-6)


def test_sampling_is_seeded_and_truncated(editor):
    first = editor.sample([7, 8])
    assert torch.equal(editor.sample([8])[0], first[1]) and not torch.equal(first[0], first[1])
    editor.sample([7], truncation_psi=0.0)
    assert torch.allclose(editor.w_plus, editor.G.w_avg.expand_as(editor.w_plus))


def test_pasting_back_changes_nothing_beyond_the_seam(editor):
    editor.set_image(photos(), steps=0)
    edited = editor.apply({"bigger_nose": 1.0})
    region = torch.zeros(2, SIDE, SIDE, dtype=torch.bool)
    region[:, 12:18, 12:18] = True
    pasted = paste_back(photos(), edited.images, region)
    beyond = torch.ones(SIDE, SIDE, dtype=torch.bool)
    beyond[8:22, 8:22] = False
    assert torch.equal(pasted[:, :, beyond], photos()[:, :, beyond])
    assert torch.equal(pasted[:, :, 12:18, 12:18], edited.images[:, :, 12:18, 12:18])
    assert torch.equal(paste_back(photos(), edited.images, torch.zeros_like(region)), photos())
    assert editor.paste(edited).shape == photos().shape
    editor.set_image(photos(), steps=0)
    with pytest.raises(UserError, match="belongs to images set earlier"):
        editor.paste(edited)
    editor.sample([1])
    with pytest.raises(UserError, match="no photo to paste into"):
        editor.paste(editor.apply({"bigger_nose": 1.0}))


def test_what_cannot_be_done_is_said(editor, outputs, tmp_path):
    fresh = Editor.load(outputs, "cpu")
    with pytest.raises(UserError, match="no image is set"):
        fresh.segment()
    editor.sample([1])
    nan = torch.full((1, 8, 16), float("nan"))
    for refused, match in (
        (lambda: editor.set_image(photos()[:, :, :16]), r"give a uint8 tensor \[N, 3, 32, 32\]"),
        (lambda: editor.set_image(photos().float()), "torch.float32"),
        (lambda: editor.set_latents(torch.zeros(1, 8, 15)), r"takes \[N, 8, 16\]"),
        (lambda: editor.set_latents(nan), "NaN"),
        (lambda: editor.apply({"smil": 1.0}), "unknown edit 'smil'; available: bigger_nose, red_hair"),
        (lambda: editor.apply({}), "at least one edit"),
        (lambda: editor.apply({"red_hair": float("nan")}), "strength of red_hair is nan"),
        (lambda: editor.edit(editor.segment(), torch.zeros(2, 3, dtype=torch.bool)), "the region has shape"),
        (lambda: editor.edit(editor.segment()), "paint a change"),
        (lambda: editor.edit(editor.segment() + 4), "there are 4"),
        (lambda: editor.edit(editor.segment().int() - 9), "the label -9; there are 4, from 0 on"),
        (lambda: editor.edit(editor.segment(), torch.zeros(SIDE, SIDE, dtype=torch.bool)), "the region is empty"),
        (lambda: editor.apply({"red_hair": 1e39}), "move the latents far out of range"),
        (lambda: editor.apply({"red_hair": 1.0}, refine=-3), "refine is -3"),
        (lambda: editor.set_image(photos(), steps=-1), "steps is -1"),
        (lambda: editor.set_image(photos(), identity_weight=float("nan")), "identity_weight is nan"),
        (lambda: editor.set_image(photos().numpy()), "give a uint8 tensor"),
        (lambda: labelled_samples(editor.G, editor.S, count=1, truncation_psi=float("nan")), "truncation_psi is nan"),
        (lambda: editor.edit(torch.zeros(3, 3)), "the edited masks have shape"),
        (lambda: Editor.load(tmp_path), "missing; it is written by stage assets"),
        (lambda: Editor.load(outputs, "tpu"), "unknown device"),
    ):
        with pytest.raises(UserError, match=match):
            refused()


# --- settings of the run -------------------------------------------------------------------------------------------

SETTINGS = """
seed: 3
encoder: {inversion_steps: 7, inversion_lr: 0.05, kimg: 1}
editing:
  edit: {steps: 5, lr: 0.02}
  refine: {steps: 3, lr: 0.01}
  weights: {lpips: 5, mse: 2, ce: 1}
"""


@pytest.fixture
def run_outputs(outputs, tmp_path) -> Path:
    """The same networks as a run with a params file of its own."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "params.yaml").write_text(SETTINGS)
    (folder / "outputs").symlink_to(outputs)
    return folder / "outputs"


def test_the_params_file_of_the_run_gives_the_defaults(editor, run_outputs):
    follows = Editor.load(run_outputs, "cpu")
    assert torch.equal(follows.set_image(photos()), editor.set_image(photos(), steps=7, lr=0.05))
    given = dict(steps=5, lr=0.02, weights=ObjectiveWeights(lpips=5, mse=2, ce=1))
    assert torch.equal(follows.edit(painted(follows)).w_plus, editor.edit(painted(editor), **given).w_plus)
    given = dict(refine=3, lr=0.01, weights=ObjectiveWeights(lpips=5, mse=2, ce=1))
    refined = follows.apply({"bigger_nose": 1.0}, refine=None).w_plus
    assert torch.equal(refined, editor.apply({"bigger_nose": 1.0}, **given).w_plus)
    alone = follows.apply({"bigger_nose": 1.0}).w_plus
    assert torch.equal(alone, editor.apply({"bigger_nose": 1.0}).w_plus) and not torch.equal(alone, refined)
    assert torch.equal(follows.set_image(photos(), steps=0), editor.set_image(photos(), steps=0)), "0 is not None"


def test_without_a_params_file_the_defaults_are_those_of_the_default_run(outputs, tmp_path):
    assert run_settings(outputs) == Settings() == run_settings(PROJECT_ROOT / "outputs")
    (tmp_path / "params.yaml").write_text("train: {steps: 5}")
    assert run_settings(tmp_path / "outputs") == Settings(), "a file of another program"


def test_wrong_settings_are_named(run_outputs):
    for content, fault in (
        ("encoder: {inversion_steps: -1}", r"params.yaml:\n  encoder.inversion_steps: .*\(given -1\)"),
        ("editing: {edit: {steps: 5}}", "editing.edit.lr: missing"),
        ("encoder: resnet", "encoder: .*given 'resnet'"),
        ("a: [", "not readable as YAML"),
    ):
        (run_outputs.parent / "params.yaml").write_text(content)
        with pytest.raises(UserError, match=fault):
            Editor.load(run_outputs, "cpu")


# --- masks on disk -------------------------------------------------------------------------------------------------


def test_masks_that_a_painting_program_numbered_anew_are_read_by_their_colours(tmp_path):
    mask = torch.randint(0, 4, (SIDE, SIDE), dtype=torch.uint8)
    with Image.open(save_mask(tmp_path / "m.png", mask, PALETTE)) as picture:
        picture.convert("RGB").quantize(32).save(tmp_path / "again.png")
    with Image.open(tmp_path / "again.png") as picture:
        assert picture.mode == "P" and not (np.array(picture) == mask.numpy()).all()
    options = dict(resolution=SIDE, classes=4, palette=PALETTE)
    assert torch.equal(read_mask(tmp_path / "again.png", **options), mask)
    grey = Image.fromarray(mask.numpy(), "P")
    grey.putpalette([value for value in range(256) for _ in range(3)])
    grey.save(tmp_path / "grey.png")
    assert torch.equal(read_mask(tmp_path / "grey.png", **options), mask), "numbers under greys that count up"
    grey.putpalette([7, 8, 9] * 256)
    grey.save(tmp_path / "odd.png")
    with pytest.raises(UserError, match=r"the colour \(7, 8, 9\)"):
        read_mask(tmp_path / "odd.png", **options)


def test_masks_survive_a_trip_to_disk_as_labels_and_as_colours(tmp_path):
    mask = torch.randint(0, 4, (SIDE, SIDE), dtype=torch.uint8)
    path = save_mask(tmp_path / "m.png", mask, PALETTE)
    options = dict(resolution=SIDE, classes=4)
    assert torch.equal(read_mask(path, **options), mask)
    colours = save_png(tmp_path / "c.png", to_pil(torch.as_tensor(PALETTE)[mask.long()].permute(2, 0, 1)))
    assert torch.equal(read_mask(colours, palette=PALETTE, **options), mask)
    for refused, match in (
        (lambda: read_mask(path, resolution=64, classes=4), "is 32x32, the mask must be 64x64"),
        (lambda: read_mask(path, resolution=SIDE, classes=3), "has the label 3; there are 3 parts"),
        (lambda: read_mask(colours, **options), "colour picture"),
        (lambda: read_mask(colours, palette=PALETTE + 1, **options), "belongs to no part"),
        (lambda: read_mask(tmp_path / "none.png", **options), "no such mask"),
        (lambda: read_mask(Path(__file__), **options), "cannot be read"),
    ):
        with pytest.raises(UserError, match=match):
            refused()


# --- the command line ----------------------------------------------------------------------------------------------


@pytest.fixture
def run(outputs, tmp_path, monkeypatch):
    """Run `editgan ARGUMENTS` in a folder with two pictures: (exit status, what it printed)."""
    monkeypatch.chdir(tmp_path)
    for name, photo in zip(("a.png", "faces/b.png"), photos(), strict=True):
        save_png(tmp_path / name, to_pil(photo))

    def call(*arguments: str) -> tuple[int, str]:
        models = () if "--help" in arguments else ("--outputs", str(outputs))
        result = CliRunner().invoke(cli.app, [*arguments, *models])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, " ".join(result.output.split())

    return call


def test_commands_follow_one_another(run, tmp_path):
    out = tmp_path / "edited"
    status, said = run("embed", "a.png", "faces", "--steps", "3", "--identity-weight", "4")
    assert status == 0 and "2 latents and reconstructions in edited" in said and "a: mean squared error" in said
    files = {f"{name}{ending}" for name in "ab" for ending in (".safetensors", "_embedded.png")}
    assert {path.name for path in out.iterdir()} == files
    assert run("segment", "edited/a.safetensors", "--steps", "0")[0] == 0
    mask = read_mask(out / "a_mask.png", resolution=SIDE, classes=4)
    mask[10:16, 8:14] = (mask[10, 8] + 1) % 4
    save_mask(out / "a_mask.png", mask, PALETTE)
    status, said = run("edit", "edited/a.safetensors", "edited/a_mask.png", "--name", "mine", "--edit-steps", "5")
    assert status == 0 and "editing vector vectors/mine.safetensors" in said
    assert {"a_edited.png", "a_strip.png", "a_edited.safetensors"} <= {path.name for path in out.iterdir()}
    status, said = run("apply", "a.png", "--steps", "0", "--edit", "mine=0.5", "--edit", "bigger_nose", "--refine", "2",
                       "--paste-back", "--out", "second")  # fmt: skip
    assert status == 0 and read_image(tmp_path / "second" / "a_edited.png", SIDE).shape == (3, SIDE, SIDE)
    status, said = run("vectors")
    assert status == 0 and all(name in said for name in ("mine", "bigger_nose", "red_hair"))
    status, said = run("sample", "--count", "3", "--seed", "4")
    assert status == 0 and "all of them on edited/seed00004_samples.png" in said
    sheet = read_image(out / "seed00004_samples.png")
    assert sheet.shape == (3, 2 * SIDE, 2 * SIDE)
    assert torch.equal(sheet[:, SIDE:, :SIDE], read_image(out / "seed00006.png")), "row by row"
    seeds = [path.name for path in files_in(out) if path.stem.startswith("seed")]
    assert seeds == ["seed00004.png", "seed00005.png", "seed00006.png"], "the sheet is no face"
    assert set(load_tensors(out / "seed00005.safetensors")[0]) == {"w_plus"}


def test_commands_take_their_defaults_from_the_run(run, editor, run_outputs, tmp_path):
    done = CliRunner().invoke(cli.app, ["embed", "a.png", "--outputs", str(run_outputs)])
    assert done.exit_code == 0, done.output
    editor.set_image(photos()[:1], steps=7, lr=0.05)
    assert torch.equal(load_tensors(tmp_path / "edited" / "a.safetensors")[0]["w_plus"], editor.w_plus)


def test_a_folder_is_edited_by_the_masks_of_its_pictures(run, tmp_path):
    """With the latents that the masks were made of: embedding in another batch may end a grey level elsewhere."""
    for name in "ab":
        save_png(tmp_path / "faces" / f"{name}.png", to_pil(photos()[0]))
    assert run("segment", "faces", "--steps", "3")[0] == 0
    mask = read_mask(tmp_path / "edited" / "a_mask.png", resolution=SIDE, classes=4)
    mask[10:16, 8:14] = (mask[10, 8] + 1) % 4
    save_mask(tmp_path / "edited" / "a_mask.png", mask, PALETTE)
    status, said = run("edit", "faces", "edited", "--edit-steps", "3", "--steps", "0", "--paste-back", "--out", "new")
    assert status == 0 and "latents: edited/a.safetensors, edited/b.safetensors" in said
    assert "a: " in said and "b: the mask was not changed" in said
    kept = load_tensors(tmp_path / "edited" / "b.safetensors")[0]["w_plus"]
    assert torch.equal(load_tensors(tmp_path / "new" / "b_edited.safetensors")[0]["w_plus"], kept)
    assert [path.name for path in files_in(tmp_path / "edited")] == ["a.safetensors", "b.safetensors"]


def test_labelled_data_leaves_out_what_the_ensemble_is_unsure_of(run, editor, tmp_path):
    status, said = run("label", "--count", "6", "--drop", "0.25", "--seed", "3")
    assert status == 0 and "6 samples with masks in labelled/labelled.zip; the 2 most uncertain" in said
    archive = tmp_path / "labelled" / "labelled.zip"
    first = archive.read_bytes()
    images, masks, rows = load_images(archive), load_masks(archive), load_attributes(archive)
    assert images.shape == (6, 3, SIDE, SIDE) and load_classes(tmp_path / "labelled" / "classes.json").names == NAMES
    seeds = [row["seed"] for row in rows]
    assert seeds == sorted(seeds) and set(seeds) < set(range(3, 11))
    assert torch.equal(torch.as_tensor(images), editor.sample(seeds))
    assert torch.equal(torch.as_tensor(masks), editor.segment())
    everything = labelled_samples(editor.G, editor.S, count=8, drop=0.0, seed=3)
    assert everything.dropped == 0
    values = dict(zip(everything.seeds, everything.uncertainty.tolist(), strict=True))
    assert max(values[seed] for seed in seeds) <= min(values[seed] for seed in values if seed not in seeds)
    assert run("label", "--count", "6", "--drop", "0.25", "--seed", "3")[0] == 0 and archive.read_bytes() == first
    status, said = run("label", "--drop", "1")
    assert status == 1 and "share to drop is 1.0" in said


def test_suggested_pictures_are_listed_and_shown(run, tmp_path):
    for number in range(4):
        save_png(tmp_path / "many" / f"{number}.png", to_pil(photos(4)[number]))
    status, said = run("suggest", "many", "--count", "3")
    assert status == 0 and "3 of 4 pictures" in said
    listed = (tmp_path / "suggested" / "suggested.txt").read_text().split()
    assert len(set(listed)) == 3 and set(listed) <= {f"many/{number}.png" for number in range(4)}
    assert read_image(tmp_path / "suggested" / "suggested.png").shape[0] == 3
    status, said = run("suggest", "many", "--count", "4")
    assert status == 1 and "4 pictures, of which 4 are to be chosen" in said


def test_bad_calls_are_refused_in_one_line(run, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.png").write_bytes(b"no picture")
    save_png(tmp_path / "small.png", to_pil(photos()[0][:, :8, :8]))
    save_tensors(tmp_path / "other.safetensors", {"weights": torch.zeros(2)})
    save_tensors(tmp_path / "seven.safetensors", {"w_plus": torch.zeros(1, 7, 16)})
    for name in ("more/a.png", "both/a.png", "both/b.png"):
        save_png(tmp_path / name, to_pil(photos()[0]))
    for arguments, fault in (
        (("embed", "none.png"), "none.png: no such file or folder"),
        (("embed", "empty"), "empty: has neither pictures"),
        (("embed", "broken.png"), "broken.png: cannot be read as an image"),
        (("embed", "small.png"), "blazeface.safetensors: missing; `python -m editgan assets` fetches"),
        (("embed", "a.png", "more/a.png"), "several inputs are named a"),
        (("embed", "a.png", "other.safetensors"), "cannot be mixed"),
        (("segment", "other.safetensors"), "not latents written by `embed`"),
        (("apply", "seven.safetensors", "--edit", "red_hair"), "has shape [1, 7, 16], this generator takes"),
        (("apply", "seven.safetensors", "--edit", "red_hair", "--paste-back"), "--paste-back needs photos"),
        (("edit", "a.png", "none.png"), "none.png: no such mask"),
        (("apply", "a.png", "--edit", "smil"), "unknown edit 'smil'; available: bigger_nose, red_hair"),
        (("apply", "a.png", "--edit", "red_hair=much"), "'much' is not a number"),
        (("apply", "a.png", "--edit", "red_hair", "--edit", "red_hair=1"), "given twice"),
        (("apply", "a.png", "--edit", "red_hair=nan"), "give a finite strength"),
        (("segment", "a.png", "--steps", "0", "--out", "broken.png"), "broken.png: is a file where"),
        (("edit", "more", "a.png"), "belongs to no part"),
        (("edit", "both", "a.png"), "one mask for 2 pictures"),
        (("edit", "both", "more"), "no such mask: more/a_mask.png, more/b_mask.png; `editgan segment` writes masks"),
        (("edit", "both", "more", "--name", "mine"), "contains several pictures; --name needs a single picture"),
        (("edit", "a.png", "a.png", "--name", "../x"), "use letters, digits and _"),
        (("edit", "a.png", "a.png", "--name", "red_hair"), "the pipeline has an edit with this name"),
    ):
        status, said = run(*arguments)
        assert status == 1 and any(one in said for one in fault.split("|")), (arguments, said)
    assert not (tmp_path / "edited").exists(), "nothing was written"


def test_every_command_explains_itself(run):
    for command in ("embed", "segment", "edit", "apply", "sample", "vectors"):
        status, said = run(command, "--help")
        assert status == 0 and "--outputs" in said
