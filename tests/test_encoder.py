"""The encoder network and its training: shapes, size, losses, complete resume, what happens to NaN."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from training_runs import INTERVALS, Killed
from training_runs import train as train_shortly

from editgan.config import load_params
from editgan.encoder import train as training
from editgan.encoder.encoder import (
    Encoder,
    group_sizes,
    load_encoder,
    load_latents,
    save_encoder,
    save_latents,
)
from editgan.encoder.losses import l2_distance, latent_distance, reconstruction_loss
from editgan.encoder.params import EncoderParams
from editgan.encoder.train import encoder_training, is_sample_step
from editgan.errors import UserError
from editgan.generator.generator import Generator
from editgan.images import to_uint8
from editgan.training import count_parameters, once
from editgan.weights import tensors_equal

ROOT = Path(__file__).parent.parent
EVERY_80 = dict(status_kimg=0.08, state_kimg=0.24, snapshot_kimg=0.24)
TINY = dict(
    recipe=1,
    channel_base=256,
    channel_max=16,
    pyramid_width=16,
    kimg=0.048,
    warmup_kimg=0.016,
    batch=4,
    lr=5e-3,
    val_images=4,
    inversion_steps=2,
    inversion_lr=0.05,
)


class StandInLpips(nn.Module):
    """The interface of LPIPS on one random convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.randn(8, 3, 3, 3, generator=torch.Generator().manual_seed(5)))

    def features(self, images):
        return [F.normalize(F.relu(F.conv2d(images, self.weight.to(images.dtype), padding=1)), dim=1)]

    def distance(self, first, second):
        return (first[0] - second[0]).square().mean((1, 2, 3))

    def forward(self, x, y):
        return self.distance(self.features(x), self.features(y))


def tiny_generator(img_resolution=16) -> Generator:
    torch.manual_seed(1)
    sizes = dict(z_dim=16, w_dim=16, channel_base=256, channel_max=16, num_mapping_layers=2)
    G = Generator(img_resolution=img_resolution, **sizes).eval().requires_grad_(False)
    with torch.no_grad():
        G.w_avg.copy_(G.mapping(torch.randn(2000, 16))[:, 0].mean(0))
    return G


def tiny_encoder(G: Generator, seed=0) -> Encoder:
    torch.manual_seed(seed)
    sizes = dict(img_resolution=G.img_resolution, num_ws=G.num_ws, w_dim=G.w_dim)
    return Encoder(**sizes, channel_base=256, channel_max=32, pyramid_width=32, head_width=32).start_at(G.w_avg)


@pytest.mark.parametrize("resolution", [16, 32, 64, 256])
def test_shape_and_start_at_w_avg(resolution):
    num_ws = 2 * resolution.bit_length() - 4
    E = Encoder(img_resolution=resolution, num_ws=num_ws, w_dim=12, pyramid_width=16, head_width=16)
    w_avg = torch.randn(12)
    w_plus = E.start_at(w_avg)(torch.randn(2, 3, resolution, resolution))
    assert w_plus.shape == (2, num_ws, 12)
    assert torch.equal(w_plus, w_avg.expand_as(w_plus))


def test_groups_of_rows():
    assert group_sizes(18) == [3, 4, 11]  # 1024 px, as in the paper's code
    assert group_sizes(10) == [3, 4, 3]
    assert group_sizes(6) == [3, 3, 0]


@pytest.mark.parametrize("resolution", [64, 256])
def test_at_most_eight_million_parameters_in_the_default_run(resolution):
    params = load_params(ROOT / "params.yaml")
    sizes = {name: getattr(params.encoder, name) for name in ("channel_base", "channel_max", "pyramid_width")}
    sizes["head_width"] = params.encoder.channel_max
    num_ws = 2 * resolution.bit_length() - 4
    E = Encoder(img_resolution=resolution, num_ws=num_ws, w_dim=params.generator.w_dim, **sizes)
    assert 1e6 < count_parameters(E) <= 8e6  # beside them stand the fixed components, 3.1 M numbers at 64 px


def test_rows_see_their_own_level_and_coarser_ones():
    G = tiny_generator(32)
    E = tiny_encoder(G)
    for branch in E.heads:
        nn.init.normal_(branch.linear.weight)
    x = torch.randn(1, 3, 32, 32)
    before = E(x)
    with torch.no_grad():
        E.laterals[2].bias += 1.0  # the 16-pixel level is the last one on the way down
    moved = (E(x) - before).abs().amax(dim=2)[0] > 1e-6  # [num_ws]
    assert moved.tolist() == [False] * 7 + [True] * (G.num_ws - 7)


def test_result_does_not_depend_on_the_batch():
    E = tiny_encoder(tiny_generator())
    for branch in E.heads:
        nn.init.normal_(branch.linear.weight)
    x = torch.randn(5, 3, 16, 16)
    torch.testing.assert_close(E(x), torch.cat([E(x[:2]), E(x[2:])]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("images", [torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 16, 16, dtype=torch.uint8)])
def test_wrong_images_are_named(images):
    with pytest.raises(ValueError, match=r"float images \[N, 3, 16, 16\].*got"):
        tiny_encoder(tiny_generator())(images)


def test_wrong_resolution_is_named():
    with pytest.raises(ValueError, match="power of two of at least 16, got 48"):
        Encoder(img_resolution=48, num_ws=10, w_dim=8)


def test_losses_against_float64():
    torch.manual_seed(0)
    x, y = torch.rand(3, 3, 8, 8) * 2 - 1, torch.rand(3, 3, 8, 8) * 2 - 1
    x01, y01 = (x.double() + 1) / 2, (y.double() + 1) / 2
    expected = torch.stack([F.mse_loss(a, b) for a, b in zip(x01, y01, strict=True)])
    torch.testing.assert_close(l2_distance(x, y).double(), expected, rtol=1e-5, atol=0)
    w, w_hat = torch.randn(3, 6, 4), torch.randn(3, 6, 4)
    expected = torch.stack([F.mse_loss(a, b) for a, b in zip(w.double(), w_hat.double(), strict=True)])
    torch.testing.assert_close(latent_distance(w, w_hat).double(), expected, rtol=1e-5, atol=0)
    assert reconstruction_loss(torch.tensor([0.5]), torch.tensor([0.25])).item() == 5.25


def test_schedule():
    steps = [is_sample_step(nimg, 8, 32) for nimg in range(0, 80, 8)]
    assert steps == [True] * 4 + [True, False, True, False, True, False]


def train(work, images, G, intervals=INTERVALS, dies_after=math.inf, **changes):
    constants = {name: value for name, value in changes.items() if name.isupper()}
    params = EncoderParams(**(TINY | {name: value for name, value in changes.items() if name not in constants}))
    E, options = tiny_encoder(G), dict(intervals=intervals, dies_after=dies_after)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in constants.items():
            patch.setattr(training, name, value)
        whole = encoder_training(E, G, StandInLpips(), images, params, seed=3)
        return E, train_shortly(whole, work, on_snapshot=lambda nimg: {"seen": float(nimg)}, **options)


def test_resumed_run_equals_unbroken_run(tmp_path):
    torch.manual_seed(0)
    G, images = tiny_generator(), torch.randint(0, 256, (40, 3, 16, 16), dtype=torch.uint8)
    unbroken, rows = train(tmp_path / "a", images, G)
    with pytest.raises(Killed):
        train(tmp_path / "b", images, G, dies_after=32)
    state = torch.load(tmp_path / "b" / "state.pt", weights_only=True)
    assert state["cur_nimg"] == 24
    torch.manual_seed(99)  # nothing may come from the global generator
    resumed, later = train(tmp_path / "b", images, G)
    assert tensors_equal(unbroken.state_dict(), resumed.state_dict())
    assert [row["nimg"] for row in rows] == [8, 16, 24, 32, 40, 48]
    assert later == rows[3:] and rows[2]["seen"] == 24
    again, nothing = train(tmp_path / "b", images, G)
    assert nothing == [] and tensors_equal(again.state_dict(), resumed.state_dict())


@pytest.mark.parametrize("term", ["latent", "l2", "lpips"])
def test_training_lowers_each_term(tmp_path, term):
    """Each loss alone, on pictures that the generator can make, falls; real images too where they carry the term."""
    G = tiny_generator()
    with torch.no_grad():
        pictures = G.synthesis(G.mapping(torch.randn(16, 16, generator=torch.Generator().manual_seed(2))))
    images = to_uint8(pictures)
    weights = {f"{name.upper()}_WEIGHT": 10.0 * (name == term) for name in ("latent", "l2", "lpips")}
    weights["SAMPLE_L2_WEIGHT"] = weights["L2_WEIGHT"]
    changes = dict(lr=0.02, kimg=0.24, warmup_kimg=0.0, intervals=EVERY_80)
    _, rows = train(tmp_path, images, G, **changes, **weights)
    assert rows[-1]["seen"] == 240
    for kind in {"latent": ("sample",), "l2": ("sample", "real"), "lpips": ("real",)}[term]:
        assert rows[-1][f"{kind}_{term}"] < 0.9 * rows[0][f"{kind}_{term}"]


def test_nan_stops_training_and_names_the_loss(tmp_path):
    G = tiny_generator()
    G.synthesis.b16.torgb.bias.fill_(float("nan"))
    with pytest.raises(UserError, match="diverged at 0.0 kimg of the encoder.*sample_l2"):
        train(tmp_path, torch.zeros(8, 3, 16, 16, dtype=torch.uint8), G)
    assert not (tmp_path / "state.pt").exists()


def test_training_images_of_the_wrong_size_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"uint8 \[M, 3, 16, 16\], got torch.uint8 \[8, 3, 32, 32\]"):
        train(tmp_path, torch.zeros(8, 3, 32, 32, dtype=torch.uint8), tiny_generator())


def test_params_must_fit_each_other():
    with pytest.raises(ValueError, match="warmup_kimg"):
        EncoderParams(**(TINY | {"warmup_kimg": 1}))


def test_round_trip_on_disk(tmp_path):
    E = tiny_encoder(tiny_generator())
    nn.init.normal_(E.heads[0].linear.weight)
    save_encoder(tmp_path / "E.safetensors", E)
    loaded = load_encoder(tmp_path / "E.safetensors")
    x = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(loaded(x), E(x), rtol=1e-2, atol=5e-3)  # kept in float16
    assert next(loaded.parameters()).dtype == torch.float32
    assert not any(p.requires_grad for p in loaded.parameters())

    latents = {"few_shot": torch.randn(2, 6, 16), "test": torch.randn(3, 6, 16), "val": torch.randn(1, 6, 16)}
    latents["val_encoder"] = torch.randn(1, 6, 16)
    save_latents(tmp_path / "latents.safetensors", latents, 30)
    kept = {name: w_plus.half().float() for name, w_plus in latents.items()}
    assert tensors_equal(load_latents(tmp_path / "latents.safetensors"), kept)
    with pytest.raises(UserError, match="expected few_shot, test, val, val_encoder .* found heads"):
        load_latents(tmp_path / "E.safetensors")


def test_finished_batches_are_not_computed_again(tmp_path):
    calls = []

    def compute():
        calls.append(1)
        return torch.full((1, 2, 3), 7.0)

    first = once(tmp_path / "latents" / "val_00000.safetensors", compute)
    assert torch.equal(once(tmp_path / "latents" / "val_00000.safetensors", compute), first) and len(calls) == 1
