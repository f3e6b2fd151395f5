"""The editor on networks of random weights: what people call, what they get, what is refused."""

# ruff: noqa: F811  fixtures are imported by name

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_editor import NAMES, PALETTE, Distance, cheap_distance, editor, outputs, painted, photos, run_outputs  # noqa: F401
from tiny_models import SIDE
from torch import nn

from editgan.data.paste import paste_back
from editgan.editing.masks import painted_parts
from editgan.editing.params import ObjectiveWeights
from editgan.editing.vectors import load_vector
from editgan.editor import editor as editor_module
from editgan.editor.editor import Editor
from editgan.editor.settings import Settings, run_settings
from editgan.errors import UserError
from editgan.images import read_mask, save_mask, save_png, to_float, to_pil
from editgan.runtime.environment import PROJECT_ROOT
from editgan.segmentation.labelled import labelled_samples

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
    with pytest.raises(UserError, match="can only be tuned to an image"):
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
    with pytest.raises(UserError, match="at least one seed"):
        editor.sample([])
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
        (lambda: editor.apply({"red_hair": 1e39}), "move the latents too far from the training"),
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
    with pytest.warns(UserWarning, match="its colours are not those of the classes"):
        assert torch.equal(read_mask(tmp_path / "odd.png", **options), mask)


def test_masks_survive_a_trip_to_disk_as_labels_and_as_colours(tmp_path):
    mask = torch.randint(0, 4, (SIDE, SIDE), dtype=torch.uint8)
    path = save_mask(tmp_path / "m.png", mask, PALETTE)
    options = dict(resolution=SIDE, classes=4)
    assert torch.equal(read_mask(path, **options), mask)
    colours = save_png(tmp_path / "c.png", to_pil(torch.as_tensor(PALETTE)[mask.long()].permute(2, 0, 1)))
    assert torch.equal(read_mask(colours, palette=PALETTE, **options), mask)
    for refused, match in (
        (lambda: read_mask(path, resolution=SIDE, classes=3), r"has the label 3 in \d+ pixels; there are 3 parts"),
        (lambda: read_mask(colours, **options), "colour picture"),
        (lambda: read_mask(colours, palette=255 - PALETTE, **options), "belong to no part"),
        (lambda: read_mask(tmp_path / "none.png", **options), "no such mask"),
        (lambda: read_mask(Path(__file__), **options), "cannot be read"),
    ):
        with pytest.raises(UserError, match=match):
            refused()
