"""MaskGAN's training and its stage: complete resume, what is learned, what happens to NaN, what is left behind."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_maskgan import TINY_NET, some_masks
from torch import nn
from training_runs import INTERVALS, Killed, StandInVgg, digests
from training_runs import train as train_shortly

from editgan import training
from editgan.data.archive import Classes, encode_image, encode_mask, save_classes, write_archive
from editgan.errors import UserError
from editgan.images import read_mask, to_float
from editgan.methods import translation
from editgan.methods.distillation.pix2pixhd import MultiscaleDiscriminator, initialise
from editgan.methods.maskgan import stage
from editgan.methods.maskgan import train as train_module
from editgan.methods.maskgan.losses import AlphaBlender, MaskVAE, Parser, initialise_maskgan, predict
from editgan.methods.maskgan.networks import MaskGAN, edit, sizes_of, smile_masks
from editgan.methods.maskgan.train import MaskedHeads, labels_training, mapping_training, relative_lr
from editgan.methods.params import MaskganParams
from editgan.runtime.stage import StageContext
from editgan.runtime.tracking import offline_run
from editgan.training import count_parameters
from editgan.weights import load_module, load_tensors, tensors_equal

NAMES = ("skin", "left_eye", "right_eye", "upper_lip", "lower_lip", "mouth_interior", "hair")
TINY = dict(
    recipe=1, learn_from="train", width=TINY_NET["width"], styled_ups=TINY_NET["styled_ups"],
    vae_kimg=0.032, parser_kimg=0.032, kimg=0.032, ebst_kimg=0.016, batch=4, lr=2e-3, d_lr=2e-4,
    vgg_images=2, val_images=6, donors=3,
)  # fmt: skip


def painted_heads(count: int = 12) -> MaskedHeads:
    """Masks in blocks and pictures that give every label a colour, each head its own brightness."""
    masks = some_masks(count)
    palette = torch.rand(5, 3, generator=torch.Generator().manual_seed(2))
    light = torch.linspace(0.4, 1, count)[:, None, None, None]
    pictures = palette[masks.long()].permute(0, 3, 1, 2) * light
    return MaskedHeads((255 * pictures).to(torch.uint8), masks)


def networks() -> dict[str, nn.Module]:
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    return {
        "net": initialise_maskgan(MaskGAN(**TINY_NET), generator),
        "D": initialise(MultiscaleDiscriminator(in_channels=8, width=4), generator),
        "blender": initialise(AlphaBlender(width=4, num_downs=1, num_blocks=1), generator),
        "vae": MaskVAE(num_classes=5, resolution=16, width=4, num_downs=2, latent=6).eval().requires_grad_(False),
    }


def train(work, heads, vgg=None, intervals=INTERVALS, dies_after=math.inf, weights=None, **changes):
    parts, params = networks(), MaskganParams(**(TINY | changes))
    whole = mapping_training(*parts.values(), vgg or StandInVgg(), heads, params, seed=3)
    options = dict(intervals=intervals, dies_after=dies_after)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (weights or {}).items():
            patch.setattr(translation, name, value)
        rows = train_shortly(whole, work, on_snapshot=lambda nimg: {"val_seen": float(nimg)}, **options)
    return parts, rows


def same(first: dict[str, nn.Module], second: dict[str, nn.Module]) -> bool:
    return all(tensors_equal(first[name].state_dict(), second[name].state_dict()) for name in first)


@pytest.mark.parametrize("after", [24, 40])
def test_resumed_run_equals_unbroken_run(tmp_path, after):
    """Killed in stage 1 and in stage 2, which begins at image 32."""
    heads, intervals = painted_heads(), INTERVALS | {"state_kimg": after / 1000}
    whole, rows = train(tmp_path / "a", heads, intervals=intervals)
    with pytest.raises(Killed):
        train(tmp_path / "b", heads, intervals=intervals, dies_after=after)
    assert torch.load(tmp_path / "b" / "state.pt", weights_only=True)["cur_nimg"] == after
    torch.manual_seed(99)  # nothing may come from the global generator
    resumed, later = train(tmp_path / "b", heads, intervals=intervals)
    assert same(whole, resumed)
    assert [row["nimg"] for row in rows] == [8, 16, 24, 32, 40, 48]
    assert later == rows[after // 8 :] and rows[2]["val_seen"] == 24
    again, nothing = train(tmp_path / "b", heads, intervals=intervals)
    assert nothing == [] and same(again, whole)


def test_the_second_stage_blends_and_leaves_the_autoencoder_alone(tmp_path):
    start, (parts, rows) = networks(), train(tmp_path, painted_heads())
    blended = {"blend_gan", "blend_feature_matching", "blend_vgg", "blend_l1", "gradient_blender"}
    assert [blended <= set(row) for row in rows] == [False] * 4 + [True] * 2
    assert not blended & set(rows[3])
    assert same({"vae": parts["vae"]}, {"vae": start["vae"]})
    moved = {name for name in ("net", "D", "blender") if not same({name: parts[name]}, {name: start[name]})}
    assert moved == {"net", "D", "blender"}
    first, _ = train(tmp_path / "first", painted_heads(), ebst_kimg=0)
    assert same({"blender": first["blender"]}, {"blender": start["blender"]})


def test_rates_fall_through_both_stages():
    params = MaskganParams(**(TINY | {"kimg": 0.08, "ebst_kimg": 0.04}))
    assert [relative_lr(nimg, params) for nimg in (0, 40, 60, 80, 100, 120)] == [1, 1, 0.625, 0.25, 0.125, 0]


def test_learns_a_tiny_set(tmp_path):
    """Colours follow the mask, brightness the photo; discriminators that learn slowly do not tell four apart."""
    heads = painted_heads(4)
    changes = dict(
        kimg=0.56, ebst_kimg=0.08, lr=5e-3, d_lr=1e-5, intervals=dict(status_kimg=0.08, state_kimg=9, snapshot_kimg=9)
    )
    parts, rows = train(tmp_path, heads, **changes)
    assert rows[-1]["l1"] < 0.3 * rows[0]["l1"]
    assert rows[-1]["blend_l1"] < 0.8 * rows[0]["l1"], "even from the masks of an autoencoder that learned nothing"
    net = parts["net"]
    drawn = to_float(edit(net, heads.photos, heads.masks, heads.masks))
    assert (drawn - to_float(heads.photos)).abs().mean() < 0.3 * rows[0]["l1"]
    dark, bright = heads.photos[:1], heads.photos[3:]
    swapped = to_float(edit(net, bright, heads.masks[3:], heads.masks[:1]))
    assert swapped.mean() > to_float(dark).mean() + 0.1, "the look of the photo on the mask of another head"


@pytest.mark.parametrize("weight", ["FEATURE_MATCHING_WEIGHT", "VGG_WEIGHT"])
def test_each_distance_alone_teaches(tmp_path, weight):
    weights = {"FEATURE_MATCHING_WEIGHT": 0, "VGG_WEIGHT": 0} | {weight: 10}
    changes, intervals = dict(kimg=0.24, ebst_kimg=0, lr=5e-3), dict(status_kimg=0.04, state_kimg=9, snapshot_kimg=9)
    _, rows = train(tmp_path, painted_heads(4), weights=weights, intervals=intervals, **changes)
    assert rows[-1]["l1"] < 0.8 * rows[0]["l1"]


def test_nan_stops_training_and_names_the_loss(tmp_path):
    vgg = StandInVgg()
    vgg.weights[2].fill_(float("nan"))
    with pytest.raises(UserError, match="diverged at 0.0 kimg of MaskGAN.*vgg.*Lower the learning rate"):
        train(tmp_path, painted_heads(), vgg)
    assert not (tmp_path / "state.pt").exists()


def test_masks_of_other_heads_are_named():
    heads = painted_heads(4)
    with pytest.raises(ValueError, match=r"masks uint8 \[N, H, W\], got torch.uint8 \[4, 3, 16, 16\].*\[3, 16, 16\]"):
        MaskedHeads(heads.photos, heads.masks[:3])
    with pytest.raises(ValueError, match="got torch.float32"):
        MaskedHeads(heads.photos.float(), heads.masks)


def train_labels(kind, work, heads, kimg=0.048, dies_after=math.inf):
    """The autoencoder or the parser on tiny heads."""
    torch.manual_seed(0)
    net = networks()["vae"].requires_grad_(True) if kind == "vae" else Parser(num_classes=5, width=4, depth=1)

    def terms_at(indices, cur_nimg):
        if kind == "parser":
            return net.terms(to_float(heads.photos[indices]), heads.masks[indices])
        noise = torch.randn(len(indices), 6, generator=torch.Generator().manual_seed(cur_nimg))
        return net.terms(heads.masks[indices], noise)

    weights = {"ce": 1.0, "kl": 1e-5} if kind == "vae" else {"ce": 1.0}
    sizes = dict(kimg=kimg, batch=4, lr=5e-3, count=len(heads), seed=3)
    whole = labels_training(kind, net.train(), terms_at, weights=weights, **sizes)
    return net, train_shortly(whole, work, dies_after=dies_after)


@pytest.mark.parametrize("kind", ["vae", "parser"])
def test_label_training_resumes_and_learns(tmp_path, kind):
    heads = painted_heads()
    whole, rows = train_labels(kind, tmp_path / "a", heads)
    with pytest.raises(Killed):
        train_labels(kind, tmp_path / "b", heads, dies_after=32)
    resumed, later = train_labels(kind, tmp_path / "b", heads)
    assert tensors_equal(whole.state_dict(), resumed.state_dict())
    assert later == rows[3:]
    _, rows = train_labels(kind, tmp_path / "c", heads, kimg=0.6)
    assert rows[-1]["ce"] < 0.6 * rows[0]["ce"] and rows[-1]["accuracy"] > rows[0]["accuracy"]


def test_label_training_stops_at_nan(tmp_path):
    heads, net = painted_heads(), Parser(num_classes=5, width=4, depth=1)
    with torch.no_grad():
        net.last.bias.fill_(float("nan"))
    whole = labels_training(
        "parser",
        net,
        lambda indices, _: net.terms(to_float(heads.photos[indices]), heads.masks[indices]),
        weights={"ce": 1.0}, kimg=0.1, batch=4, lr=1e-3, count=12, seed=0,
    )  # fmt: skip
    with pytest.raises(UserError, match="diverged at 0.0 kimg of MaskGAN's parser.*ce"):
        train_shortly(whole, tmp_path)


def test_params_must_fit_each_other():
    with pytest.raises(ValueError, match="vgg_images 5 must not exceed batch 4"):
        MaskganParams(**(TINY | {"vgg_images": 5}))


@pytest.mark.parametrize("resolution", [32, 64, 128, 256, 512, 1024])
def test_every_resolution_has_networks_that_fit(resolution):
    """Halvings leave 4 pixels, of the style encoder, which halves twice before, too; the autoencoder goes down to 4."""
    sizes = sizes_of(resolution)
    halvings = [sizes["net"]["num_downs"], sizes["net"]["style_downs"] + 2, sizes["blender"]["num_downs"]]
    assert min(halvings) >= 1 and resolution >> max(halvings, default=0) >= 4
    assert resolution >> sizes["vae"]["num_downs"] == 4 and resolution >> sizes["parser"]["depth"] == 8
    assert sizes["net"]["style_width"] % 4 == sizes["net"]["mask_width"] % 4 == 0


def test_sizes_are_the_papers_at_its_resolution():
    sizes = sizes_of(512)
    assert sizes["net"] == dict(num_downs=4, num_blocks=4, style_width=64, mask_width=64, style_downs=3)
    assert sizes["vae"] == dict(width=32, num_downs=7, latent=1024)
    assert sizes["blender"] == dict(width=32, num_downs=3, num_blocks=3) and sizes["D"] == dict(width=64)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A function that makes a context over one set of inputs, with a stand-in for the pretrained network."""
    monkeypatch.setattr(stage, "load_lpips", lambda folder, device: StandInVgg())
    monkeypatch.setattr(train_module, "INTERVALS", INTERVALS)
    data = tmp_path / "outputs/data"
    data.mkdir(parents=True)
    random = np.random.default_rng(0)
    palette = random.integers(0, 256, (len(NAMES), 3), dtype=np.uint8)
    save_classes(data / "classes.json", Classes(list(NAMES), palette))
    for split, count in (("train", 12), ("val", 8)):
        masks, attributes = [], []
        for index in range(count):
            mask = np.full((32, 32), NAMES.index("hair"), np.uint8)
            mask[4:, 4:-4] = 0
            mask[10:12, 8:11], mask[10:12, 21:24] = 1, 2
            mouth = slice(10, 22) if index % 2 else slice(13, 19)
            mask[22:24, mouth], mask[24:26, mouth], mask[26:28, mouth] = 3, 5, 4
            masks.append(mask)
            smile = 0.9 * (index % 2)
            attributes.append(
                dict(smile=smile, mouth_open=0.0, frown=0.0, blink=0.0, yaw=0.1 * index, pitch=0.0, roll=0.0)
            )
        pictures = [np.clip(palette[mask] * random.uniform(0.5, 1), 0, 255).astype(np.uint8) for mask in masks]
        labels = dict(masks=[encode_mask(mask, palette) for mask in masks], attributes=attributes)
        images = [encode_image(picture) for picture in pictures]
        if split == "val":
            write_archive(data / "val.zip", images=images, **labels)
        else:
            write_archive(data / "train.zip", images=images)
            write_archive(data / "train_labels.zip", **labels)
            write_archive(data / "pool.zip", images=images, **labels)

    def context(attempt: str, resolution: int = 32, **changes) -> StageContext:
        section = MaskganParams(**(TINY | changes))
        params = SimpleNamespace(seed=0, resolution=resolution, maskgan=section)
        out, work = tmp_path / attempt / "out", tmp_path / attempt / "work"
        out.mkdir(parents=True, exist_ok=True)
        work.mkdir(parents=True, exist_ok=True)
        return StageContext("maskgan", params, tmp_path, out, work, offline_run(), torch.device("cpu"))

    return context


def test_outputs_and_resume_of_the_stage(project, monkeypatch):
    whole = project("whole")
    stage.run(whole)
    assert sorted(path.name for path in whole.out.iterdir()) == [
        "curves", "donor.png", "generator.safetensors", "metrics.json", "parser.safetensors", "reconstructions.png",
        "stats.jsonl",
    ]  # fmt: skip
    curves = sorted(path.name for path in (whole.out / "curves").iterdir())
    assert curves == ["ebst.json", "parser.json", "train.json", "vae.json", "val.json"]
    metrics = json.loads((whole.out / "metrics.json").read_text())
    assert set(metrics) == {
        "donor", "train_masks", "parameters", "parameters_parser", "still_improving", "vae_accuracy_val6",
        "lpips_vgg_val6", "l1_val6", "lpips_vgg_val6_parsed", "l1_val6_parsed",
        "segmentation_accuracy_val6", "segmentation_miou_val6",
        "segmentation_accuracy_val6_photos", "segmentation_miou_val6_photos",
        "segmentation_accuracy_val3_smiles", "mouth_iou_val3_smiles",
    }  # fmt: skip
    assert type(metrics["still_improving"]) is bool
    assert metrics["train_masks"] == 12

    net, parser = (
        load_module(whole.out / f"{n}.safetensors", c) for n, c in (("generator", MaskGAN), ("parser", Parser))
    )
    assert count_parameters(net) == metrics["parameters"] and count_parameters(parser) == metrics["parameters_parser"]
    tensors, _ = load_tensors(whole.out / "generator.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    data = whole.root / "outputs/data"
    val = stage.load_heads(whole, data / "val.zip", data / "val.zip", 6)
    drawn = edit(net, val.photos, val.masks, val.masks)
    assert stage.l1(drawn, val.photos) == metrics["l1_val6"], "measured on what the file holds"
    accuracy = (predict(parser, drawn) == val.masks).double().mean().item()
    assert metrics["segmentation_accuracy_val6"] == pytest.approx(accuracy, abs=1e-5)
    row = json.loads((whole.out / "curves/val.json").read_text())[-1]
    assert row["kimg"] == 0.048 and row["val_l1"] == pytest.approx(metrics["l1_val6"], abs=5e-3)

    donor = read_mask(whole.out / "donor.png", resolution=32, classes=len(NAMES))
    assert metrics["donor"] % 2 == 1, "a head that smiles"
    wide = smile_masks(val.masks[:1], donor, NAMES)
    assert int((wide == 5).any(1).sum()) == 12 and int((val.masks[:1] == 5).any(1).sum()) == 6

    # A second attempt dies in each of the three trainings; the last one goes on and leaves the same bytes.
    attempt, save, deaths = project("resumed"), training.append_row, []

    def dying(curve, row):
        if row["kimg"] == 0.032 and curve.parent.name not in deaths:
            deaths.append(curve.parent.name)
            raise KeyboardInterrupt
        save(curve, row)

    monkeypatch.setattr(training, "append_row", dying)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            stage.run(attempt)
    stage.run(attempt)
    assert deaths == ["vae", "parser", "mapping"]
    assert digests(attempt.out) == digests(whole.out)

    for name in ("train.zip", "train_labels.zip"):  # a user with masks of the pool alone
        (data / name).unlink()
    pool = project("pool", learn_from="pool")
    stage.run(pool)
    assert digests(pool.out) == digests(whole.out), "here the pool holds the same heads"


def test_inputs_that_do_not_fit_are_named(project):
    with pytest.raises(UserError, match="resolution 16: .*train.zip has 32x32 images; run stage data again"):
        stage.run(project("other", resolution=16))
    with pytest.raises(UserError, match="maskgan.donors 7: only 6 heads of train have a smile of 0.8 or more"):
        stage.run(project("few", donors=7))
    with pytest.raises(UserError, match="maskgan.val_images 1.*"):
        context = project("unrest", val_images=1)
        labels = stage.load_attributes(context.root / "outputs/data/val.zip")
        labels[0]["frown"] = 1.0
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stage, "load_attributes", lambda path: TRAIN_SMILES if "train" in path.name else labels)
            stage.run(context)
    path = context.root / "outputs/data/train_labels.zip"
    path.unlink()  # it may be shared
    write_archive(path, attributes=TRAIN_SMILES)
    with pytest.raises(UserError, match="train_labels.zip holds no part masks.*maskgan.learn_from: pool"):
        stage.run(context)


TRAIN_SMILES = [dict(smile=0.9, yaw=0.0, pitch=0.0, roll=0.0)] * 12
