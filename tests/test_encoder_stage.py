"""Stage `encoder` as a whole on tiny archives: what it leaves behind, and that it goes on after a kill."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_encoder import TINY, StandInLpips, tiny_generator
from training_runs import INTERVALS, digests

from editgan.data.archive import encode_image, write_archive
from editgan.encoder import stage
from editgan.encoder import train as training
from editgan.encoder.encoder import load_encoder, load_latents
from editgan.encoder.params import EncoderParams
from editgan.errors import UserError
from editgan.generator.generator import load_generator
from editgan.images import to_float
from editgan.runtime.stage import StageContext
from editgan.runtime.tracking import offline_run
from editgan.weights import save_module

COUNTS = {"train": 24, "pool": 6, "val": 6, "test": 5}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A function that makes a context over one set of inputs, with stand-ins for the pretrained networks."""
    monkeypatch.setattr(stage, "load_lpips", lambda folder, device: StandInLpips())
    monkeypatch.setattr(training, "INTERVALS", INTERVALS)
    monkeypatch.setattr(stage, "INVERSION_BATCH", 4)
    G = tiny_generator()
    (tmp_path / "outputs/data").mkdir(parents=True)
    save_module(tmp_path / "outputs/generator/G_ema.safetensors", G, G.config)
    random = np.random.default_rng(0)
    for split, count in COUNTS.items():
        pictures = random.integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)
        write_archive(tmp_path / f"outputs/data/{split}.zip", images=[encode_image(p) for p in pictures])

    def context(attempt: str, resolution: int = 16) -> StageContext:
        params = SimpleNamespace(
            seed=0, resolution=resolution, encoder=EncoderParams(**TINY), data=SimpleNamespace(few_shot=3)
        )
        out, work = tmp_path / attempt / "out", tmp_path / attempt / "work"
        out.mkdir(parents=True, exist_ok=True)
        work.mkdir(parents=True, exist_ok=True)
        return StageContext("encoder", params, tmp_path, out, work, offline_run(), torch.device("cpu"))

    return context


def test_outputs_and_resume(project, monkeypatch):
    whole = project("whole")
    stage.run(whole)
    names = ["E.safetensors", "curves", "latents.safetensors", "metrics.json", "reconstructions.png", "stats.jsonl"]
    assert sorted(path.name for path in whole.out.iterdir()) == names

    E, latents = load_encoder(whole.out / "E.safetensors"), load_latents(whole.out / "latents.safetensors")
    assert {name: tuple(w.shape) for name, w in latents.items()} == {
        "few_shot": (3, 6, 16), "val": (4, 6, 16), "val_encoder": (4, 6, 16), "test": (5, 6, 16)
    }  # fmt: skip
    metrics = json.loads((whole.out / "metrics.json").read_text())
    assert set(metrics) == {"encoder", "encoder_2_steps", "parameters_E"}
    assert set(metrics["encoder"]) == {"lpips_vgg_val4", "l2_val4"}
    val = to_float(stage.load_split(whole.root / "outputs/data/val.zip", 4))
    with torch.no_grad():
        G = load_generator(whole.root / "outputs/generator/G_ema.safetensors")
        assert (E(val) - latents["val_encoder"]).abs().max() < 2e-3 * latents["val_encoder"].abs().max(), "of E's file"
        fakes = G.synthesis(latents["val_encoder"]).clamp(-1, 1)
    l2 = F.mse_loss(fakes, val).item()
    assert metrics["encoder"]["l2_val4"] == pytest.approx(l2, abs=1e-5), "measured on what the file holds"

    real = json.loads((whole.out / "curves/real.json").read_text())
    assert list(real[0]) == ["kimg", "real_l2", "real_lpips"] and real[-1]["kimg"] == TINY["kimg"]

    # A second attempt dies in the middle of the embedding; the third goes on and leaves the same bytes.
    invert, calls = stage.invert, []

    def dying(*arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return invert(*arguments, **options)

    resumed = project("resumed")
    monkeypatch.setattr(stage, "invert", dying)
    with pytest.raises(KeyboardInterrupt):
        stage.run(resumed)
    stage.run(resumed)
    assert len(calls) == 5  # few-shot 1, val 1, test 2, and the one that died
    assert digests(resumed.out) == digests(whole.out)


def test_a_generator_of_another_size_is_named(project):
    with pytest.raises(UserError, match="resolution 32: the generator produces 16 px"):
        stage.run(project("whole", resolution=32))
