"""The commands of `editgan` on networks of random weights: what people call, what they get, what is refused."""

# ruff: noqa: F811  fixtures are imported by name

from dataclasses import replace

import pytest
import torch
from PIL import Image
from tiny_editor import NAMES, PALETTE, cheap_distance, editor, outputs, photos, run_outputs  # noqa: F401
from tiny_models import SIDE, save_models
from typer.testing import CliRunner

from editgan.cli import pictures as cli
from editgan.data.archive import load_attributes, load_classes, load_images, load_masks
from editgan.editing.vectors import save_vector
from editgan.editor.inputs import files_in
from editgan.generator.generator import Generator, load_generator
from editgan.images import read_image, read_mask, save_mask, save_png, to_pil
from editgan.segmentation.ensemble import SegmentationEnsemble, save_segmentation
from editgan.segmentation.labelled import labelled_samples
from editgan.weights import load_tensors, save_module, save_tensors


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


def test_nothing_that_a_person_made_is_replaced(run, tmp_path):
    out = tmp_path / "edited"
    assert run("segment", "a.png", "--steps", "3")[0] == 0
    mask = read_mask(out / "a_mask.png", resolution=SIDE, classes=4)
    mask[10:16, 8:14] = (mask[10, 8] + 1) % 4
    painted = save_mask(out / "a_mask.png", mask, PALETTE).read_bytes()
    status, said = run("segment", "a.png", "--steps", "3")
    assert status == 0 and "edited/a_mask.png exists and is kept; this one is edited/a_mask-2.png" in said
    assert (out / "a_mask.png").read_bytes() == painted and not (out / "a-2.safetensors").exists(), "equal latents"
    assert run("segment", "a.png", "--steps", "0")[0] == 0
    assert (out / "a-2.safetensors").exists(), "other latents beside the first ones"
    (out / "a_mask.png").rename(tmp_path / "mine.png")
    command = ("edit", "a.png", "mine.png", "--edit-steps", "2", "--name", "mine")
    status, said = run(*command)
    assert status == 0 and "latents: edited/a.safetensors" in said, "those of which the mask was made"
    assert "the edit failed" in said and "grey levels inside the region" in said
    first = {path: path.read_bytes() for path in (tmp_path / "vectors/mine.safetensors", out / "a_edited.png")}
    status, said = run(*command, "--edit-steps", "4")
    assert status == 0 and "vectors/mine-2.safetensors (vectors/mine.safetensors exists and is kept)" in said
    assert all(path.read_bytes() == content for path, content in first.items())
    assert (out / "a_edited-2.png").exists() and "mine-2" in run("vectors")[1]
    strip = Image.open(out / "a_strip.png")
    assert strip.width // (2 * SIDE) == 6, "photo, embedded, its mask, the painted one, edited, its mask"
    save_png(tmp_path / "other.png", to_pil(photos()[1]))
    assert "no latents of other in" in run("edit", "other.png", "mine.png", "--steps", "0", "--edit-steps", "1")[1]


def test_every_picture_of_a_folder_is_edited_or_named(run, tmp_path):
    for name in ("anna.png", "anna_2.png", "bob.webp"):
        (tmp_path / "many").mkdir(exist_ok=True)
        to_pil(photos()[0]).save(tmp_path / "many" / name)
    (tmp_path / "many" / "notes.txt").touch()
    assert run("embed", "many", "--out", "many", "--steps", "0")[0] == 0
    status, said = run("apply", "many", "--edit", "red_hair", "--steps", "0")
    assert status == 0 and "edited pictures in" in said and ": 3" in said
    made = {path.name for path in (tmp_path / "edited").glob("*_edited.png")}
    assert made == {"anna_edited.png", "anna_2_edited.png", "bob_edited.png"}
    left_out = (
        "anna_2_embedded.png, anna_embedded.png, bob_embedded.png many: left out (latents beside pictures): anna."
    )
    assert left_out in said and "left out (not pictures): notes.txt" in said


def test_transparency_is_put_on_white_and_kept_for_the_result(run, tmp_path):
    clear = to_pil(photos()[0]).convert("RGBA")
    clear.paste((255, 0, 0, 0), (0, 0, 9, 9))
    white = Image.new("RGBA", clear.size, "white")
    white.alpha_composite(clear)
    save_png(tmp_path / "clear.png", clear)
    save_png(tmp_path / "white.png", white.convert("RGB"))
    assert run("apply", "clear.png", "white.png", "--edit", "red_hair", "--steps", "2")[0] == 0
    latents = [load_tensors(tmp_path / f"edited/{name}_edited.safetensors")[0]["w_plus"] for name in ("clear", "white")]
    assert torch.allclose(*latents, atol=1e-4)
    edited = Image.open(tmp_path / "edited" / "clear_edited.png")
    assert edited.mode == "RGBA" and edited.getchannel("A").tobytes() == clear.getchannel("A").tobytes()


def test_networks_and_latents_of_two_generators_are_told_in_one_line(run, editor, outputs, tmp_path):
    save_models(tmp_path / "outputs", NAMES, PALETTE)
    assert run("embed", "a.png", "--steps", "0")[0] == 0
    mixed = tmp_path / "outputs"
    (mixed / "assets").symlink_to(outputs / "assets")
    own = mixed / "generator" / "G_ema.safetensors"
    sizes = dict(z_dim=16, w_dim=16, channel_base=256, channel_max=16, num_mapping_layers=2)
    larger = Generator(img_resolution=64, **sizes)
    save_module(tmp_path / "larger.safetensors", larger, larger.config)
    other = load_generator(own)
    other.mapping.w_avg += 1
    save_module(tmp_path / "other.safetensors", other, other.config)
    S = SegmentationEnsemble(feature_channels=larger.feature_channels, num_classes=4, members=2, class_names=NAMES)
    save_segmentation(tmp_path / "S.safetensors", S)
    for file, place, fault in (
        ("larger.safetensors", own, ("E.safetensors: is for pictures of 32x32", "G_ema.safetensors makes 64x64")),
        ("other.safetensors", own, ("E.safetensors: was trained with another generator than", "G_ema.safetensors")),
        ("S.safetensors", mixed / "segmentation/S.safetensors", ("S.safetensors: reads", "G_ema.safetensors (32x32)")),
    ):
        kept = place.read_bytes()
        place.write_bytes((tmp_path / file).read_bytes())
        done = CliRunner().invoke(cli.app, ["sample", "--outputs", str(mixed)])
        assert done.exit_code == 1 and done.output.strip().count("\n") == 0, done.output
        assert all(one in done.output for one in fault), done.output
        place.write_bytes(kept)
    again = load_tensors(tmp_path / "edited/a.safetensors")
    save_tensors(tmp_path / "strange.safetensors", again[0], again[1] | {"generator": "0" * 64})
    status, said = run("segment", "strange.safetensors")
    assert status == 1 and "strange.safetensors: was made with another generator than" in said
    vector = replace(editor.vectors["red_hair"], generator="0" * 64)
    save_vector(tmp_path / "vectors" / "strange.safetensors", vector)
    status, said = run("apply", "a.png", "--edit", "strange=1", "--steps", "0")
    assert status == 1 and "vectors/strange.safetensors: was made with another generator than" in said


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
        (("apply", "seven.safetensors", "--edit", "red_hair", "--paste-back"), "--paste-back needs a photo"),
        (("edit", "a.png", "none.png"), "none.png: no such mask"),
        (("apply", "a.png", "--edit", "smil"), "unknown edit 'smil'; available: bigger_nose, red_hair"),
        (("apply", "a.png", "--edit", "red_hair=much"), "'much' is not a number"),
        (("apply", "a.png", "--edit", "red_hair", "--edit", "red_hair=1"), "given twice"),
        (("apply", "a.png", "--edit", "red_hair=nan"), "give a finite strength"),
        (("segment", "a.png", "--steps", "0", "--out", "broken.png"), "broken.png: is a file where"),
        (("edit", "more", "a.png"), "belong to no part"),
        (("edit", "both", "a.png"), "one mask for 2 pictures"),
        (("edit", "both", "more"), "no such mask: more/a_mask.png, more/b_mask.png; `editgan segment` writes masks"),
        (("edit", "both", "more", "--name", "mine"), "contains several pictures; --name needs a single picture"),
        (("edit", "a.png", "a.png", "--name", "../x"), "use letters, digits and _"),
        (("edit", "a.png", "a.png", "--name", ""), "use letters, digits and _"),
        (("apply", "a.png", "--edit", "red_hair", "--vectors", "nosuch"), "--vectors nosuch: no such folder"),
        (("vectors", "--vectors", "nosuch"), "--vectors nosuch: no such folder"),
        (("edit", "a.png", "a.png", "--name", "red_hair"), "the pipeline has an edit with this name"),
    ):
        status, said = run(*arguments)
        assert status == 1 and any(one in said for one in fault.split("|")), (arguments, said)
    assert run("sample", "--seed", "9" * 20)[0] == 2, "wider than 64 bits"
    assert not (tmp_path / "edited").exists(), "nothing was written"


def test_every_command_explains_itself(run):
    for command in ("embed", "segment", "edit", "apply", "sample", "vectors"):
        status, said = run(command, "--help")
        assert status == 0 and "--outputs" in said
