"""Training from a cold start at tiny size: both recipes resume bit for bit, ranks add up, states are kept."""

import json
import os
import signal

import pytest
import torch
from test_generator_training import Features, Killed
from torch import nn

from editgan.errors import UserError
from editgan.generator import adversarial, state
from editgan.generator.adversarial import build_networks, train
from editgan.generator.parallel import Ranks, choose_processes, train_together
from editgan.generator.params import GeneratorParams
from editgan.generator.snapshots import Recorder
from editgan.runtime.precision import autocast, choose_precision
from editgan.runtime.tracking import offline_run
from editgan.weights import tensors_equal

CPU = torch.device("cpu")
SIZE = 16
PARAMS = dict(
    recipe=1,
    w_dim=8,
    channel_base=64,
    channel_max=8,
    num_mapping_layers=2,
    loss="relativistic",
    discriminator="pixel",
    d_channel_base=64,
    mbstd_group=2,
    projected_weight=1.0,
    projected_from_kimg=0.032,
    projected_width=4,
    projected_lr=0.002,
    kimg=0.096,
    batch=8,
    g_lr=0.004,
    d_lr=0.004,
    lr_decay_from=0.5,
    noise=False,
    r1_gamma=2.0,
    r1_interval=2,
    pl_weight=0.0,
    pl_interval=4,
    style_mixing_prob=0.5,
    ada_target=None,
    ada_kimg=0.05,
    ema_kimg=0.02,
    ema_kimg_end=0.04,
    ema_rampup=0.5,
    mirror=True,
    status_kimg=0.016,
    snapshot_kimg=0.048,
    state_kimg=0.016,
    kid_images=12,
)
STYLEGAN2 = dict(
    loss="logistic", discriminator="stylegan2", projected_weight=0.0, noise=True, pl_weight=2.0, ada_target=-0.9
)
RECIPES = {"relativistic": {}, "stylegan2": STYLEGAN2}


class Backbone(nn.Module):
    """Stands in for EfficientNet-Lite1: four fixed random maps at strides 4, 8, 16, 32 (of 32 px at least)."""

    channels = (4, 4, 6, 6)

    def __init__(self) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(0)
        self.convs = nn.ModuleList(nn.Conv2d(3, channels, 3, padding=1, bias=False) for channels in self.channels)
        for conv in self.convs:
            nn.init.normal_(conv.weight, generator=rng)
        self.requires_grad_(False)

    def forward(self, images):
        pooled = [nn.functional.adaptive_avg_pool2d(images, max(SIZE // (4 << k), 1)) for k in range(4)]
        return [conv(x) for conv, x in zip(self.convs, pooled, strict=True)]


def pictures() -> torch.Tensor:
    return torch.randint(0, 256, (20, 3, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))


def run_training(folder, *, changes=None, kill_after=None, monkeypatch=None, ranks=Ranks(), light=None):  # noqa: B008
    """Train in `folder`; with `kill_after`, die in the step after that many images."""
    params = GeneratorParams(**(PARAMS | (changes or {})))
    run = offline_run()
    if kill_after is not None:

        def progress(done, *_):
            if done * 1000 > kill_after:
                raise Killed

        monkeypatch.setattr(run, "progress", progress)
    recorder = Recorder(
        out=folder / "out", work=folder / "work", run=run, lpips_vgg=Features(), reals=pictures(), seed=3,
        kid_images=params.kid_images, device=CPU,
    )  # fmt: skip
    networks = train(
        ranks,
        params=params,
        resolution=SIZE,
        seed=3,
        images=pictures(),
        backbone=Backbone() if params.projected_weight else None,
        device=CPU,
        precision="float32",
        folder=folder / "work",
        light=light,
        recorder=recorder,
    )
    return networks, recorder


@pytest.mark.parametrize("recipe", RECIPES)
def test_resumed_run_is_the_unbroken_one_bit_for_bit(tmp_path, monkeypatch, recipe):
    changes = RECIPES[recipe]
    whole, recorder = run_training(tmp_path / "unbroken", changes=changes)
    torch.manual_seed(123)
    with pytest.raises(Killed):
        run_training(tmp_path / "broken", changes=changes, kill_after=60, monkeypatch=monkeypatch)
    torch.manual_seed(456)
    again, _ = run_training(tmp_path / "broken", changes=changes)
    for name, network in whole.named().items():
        assert tensors_equal(network.state_dict(), again.named()[name].state_dict()), name
    first, second = tmp_path / "unbroken", tmp_path / "broken"
    for name in ("out/stats.jsonl", f"work/{adversarial.BEST_FILE}", "out/snapshots/fakes000000.png"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    lines = [json.loads(line) for line in (first / "out" / "stats.jsonl").read_text().splitlines()]
    assert [line["kimg"] for line in lines] == [0.016 * k for k in range(1, 7)]
    assert {"kid12_vgg16", "precision12_vgg16", "recall12_vgg16"} <= lines[-1].keys()
    wanted = {"loss/projected_G", "loss/projected_D", "loss/r2"} if not changes else {"augment_p", "path_length"}
    assert wanted | {"loss/G", "loss/D", "loss/r1", "r_t"} <= set().union(*lines)


def both_ranks(ranks: Ranks, params: GeneratorParams, folder) -> adversarial.Networks:
    """In float64: a rank trains on its part of the batch."""
    torch.set_default_dtype(torch.float64)
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(adversarial, "to_float", lambda images: images.double() / 127.5 - 1)
    try:
        return train(
            ranks, params=params, resolution=SIZE, seed=3, images=pictures(), backbone=Backbone(), device=CPU,
            precision="float32", folder=folder,
        )  # fmt: skip
    finally:
        monkeypatch.undo()
        torch.set_default_dtype(torch.float32)


def test_two_ranks_of_four_equal_one_of_eight_in_float64(tmp_path):
    params = GeneratorParams(**(PARAMS | dict(kimg=0.16, status_kimg=0.16, snapshot_kimg=0.16, state_kimg=0.16)))
    alone = both_ranks(Ranks(), params, tmp_path / "alone")
    together = train_together(
        lambda ranks: both_ranks(ranks, params, tmp_path / "together"),
        helper=both_ranks,
        arguments=(params, tmp_path / "together"),
        world=2,
        device=CPU,
    )
    moved = build_networks(params, SIZE, 3, Backbone(), pictures(), CPU).G.state_dict()
    for name, network in alone.named().items():
        for key, tensor in network.state_dict().items():
            torch.testing.assert_close(together.named()[name].state_dict()[key], tensor, rtol=1e-8, atol=1e-8)
    weight = "synthesis.b16.conv1.weight"
    assert (alone.G.state_dict()[weight] - moved[weight]).abs().max() > 1e-3


def failing(ranks: Ranks, how: str) -> None:
    if how == "error":
        raise UserError("train.zip: damaged")
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("how", "said"),
    [("error", "training process 1 of 2 failed: UserError: train.zip: damaged"), ("kill", "by signal 9")],
)
def test_failing_rank_ends_all_with_its_own_error(how, said):
    def wait(ranks):
        ranks.mean({"x": 1.0})

    with pytest.raises(UserError, match=said):
        train_together(wait, helper=failing, arguments=(how,), world=2, device=CPU)
    assert not torch.distributed.is_initialized()


def test_processes_divide_the_batch_into_whole_groups(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(6)))
    assert choose_processes("auto", device=CPU, batch=16, group=4) == 4
    assert choose_processes("auto", device=CPU, batch=8, group=8) == 1
    assert choose_processes(2, device=CPU, batch=16, group=4) == 2
    with pytest.raises(UserError, match="runtime.processes 3: batch 16 .* possible: 1, 2, 4"):
        choose_processes(3, device=CPU, batch=16, group=4)


def test_light_state_goes_on_elsewhere_with_the_average_as_generator(tmp_path, capsys):
    light = tmp_path / "light.safetensors"
    changes = dict(kimg=0.048)
    first, _ = run_training(tmp_path / "here", changes=changes, light=light)
    kept = state.load_light(light)
    assert kept["cur_nimg"] == kept["warm_from"] == 48 and "optimizers" not in kept
    for name, tensor in first.G_ema.state_dict().items():
        torch.testing.assert_close(kept["G"][name], tensor, atol=2e-3, rtol=1e-3)
    again, recorder = run_training(tmp_path / "there", light=light)
    assert f"resuming from {light} at 0.048 kimg" in capsys.readouterr().out
    restarts = [line["kimg"] for line in recorder.history if "from_light_state" in line]
    ticks = [line["kimg"] for line in recorder.history if "from_light_state" not in line]
    assert restarts == [0.048] and ticks == [0.016 * k for k in range(1, 7)]
    assert not tensors_equal(first.G.state_dict(), again.G.state_dict())


def test_state_of_other_sizes_is_refused_and_other_changes_are_named(tmp_path, capsys):
    run_training(tmp_path, changes=dict(kimg=0.048))
    run_training(tmp_path, changes=dict(kimg=0.064))
    assert "kimg changed from 0.048 to 0.064" in capsys.readouterr().out
    with pytest.raises(UserError, match="state.pt: its network sizes differ .w_dim 8 there, 16 in the params"):
        run_training(tmp_path, changes=dict(w_dim=16))


def test_diverged_training_stops_and_names_the_last_state(tmp_path):
    with pytest.raises(UserError, match="diverged at .* state"):
        run_training(tmp_path, changes=dict(g_lr=1e30, d_lr=1e30))


def test_measured_precision_is_one_of_two_and_can_be_overridden():
    assert choose_precision(CPU) in ("float32", "bfloat16")
    assert choose_precision(CPU, "bfloat16") == "bfloat16"
    with autocast(CPU, "bfloat16"):
        assert nn.Linear(2, 2)(torch.ones(1, 2)).dtype == torch.bfloat16
    with autocast(CPU, "float32"):
        assert nn.Linear(2, 2)(torch.ones(1, 2)).dtype == torch.float32
