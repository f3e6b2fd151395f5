"""Fine-tuning: training that starts from the networks of another run."""

import pytest
import torch
from tiny_generator import PARAMS, Killed, run_training

from editgan.errors import UserError
from editgan.generator.origin import origin_folder
from editgan.generator.params import GeneratorParams
from editgan.weights import load_tensors, save_module, sha256, tensors_equal


@pytest.fixture
def other(tmp_path):
    """The files of another run, in outputs/generator."""
    networks, _ = run_training(tmp_path / "other")
    folder = tmp_path / "outputs" / "generator"
    for name, network in (("G_ema", networks.G_ema), ("D", networks.D)):
        save_module(folder / f"{name}.safetensors", network, network.config)
    return folder


def found(root, folder, **changes):
    given = dict(start_from="outputs/generator", start_from_sha256=sha256(folder / "G_ema.safetensors"))
    return origin_folder(GeneratorParams(**(PARAMS | given | changes)), root)


def test_training_starts_with_the_networks_of_the_other_run_and_resumes(tmp_path, other, monkeypatch):
    assert found(tmp_path, other) == other
    still, _ = run_training(tmp_path / "still", changes=dict(g_lr=1e-12, d_lr=1e-12), origin=other)
    for name, network in (("G_ema", still.G), ("D", still.D)):
        kept, _ = load_tensors(other / f"{name}.safetensors")
        for key, tensor in network.state_dict().items():
            torch.testing.assert_close(tensor, kept[key].float(), atol=1e-5, rtol=0, msg=key)

    whole, _ = run_training(tmp_path / "whole", origin=other)
    assert not tensors_equal(whole.G.state_dict(), still.G.state_dict())
    with pytest.raises(Killed):
        run_training(tmp_path / "cut", origin=other, kill_after=40, monkeypatch=monkeypatch)
    resumed, _ = run_training(tmp_path / "cut", origin=other)
    assert tensors_equal(resumed.G.state_dict(), whole.G.state_dict())


def test_origin_that_is_missing_changed_or_of_other_sizes_is_named(tmp_path, other):
    with pytest.raises(UserError, match="start_from_sha256 is 0000"):
        found(tmp_path, other, start_from_sha256="0" * 64)
    with pytest.raises(UserError, match="start_from nowhere: .*G_ema.safetensors is missing"):
        found(tmp_path, other, start_from="nowhere")
    with pytest.raises(UserError, match="G_ema.safetensors: was trained with channel_base 64, but params have 32"):
        run_training(tmp_path / "small", changes=dict(channel_base=32), origin=other)
    with pytest.raises(UserError, match="D.safetensors: was trained with channel_base 64, but params have 128"):
        run_training(tmp_path / "wide", changes=dict(d_channel_base=128), origin=other)
    with pytest.raises(UserError, match="D.safetensors: contains 'PixelDiscriminator', expected 'Discriminator'"):
        run_training(tmp_path / "kind", changes=dict(discriminator="stylegan2"), origin=other)
