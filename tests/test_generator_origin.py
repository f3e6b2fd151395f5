"""Fine-tuning: training that goes on from the networks of another run."""

import pytest
import torch
from test_generator_training import PARAMS, Killed, images, perceptual_at_tiny_size, run_training  # noqa: F401

from editgan.errors import UserError
from editgan.generator.origin import load_origin
from editgan.generator.params import GeneratorParams
from editgan.generator.principal_components import load_code
from editgan.weights import save_module, sha256, tensors_equal

ON = dict(warm_start=PARAMS["warm_start"] | {"kimg": ()}, kimg=0.016)


@pytest.fixture
def other(tmp_path, images):  # noqa: F811
    """The files of another run, in outputs/generator."""
    generator, discriminator, code, _ = run_training(tmp_path / "other", images=images)
    folder = tmp_path / "outputs" / "generator"
    for name, network in (("G_ema", generator), ("D", discriminator), ("code", code)):
        save_module(folder / f"{name}.safetensors", network, network.config)
    return folder


def loaded(root, folder, **changes):
    given = dict(start_from="outputs/generator", start_from_sha256=sha256(folder / "G_ema.safetensors"))
    return load_origin(GeneratorParams(**(PARAMS | ON | given | changes)), 16, root)


def test_training_begins_with_the_networks_of_the_other_run(tmp_path, images, other, monkeypatch):  # noqa: F811
    origin = loaded(tmp_path, other)
    still = ON | dict(g_lr=1e-12, d_lr=1e-12, start_from="x", start_from_sha256="0" * 64)
    generator, discriminator, code, _ = run_training(tmp_path / "still", images=images, changes=still, origin=origin)
    for name, tensor in generator.state_dict().items():
        assert torch.allclose(tensor, origin.generator.state_dict()[name], atol=1e-4), name
    for name, tensor in discriminator.state_dict().items():
        assert torch.allclose(tensor, origin.discriminator.state_dict()[name], atol=1e-6), name
    assert tensors_equal(code.state_dict(), origin.code.state_dict())

    on = ON | dict(start_from="x", start_from_sha256="0" * 64)
    whole, *_ = run_training(tmp_path / "whole", images=images, changes=on, origin=origin)
    assert not tensors_equal(whole.state_dict(), generator.state_dict())
    with pytest.raises(Killed):
        run_training(tmp_path / "cut", images=images, changes=on, origin=origin, kill_after=8, monkeypatch=monkeypatch)
    resumed, *_ = run_training(tmp_path / "cut", images=images, changes=on, origin=origin)
    assert tensors_equal(resumed.state_dict(), whole.state_dict())


def test_warm_start_goes_on_with_the_code_of_the_other_run(tmp_path, images, other, monkeypatch):  # noqa: F811
    origin = loaded(tmp_path, other)
    on = dict(warm_start=PARAMS["warm_start"] | {"kimg": (0.016,)}, start_from="x", start_from_sha256="0" * 64)
    others = 255 - images  # what the other run has not seen
    whole, _, code, _ = run_training(tmp_path / "whole", images=others, changes=on, origin=origin)
    assert tensors_equal(code.state_dict(), origin.code.state_dict())
    with pytest.raises(Killed):
        run_training(tmp_path / "cut", images=others, changes=on, origin=origin, kill_after=3, monkeypatch=monkeypatch)
    resumed, *_ = run_training(tmp_path / "cut", images=others, changes=on, origin=origin)
    assert tensors_equal(resumed.state_dict(), whole.state_dict())


def test_origin_that_is_not_there_changed_or_of_other_sizes_is_named(tmp_path, other):
    with pytest.raises(UserError, match="start_from_sha256 is 0000"):
        loaded(tmp_path, other, start_from_sha256="0" * 64)
    with pytest.raises(UserError, match="start_from nowhere: .*G_ema.safetensors is missing"):
        loaded(tmp_path, other, start_from="nowhere")
    with pytest.raises(UserError, match="was trained with channel_base 64, but params have 32"):
        loaded(tmp_path, other, channel_base=32)
    code = load_code(other / "code.safetensors")
    code.components.zero_()
    save_module(other / "code.safetensors", code, code.config)
    with pytest.raises(UserError, match="had no warm start.*anchor_images to 0"):
        loaded(tmp_path, other, anchor_images=1)
    with pytest.raises(UserError, match="D.safetensors: was trained with channel_base 64, but params have 128"):
        loaded(tmp_path, other, d_channel_base=128)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start_from": "x", "start_from_sha256": "0" * 64}, "already has the full resolution"),
        ({"warm_start": ON["warm_start"], "start_from": "x", "anchor_images": 0}, "set both start_from"),
        ({"warm_start": ON["warm_start"], "start_from": "x", "start_from_sha256": "abc"}, "start_from_sha256"),
    ],
)
def test_inconsistent_params_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        GeneratorParams(**(PARAMS | changes))
