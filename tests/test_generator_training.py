"""Training at tiny size: both recipes resume bit for bit, ranks add up, states are kept, faults are named."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_generator import CPU, PARAMS, RECIPES, SIZE, Backbone, Killed, pictures, run_training
from torch import nn

from editgan.errors import UserError
from editgan.generator import state
from editgan.generator import train as train_module
from editgan.generator.parallel import Ranks, choose_processes, train_together
from editgan.generator.params import GeneratorParams
from editgan.generator.train import BEST_FILE, Networks, build_networks, train
from editgan.runtime.environment import PROJECT_ROOT
from editgan.runtime.precision import autocast, choose_precision
from editgan.training import Muon, cosine_decay, lazy_adam, orthogonalize, split_matrices
from editgan.weights import tensors_equal


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
    for name in ("out/stats.jsonl", f"work/{BEST_FILE}", "work/snapshots/fakes000000.png"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    lines = [json.loads(line) for line in (first / "out" / "stats.jsonl").read_text().splitlines()]
    assert [line["kimg"] for line in lines] == [0.016 * k for k in range(1, 7)]
    assert {"kid12_vgg16", "precision12_vgg16", "recall12_vgg16"} <= lines[-1].keys()
    wanted = {"loss/projected_G", "loss/projected_D", "loss/r2"} if not changes else {"augment_p", "path_length"}
    assert wanted | {"loss/G", "loss/D", "loss/r1", "r_t"} <= set().union(*lines)


def both_ranks(ranks: Ranks, params: GeneratorParams, folder) -> Networks:
    """In float64: a rank trains on its part of the batch."""
    torch.set_default_dtype(torch.float64)
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(train_module, "to_float", lambda images: images.double() / 127.5 - 1)
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


def test_rank_that_dies_while_it_starts_ends_all():
    import dying_rank  # only here: the other ranks import this module, and dying_rank would end them

    with pytest.raises(UserError, match="training process 1 of 2 failed: exit status 3"):
        train_together(lambda ranks: None, helper=dying_rank.helper, arguments=(), world=2, device=CPU)


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


KILLED_TRAINING = """
import os, sys
from pathlib import Path

import torch

import tiny_generator as here
from editgan.generator import state
from editgan.runtime.tracking import Run

torch.manual_seed(int(sys.argv[2]))
Run.progress = lambda run, done, *_: print(done, flush=True)
state.print = lambda *_, **__: None
networks, _ = here.run_training(Path(sys.argv[1]))
torch.save({"G": networks.G.state_dict(), "D": networks.D.state_dict()}, Path(sys.argv[1]) / "result.pt")
"""


def test_training_killed_by_signal_9_twice_ends_as_the_unbroken_one(tmp_path):
    """A process of its own, killed twice between two states."""

    def start(folder, seed):
        command = [sys.executable, "-c", KILLED_TRAINING, tmp_path / folder, str(seed)]
        environ = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(PROJECT_ROOT)])}
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ)

    def kill_from(kimg, seed):
        process = start("broken", seed)
        while float(process.stdout.readline()) < kimg:
            pass
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert not (tmp_path / "broken" / "result.pt").exists()

    kill_from(0.024, seed=2)
    kill_from(0.056, seed=3)
    for folder in ("broken", "unbroken"):
        process = start(folder, seed=1)
        said, _ = process.communicate()
        assert process.returncode == 0
        assert (float(said.split()[0]) > 0.024) == (folder == "broken"), "it went on from a state"
    results = [torch.load(tmp_path / folder / "result.pt", weights_only=True) for folder in ("broken", "unbroken")]
    assert all(tensors_equal(results[0][name], results[1][name]) for name in ("G", "D"))
    curves = [(tmp_path / folder / "out" / "stats.jsonl").read_bytes() for folder in ("broken", "unbroken")]
    assert curves[0] == curves[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 6, "mbstd_group": 4}, "batch 6 must be a multiple of mbstd_group 4"),
        ({"state_kimg": 0.012}, "state_kimg 0.012 must be a multiple of status_kimg"),
        ({"start_from": "x"}, "set both start_from"),
        ({"ada_target": 0.6, "loss": "relativistic"}, "needs loss logistic"),
        ({"start_from": "x", "start_from_sha256": "abc"}, "start_from_sha256"),
        ({"r1_gama": 1.0}, "r1_gama"),
    ],
)
def test_inconsistent_params_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        GeneratorParams(**(PARAMS | changes))


def test_lazy_regularisation_corrects_adam():
    optimizer = lazy_adam([nn.Parameter(torch.zeros(1))], 16)
    group = optimizer.param_groups[0]
    assert group["lr_scale"] == 16 / 17 and group["betas"] == (0.0, 0.99 ** (16 / 17))


def test_rates_decay():
    rates = [train_module.relative_lr(t, 0.5) for t in (0, 0.5, 0.75, 1)]
    assert rates == pytest.approx([1, 1, 0.55, 0.1])
    assert [cosine_decay(t) for t in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])


@pytest.mark.parametrize("shape", [(12, 40), (40, 12), (16, 16)])
def test_orthogonalised_matrix_keeps_its_directions_and_has_singular_values_near_one(shape):
    matrix = torch.randn(shape)
    values = torch.linalg.svdvals(orthogonalize(matrix))
    assert values.min() > 0.3 and values.max() < 1.3
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    aligned = left.t() @ orthogonalize(matrix) @ right.t()
    assert torch.allclose(aligned, aligned.diag().diag(), atol=1e-4)


def test_step_of_muon_has_the_size_it_says_whatever_the_gradient():
    for gain in (1e-3, 1e3):
        weight = nn.Parameter(torch.zeros(8, 4, 3, 3))
        weight.grad = torch.randn(weight.shape) * gain
        Muon([weight], lr=0.1).step()
        assert 0.5 < weight.detach().square().mean().sqrt() / (0.1 * 0.2) < 1.2


def test_only_large_weights_are_matrices():
    params = [torch.zeros(shape) for shape in ((8, 4, 3, 3), (3, 8, 1, 1), (8, 3, 1, 1), (8,), (), (8, 4, 4))]
    matrices, others = split_matrices(params)
    assert [len(p.shape) for p in matrices] == [4, 3] and len(others) == 4
