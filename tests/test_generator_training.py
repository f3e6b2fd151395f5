"""Training at tiny size: a killed run continues as the unbroken one; what is written; what stops it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from editgan.errors import UserError
from editgan.generator import train as train_module
from editgan.generator import warm_start as first_phase
from editgan.generator.params import GeneratorParams
from editgan.generator.train import train
from editgan.runtime.environment import PROJECT_ROOT
from editgan.runtime.tracking import offline_run
from editgan.training import (
    Muon,
    cosine_decay,
    lazy_adam,
    linear_decay,
    orthogonalize,
    split_matrices,
)
from editgan.weights import tensors_equal

PARAMS = dict(
    recipe=1,
    w_dim=8,
    channel_base=64,
    channel_max=8,
    d_channel_base=64,
    num_mapping_layers=2,
    mbstd_group=2,
    warm_start=dict(kimg=(0.008, 0.016)),
    start_from=None,
    start_from_sha256=None,
    kimg=0.048,
    batch=4,
    anchor_images=2,
    g_lr=0.002,
    d_lr=0.002,
    lr_decay_from=0.5,
    noise_lr_multiplier=0.1,
    d_first_kimg=0.004,
    r1_gamma=1.0,
    r1_interval=2,
    pl_weight=2.0,
    pl_interval=2,
    style_mixing_prob=0.5,
    ada_target=-0.9,  # low, so that the probability rises from the first steps on
    ada_kimg=0.05,
    ema_kimg=0.02,
    ema_rampup=0.5,
    mirror=True,
    status_kimg=0.008,
    snapshot_kimg=0.024,
    state_kimg=0.008,
    kid_images=10,
)


class Features(nn.Module):
    """Stands in for LPIPS-VGG: small fixed random features."""

    def __init__(self):
        super().__init__()
        weight = torch.randn(6, 3, 3, 3, generator=torch.Generator().manual_seed(0))
        self.register_buffer("weight", weight)

    def pooled(self, images):
        return F.conv2d(images, self.weight).relu().mean(dim=(2, 3))

    def forward(self, x, y):
        return (F.conv2d(x, self.weight) - F.conv2d(y, self.weight)).square().mean(dim=(1, 2, 3))


@pytest.fixture(autouse=True)
def perceptual_at_tiny_size(monkeypatch):
    monkeypatch.setattr(train_module, "PERCEPTUAL_RESOLUTION", 16)
    for name, value in dict(BATCH=4, PERCEPTUAL_WEIGHT=0.1, PERCEPTUAL_IMAGES=2).items():
        monkeypatch.setattr(first_phase, name, value)


class Killed(Exception):
    pass


def run_training(folder, *, images, kill_after=None, changes=None, monkeypatch=None, origin=None):
    """Train in `folder`; with `kill_after`, die in the step after that many images, past the last saved state."""
    params = GeneratorParams(**(PARAMS | (changes or {})))
    for name in ("out", "work"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    run = offline_run()
    if kill_after is not None:

        def progress(done, *_):
            if done * 1000 > kill_after:
                raise Killed

        monkeypatch.setattr(run, "progress", progress)
    return train(
        params=params,
        resolution=16,
        seed=3,
        images=images,
        lpips_vgg=Features(),
        device=torch.device("cpu"),
        out=folder / "out",
        work=folder / "work",
        run=run,
        origin=origin,
    )


@pytest.fixture
def images():
    return torch.randint(0, 256, (20, 3, 16, 16), dtype=torch.uint8)


@pytest.mark.parametrize("kill_after", [12, 24, 52])
def test_resumed_run_is_the_unbroken_one_bit_for_bit(tmp_path, images, monkeypatch, kill_after):
    """Killed in the warm start, just after it, and in the adversarial phase; outputs are deleted in between."""
    generator, discriminator, code, statistics = run_training(tmp_path / "unbroken", images=images)
    assert statistics["augment_p"] > 0.3
    torch.manual_seed(123)
    with pytest.raises(Killed):
        run_training(tmp_path / "broken", images=images, kill_after=kill_after, monkeypatch=monkeypatch)
    for path in sorted((tmp_path / "broken" / "out").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    torch.manual_seed(456)
    again, critic, same_code, same_statistics = run_training(tmp_path / "broken", images=images)
    assert tensors_equal(generator.state_dict(), again.state_dict())
    assert tensors_equal(discriminator.state_dict(), critic.state_dict())
    assert tensors_equal(code.state_dict(), same_code.state_dict()) and code.components.any()
    assert statistics == same_statistics
    first, second = tmp_path / "unbroken" / "out", tmp_path / "broken" / "out"
    names = sorted(p.relative_to(first) for p in first.rglob("*") if p.is_file())
    assert names == sorted(p.relative_to(second) for p in second.rglob("*") if p.is_file())
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)


KILLED_TRAINING = """
import os, sys
from pathlib import Path

import torch
from torch.nn import functional as F

import test_generator_training as here
from editgan.runtime.tracking import Run

here.train_module.PERCEPTUAL_RESOLUTION = 16
torch.manual_seed(int(sys.argv[2]))
Run.progress = lambda run, done, *_: print(done, flush=True)
images = torch.randint(0, 256, (20, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))
generator, discriminator, _, statistics = here.run_training(Path(sys.argv[1]), images=images)
torch.save({"G": generator.state_dict(), "D": discriminator.state_dict()}, Path(sys.argv[1]) / "result.pt")
"""


def test_training_killed_by_signal_9_twice_ends_as_the_unbroken_one(tmp_path):
    """A process of its own, killed in the warm start and in the adversarial phase between two states."""

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

    kill_from(0.012, seed=2)
    kill_from(0.036, seed=3)
    for folder in ("broken", "unbroken"):
        process = start(folder, seed=1)
        said, _ = process.communicate()
        assert process.returncode == 0
        assert (float(said.split()[0]) > 0.024) == (folder == "broken"), "it went on from a state"
    results = [torch.load(tmp_path / folder / "result.pt", weights_only=True) for folder in ("broken", "unbroken")]
    assert all(tensors_equal(results[0][name], results[1][name]) for name in ("G", "D"))
    curves = [(tmp_path / folder / "out" / "stats.jsonl").read_bytes() for folder in ("broken", "unbroken")]
    assert curves[0] == curves[1]


def test_training_goes_on_uncompiled_where_there_is_no_compiler(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("no-such-compiler",))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch._dynamo.reset()
    layer = nn.Linear(2, 2)
    assert train_module.compiler(True, torch.device("cpu"))(layer) is layer
    assert "runtime.compile: torch.compile failed, training continues without it (" in capsys.readouterr().out
    assert train_module.compiler(False, torch.device("cpu"))(layer) is layer and not capsys.readouterr().out


def test_files_of_a_run(tmp_path, images):
    _, _, _, statistics = run_training(tmp_path, images=images)
    lines = [json.loads(line) for line in (tmp_path / "out" / "stats.jsonl").read_text().splitlines()]
    assert [line["kimg"] for line in lines] == [round(0.008 * k, 3) for k in range(1, 10)]
    assert [line["phase"] for line in lines] == ["warm_start"] * 3 + ["adversarial"] * 6
    assert sum("kid10_vgg16" in line for line in lines) == 3
    assert {"kid10_vgg16", "r_t", "loss/D", "loss/G", "warm_start/kid10_vgg16"} <= statistics.keys()
    assert {f"loss/anchor_{name}" for name in ("l1", "l2", "bands", "lpips")} <= statistics.keys()
    tables = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "out" / "curves").iterdir()}
    assert tables.keys() == {"warm_start", "perceptual", "adversarial", "kid", "precision_recall"}
    assert all(row.keys() == rows[0].keys() for rows in tables.values() for row in rows)
    assert len(tables["warm_start"]) == 3 and len(tables["kid"]) == 3
    pictures = {path.name for path in (tmp_path / "out" / "snapshots").iterdir()}
    assert pictures == {"reals.png", "fakes_init.png", "fakes000000.png"}


def test_training_without_warm_start(tmp_path, images):
    changes = {"warm_start": PARAMS["warm_start"] | {"kimg": ()}, "num_mapping_layers": 3, "anchor_images": 0}
    _, _, _, statistics = run_training(tmp_path, images=images, changes=changes)
    assert statistics["kimg"] == 0.048
    assert not any(name.startswith(("warm_start", "loss/anchor")) for name in statistics)


def test_w_avg_is_the_mean_of_w(tmp_path, images):
    generator, _, _, _ = run_training(tmp_path, images=images)
    w = generator.mapping(torch.randn(20000, 8))[:, 0]
    torch.testing.assert_close(generator.w_avg, w.mean(dim=0), atol=0.05, rtol=0)


def test_training_that_diverges_stops_and_names_the_last_good_state(tmp_path, images, monkeypatch):
    monkeypatch.setattr(train_module.losses, "generator_loss", lambda logits: logits.mean() * float("nan"))
    with pytest.raises(UserError, match="diverged at .*loss/G.*last good state: .*state.pt"):
        run_training(tmp_path, images=images)
    assert (tmp_path / "work" / "state.pt").exists()


def test_warm_start_reconstructs(tmp_path, monkeypatch):
    """Two colours are learned within a few hundred steps."""
    images = torch.zeros(16, 3, 16, 16, dtype=torch.uint8)
    images[::2, 0], images[1::2, 2] = 255, 255
    monkeypatch.setattr(first_phase, "PERCEPTUAL_WEIGHT", 0)
    warm = {"kimg": (0.8,)}
    run_training(
        tmp_path,
        images=images,
        changes={"warm_start": warm, "status_kimg": 0.2, "state_kimg": 0.2, "snapshot_kimg": 0.8},
    )
    lines = [json.loads(line) for line in (tmp_path / "out" / "stats.jsonl").read_text().splitlines()]
    losses = [line["loss/warm_l2"] for line in lines if line["phase"] == "warm_start"]
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 6, "mbstd_group": 4}, "batch 6 must be a multiple of mbstd_group 4"),
        ({"state_kimg": 0.012}, "state_kimg 0.012 must be a multiple of status_kimg"),
        ({"num_mapping_layers": 3}, "num_mapping_layers 3 must be even"),
        ({"anchor_images": 4}, "anchor_images 4 must be less than batch 4"),
        ({"r1_gama": 1.0}, "r1_gama"),
    ],
)
def test_inconsistent_params_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        GeneratorParams(**(PARAMS | changes))


def test_lazy_regularisation_corrects_adam():
    optimizer = lazy_adam([[nn.Parameter(torch.zeros(1))]], 16)
    group = optimizer.param_groups[0]
    assert group["lr_scale"] == 16 / 17 and group["betas"] == (0.0, 0.99 ** (16 / 17))


def test_rates_decay():
    assert [round(linear_decay(t, 0.5), 3) for t in (0, 0.5, 0.75, 1)] == [1, 1, 0.55, 0.1]
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
