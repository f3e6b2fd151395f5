"""StyleGAN2 Distillation: which pairs are kept, losses, complete resume, what it learns, and the stage as a whole."""

import itertools
import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from test_encoder import tiny_generator
from torch import nn
from training_runs import INTERVALS, Killed, StandInVgg, digests
from training_runs import train as train_shortly

from editgan import training
from editgan.config import load_params
from editgan.errors import UserError
from editgan.images import to_float, to_uint8
from editgan.methods import translation
from editgan.methods.distillation import stage
from editgan.methods.distillation import train as train_module
from editgan.methods.distillation.pairs import choose_pairs, shifted, smile
from editgan.methods.distillation.pix2pixhd import (
    GlobalGenerator,
    MultiscaleDiscriminator,
    adversarial_terms,
    initialise,
    weighted_sum,
)
from editgan.methods.distillation.train import Pairs, distillation_training, drawn, relative_lr
from editgan.methods.params import DistillationParams
from editgan.runtime.stage import StageContext
from editgan.runtime.tracking import offline_run
from editgan.training import count_parameters
from editgan.weights import load_module, load_tensors, save_module, save_tensors, tensors_equal

ROOT = Path(__file__).parent.parent
TINY = dict(
    recipe=1, samples=60, step=3.0, pairs=12, val_pairs=4, width=8, residual=True,
    kimg=0.048, batch=4, lr=2e-3, d_lr=2e-4, vgg_images=2,
)  # fmt: skip


def planted_pairs(count: int = 12, side: int = 16) -> Pairs:
    """Smooth pictures, and the same with a bright bar across."""
    pictures = nn.functional.interpolate(torch.rand(count, 3, 4, 4), size=side, mode="bilinear") * 1.6 - 0.8
    smiling = pictures.clone()
    smiling[:, :, 3 * side // 4 : 3 * side // 4 + 2, side // 4 : -side // 4] = 1
    return Pairs(to_uint8(pictures), to_uint8(smiling))


def networks(seed: int = 0) -> tuple[GlobalGenerator, MultiscaleDiscriminator]:
    generator = torch.Generator().manual_seed(seed)
    net = GlobalGenerator(width=8, num_downs=1, num_blocks=1, residual=True)
    D = MultiscaleDiscriminator(in_channels=6, width=4)
    return initialise(net, generator), initialise(D, generator)


def train(work, pairs, vgg=None, intervals=INTERVALS, dies_after=math.inf, weights=None, **changes):
    (net, D), params = networks(), DistillationParams(**(TINY | changes))
    whole = distillation_training(net, D, vgg or StandInVgg(), pairs, params, seed=3)
    options = dict(intervals=intervals, dies_after=dies_after)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (weights or {}).items():
            patch.setattr(translation, name, value)
        rows = train_shortly(whole, work, on_snapshot=lambda nimg: {"val_seen": float(nimg)}, **options)
    return net, D, rows


def test_only_the_first_rows_move_each_by_its_step():
    w_plus, direction, step = torch.randn(3, 6, 4), torch.randn(4), torch.tensor([-2.0, 0.0, 1.5])
    moved = shifted(w_plus, direction, step=step, rows=4)
    assert torch.equal(moved[:, 4:], w_plus[:, 4:]) and torch.equal(moved[1], w_plus[1])
    for row in range(4):
        torch.testing.assert_close(moved[2, row], w_plus[2, row] + 1.5 * direction)
        torch.testing.assert_close(moved[0, row], w_plus[0, row] - 2 * direction)
    torch.testing.assert_close(shifted(w_plus, direction, step=1.0, rows=18), w_plus + direction)


def test_best_opposite_pairs_by_trying_all():
    logits = 3 * torch.randn(200, 3)
    expected = {}
    for latent, row in enumerate(logits.tolist()):
        for low, high in itertools.combinations(range(3), 2):
            if row[low] < 0 < row[high]:
                both = 1 / ((1 + math.exp(row[low])) * (1 + math.exp(-row[high])))
                expected[latent] = max(expected.get(latent, (0,)), (both, low, high))
    ranked = sorted(expected, key=lambda latent: -expected[latent][0])
    chosen = choose_pairs(logits, 50)
    assert chosen.latents.tolist() == ranked[:50]
    assert [tuple(sides) for sides in chosen.sides.tolist()] == [expected[latent][1:] for latent in ranked[:50]]
    assert chosen.confidence.tolist() == [pytest.approx(expected[latent][0]) for latent in ranked[:50]]
    with pytest.raises(UserError, match=f"{len(expected)} of 200 latents give a pair.*{len(expected) + 1} are needed"):
        choose_pairs(logits, len(expected) + 1)


@pytest.mark.parametrize(("logits", "sides"), [((-5, -3, 2), [0, 2]), ((-4, 1, 0.5), [0, 1]), ((3, -2, 5), [1, 2])])
def test_both_images_of_a_pair_count(logits, sides):
    chosen = choose_pairs(torch.tensor([logits], dtype=torch.float32), 1)
    assert chosen.sides.tolist() == [sides]


@pytest.mark.parametrize("logits", [(2.0, 1.0, 3.0), (-1.0, -2.0, -3.0), (1.0, 0.5, -2.0)])
def test_equal_classes_and_smiles_that_fade_give_no_pair(logits):
    with pytest.raises(UserError, match="0 of 1 latents"):
        choose_pairs(torch.tensor([logits]), 1)


def test_schedule_is_constant_then_linear():
    assert [relative_lr(p) for p in (0, 0.25, 0.5, 0.75, 1)] == [1, 1, 1, 0.5, 0]


def test_terms_and_their_weights():
    real, fake = ([[torch.full((1, 2, 3, 3), v), torch.full((1, 1, 2, 2), v)]] for v in (1.0, 0.25))
    terms = adversarial_terms(real, {"": fake}) | {"vgg": torch.tensor(0.5)}
    assert {name: term.item() for name, term in terms.items()} == {"gan": 0.5625, "feature_matching": 3.0, "vgg": 0.5}
    loss = weighted_sum(terms, feature_matching_weight=10, vgg_weight=4)
    assert loss.item() == 0.5625 + 30 + 2


def test_pairs_are_mirrored_together_and_seen_once_an_epoch():
    pairs, params = planted_pairs(), DistillationParams(**TINY)
    flipped, seen = [], []
    for cur_nimg in range(0, 12, 4):
        for source, target in zip(*drawn(pairs, params, 3, cur_nimg), strict=True):
            for flip in (False, True):
                x, y = ((image.flip(2) if flip else image) for image in (source, target))
                same = (to_float(pairs.sources) == x).flatten(1).all(1) & (to_float(pairs.targets) == y).flatten(1).all(
                    1
                )
                if same.any():
                    seen.append(int(same.nonzero()))
                    flipped.append(flip)
    assert sorted(seen) == list(range(12)) and 0 < sum(flipped) < 12


def test_resumed_run_equals_unbroken_run(tmp_path):
    pairs = planted_pairs()
    net, D, rows = train(tmp_path / "a", pairs)
    with pytest.raises(Killed):
        train(tmp_path / "b", pairs, dies_after=32)
    assert torch.load(tmp_path / "b" / "state.pt", weights_only=True)["cur_nimg"] == 24
    torch.manual_seed(99)  # nothing may come from the global generator
    resumed, resumed_D, later = train(tmp_path / "b", pairs)
    assert tensors_equal(net.state_dict(), resumed.state_dict())
    assert tensors_equal(D.state_dict(), resumed_D.state_dict())
    assert [row["nimg"] for row in rows] == [8, 16, 24, 32, 40, 48]
    assert later == rows[3:] and rows[2]["val_seen"] == 24
    again, _, nothing = train(tmp_path / "b", pairs)
    assert nothing == [] and tensors_equal(again.state_dict(), net.state_dict())


def test_learns_a_tiny_set(tmp_path):
    """The bar appears where it belongs, and the rest stays; discriminators that learn slowly do not tell four apart."""
    pairs, intervals = planted_pairs(4), dict(status_kimg=0.2, state_kimg=2, snapshot_kimg=9)
    net, _, rows = train(tmp_path, pairs, kimg=1.2, d_lr=1e-5, intervals=intervals)
    assert rows[-1]["l1"] < 0.5 * rows[0]["l1"]
    outputs, bar = to_float(smile(net, pairs.sources)), (slice(None), slice(None), slice(12, 14), slice(4, -4))
    targets, sources = to_float(pairs.targets), to_float(pairs.sources)
    assert (outputs[bar] - targets[bar]).abs().mean() < 0.3 * (sources[bar] - targets[bar]).abs().mean()


@pytest.mark.parametrize("weight", ["FEATURE_MATCHING_WEIGHT", "VGG_WEIGHT"])
def test_each_distance_alone_teaches(tmp_path, weight):
    changes = dict(weights={"FEATURE_MATCHING_WEIGHT": 0, "VGG_WEIGHT": 0} | {weight: 10}, kimg=0.48, lr=5e-3)
    _, _, rows = train(
        tmp_path, planted_pairs(4), intervals=dict(status_kimg=0.08, state_kimg=1, snapshot_kimg=9), **changes
    )
    assert rows[-1]["l1"] < 0.8 * rows[0]["l1"]


def test_nan_stops_training_and_names_the_loss(tmp_path):
    vgg = StandInVgg()
    vgg.weights[2].fill_(float("nan"))
    with pytest.raises(UserError, match="diverged at 0.0 kimg of distillation.*vgg.*Lower the learning rate"):
        train(tmp_path, planted_pairs(), vgg)
    assert not (tmp_path / "state.pt").exists()


def test_pairs_of_other_shapes_are_named(tmp_path):
    pairs = planted_pairs()
    with pytest.raises(ValueError, match=r"uint8 images of one shape, got torch.uint8 \[12.*\[6, 3, 16, 16\]"):
        train(tmp_path, Pairs(pairs.sources, pairs.targets[:6]))
    with pytest.raises(ValueError, match="got torch.float32"):
        train(tmp_path, Pairs(to_float(pairs.sources), to_float(pairs.targets)))


def test_smile_takes_photos_of_any_number():
    net, photos = networks()[0].eval(), planted_pairs(7).sources
    whole, parts = smile(net, photos), smile(net, photos, batch=3)
    assert whole.dtype == torch.uint8 and whole.shape == photos.shape
    assert (whole.int() - parts.int()).abs().max() <= 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pairs": 61}, "pairs 61 must not exceed samples 60"),
        ({"vgg_images": 5}, "vgg_images 5 must not exceed batch 4"),
        ({"val_pairs": 12}, "val_pairs 12 must leave some of the 12 pairs"),
    ],
)
def test_params_must_fit_each_other(changes, message):
    with pytest.raises(ValueError, match=message):
        DistillationParams(**(TINY | changes))


def test_default_network_is_small():
    params = load_params(ROOT / "params.yaml")
    net = GlobalGenerator(width=params.distillation.width, **stage.depth_of(params.resolution))
    assert count_parameters(net) <= 1.2e6, "2.4 MB in half precision"


@pytest.mark.parametrize("resolution", [32, 64, 128, 256, 512, 1024])
def test_every_resolution_has_a_network_that_leaves_four_pixels(resolution):
    depth = stage.depth_of(resolution)
    assert 1 <= depth["num_downs"] <= 4 and resolution >> depth["num_downs"] >= 4
    assert depth["num_blocks"] == (9 if resolution >= 256 else 3), "the paper's from 256 px on"


def test_a_curve_improves_while_its_last_quarter_does():
    assert stage.still_improving([1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3])
    assert not stage.still_improving([1.0, 0.9, 0.5, 0.5, 0.4, 0.4, 0.4, 0.4])
    assert not stage.still_improving([0.5, 0.4, 0.4, 0.5]), "it gets worse"
    assert stage.still_improving([0.5]), "nobody knows"
    assert stage.still_improving([1.0] * 6 + [0.98] * 2) and not stage.still_improving([1.0] * 6 + [0.995] * 2)


class Brightness(nn.Module):
    """A guide that takes bright pictures for smiles."""

    def __init__(self, middle: float) -> None:
        super().__init__()
        self.middle = middle

    def forward(self, images):
        return 50 * (images.mean((1, 2, 3)) - self.middle)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A function that makes a context over one set of inputs, with stand-ins for the networks that are not trained."""
    G = tiny_generator()
    save_module(tmp_path / "outputs/generator/G_ema.safetensors", G, G.config)
    w_avg = G.w_avg.expand(1, G.num_ws, -1).clone().requires_grad_()
    bright = G.synthesis(w_avg).mean()
    direction = torch.autograd.grad(bright, w_avg)[0][0, :4].sum(0)
    save_tensors(tmp_path / "outputs/interfacegan/directions.safetensors", {"smile": direction / direction.norm()})
    monkeypatch.setattr(stage, "load_lpips", lambda folder, device: StandInVgg())
    monkeypatch.setattr(train_module, "INTERVALS", INTERVALS)
    monkeypatch.setattr(stage, "load_guide", lambda folder: Brightness(bright.item()))

    def context(attempt: str, resolution: int = 16, **changes) -> StageContext:
        section = DistillationParams(**(TINY | changes))
        params = SimpleNamespace(seed=0, resolution=resolution, distillation=section)
        out, work = tmp_path / attempt / "out", tmp_path / attempt / "work"
        out.mkdir(parents=True, exist_ok=True)
        work.mkdir(parents=True, exist_ok=True)
        return StageContext("distillation", params, tmp_path, out, work, offline_run(), torch.device("cpu"))

    return context


def test_outputs_and_resume_of_the_stage(project, monkeypatch):
    whole = project("whole")
    stage.run(whole)
    names = ["curves", "generator.safetensors", "metrics.json", "pairs.png", "stats.jsonl", "val.png"]
    assert sorted(path.name for path in whole.out.iterdir()) == names
    metrics = json.loads((whole.out / "metrics.json").read_text())
    assert set(metrics) == {
        "pairs", "least_confidence", "still_improving", "parameters", "l1_val4", "l1_val4_unchanged",
        "smiling_guide_val4", "smiling_guide_val4_sources", "smiling_guide_val4_targets",
    }  # fmt: skip
    assert metrics["pairs"] == 8 and metrics["smiling_guide_val4_sources"] == 0
    assert metrics["smiling_guide_val4_targets"] == 1 and type(metrics["still_improving"]) is bool
    net = load_module(whole.out / "generator.safetensors", GlobalGenerator)
    assert count_parameters(net) == metrics["parameters"]
    tensors, _ = load_tensors(whole.out / "generator.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    val = json.loads((whole.out / "curves/val.json").read_text())
    assert [row["kimg"] for row in val] == [0.024, 0.048] and val[-1]["val_l1"] == pytest.approx(
        metrics["l1_val4"], abs=5e-3
    )
    assert json.loads((whole.out / "curves/train.json").read_text())[0].keys() >= {"kimg", "gan", "D", "vgg", "l1"}

    # A second attempt dies in its training; the third goes on, asks the guide no more and leaves the same bytes.
    attempt, save = project("resumed"), training.append_row

    def dying(curve, row):
        if row["kimg"] == 0.04:
            raise KeyboardInterrupt
        save(curve, row)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training, "append_row", dying)
        stage.run(attempt)
    asked, calls = [], stage.calls
    monkeypatch.setattr(stage, "calls", lambda guide, images, device: asked.append(1) or calls(guide, images, device))
    stage.run(attempt)
    assert len(asked) == 4, "the last snapshot, and outputs, sources and targets at the end"
    assert digests(attempt.out) == digests(whole.out)


def test_too_few_pairs_are_named(project):
    with pytest.raises(UserError, match="distillation.pairs 60: .* of 60 latents give .*raise distillation.samples"):
        stage.run(project("few", pairs=60, step=0.001))


def test_inputs_that_do_not_fit_are_named(project):
    with pytest.raises(UserError, match="resolution 32: the generator produces 16 px"):
        stage.run(project("other", resolution=32))
    context = project("wrong")
    save_tensors(context.root / "outputs/interfacegan/directions.safetensors", {"smile": torch.zeros(5)})
    with pytest.raises(UserError, match="has no direction smile of 16 entries; run stage interfacegan again"):
        stage.run(context)
