"""The training step's networks against the plain path of benchmarks/plain_path.py: losses and gradients."""

import contextlib
import importlib.util

import pytest
import torch

from editgan.generator.discriminator import Discriminator
from editgan.generator.generator import Generator
from editgan.generator.losses import discriminator_loss, generator_loss, path_lengths, r1_penalty
from editgan.runtime.environment import PROJECT_ROOT

SPEC = importlib.util.spec_from_file_location("plain_path", PROJECT_ROOT / "benchmarks" / "plain_path.py")
plain_path_script = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(plain_path_script)


def losses_and_gradients(precision: torch.dtype = torch.float32) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """Every loss of a step, and the gradient of its sum; what training runs in mixed precision runs in `precision`."""
    torch.manual_seed(0)
    generator = Generator(
        z_dim=16, w_dim=16, img_resolution=32, channel_base=256, channel_max=24, num_mapping_layers=2
    ).to(memory_format=torch.channels_last)  # fmt: skip
    discriminator = Discriminator(img_resolution=32, channel_base=256, channel_max=24)
    ws = generator.mapping(torch.randn(4, 16))
    real = torch.rand(4, 3, 32, 32) * 2 - 1
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == torch.bfloat16):
        fake = generator.synthesis(ws, noise_mode="const")
        logits, real_logits = discriminator(fake), discriminator(real)
    losses = {
        "G": generator_loss(logits),
        "D": discriminator_loss(real_logits, logits),
        "R1": r1_penalty(discriminator, real),
        "path length": path_lengths(generator, ws).mean(),
    }
    sum(losses.values()).backward()
    gradients = {
        f"{network}.{name}": parameter.grad
        for network, module in (("G", generator), ("D", discriminator))
        for name, parameter in module.named_parameters()
        if parameter.grad is not None
    }
    return {name: loss.item() for name, loss in losses.items()}, gradients


def test_losses_and_gradients_are_those_of_the_plain_path():
    losses, gradients = losses_and_gradients()
    with plain_path_script.plain_path():
        plain_losses, plain_gradients = losses_and_gradients()
    assert losses == pytest.approx(plain_losses, rel=1e-4)
    assert gradients.keys() == plain_gradients.keys() and len(gradients) > 50
    for name, gradient in gradients.items():
        plain = plain_gradients[name]
        assert (gradient - plain).norm() <= 1e-3 * plain.norm() + 1e-6, name


def test_losses_and_gradients_in_bfloat16_are_near_those_in_float32():
    """bfloat16 keeps 8 bits: one rounding is off by up to 0.4 %, a chain of a dozen layers by a few percent."""
    losses, gradients = losses_and_gradients(torch.bfloat16)
    exact_losses, exact_gradients = losses_and_gradients()
    assert losses == pytest.approx(exact_losses, rel=0.02) and losses["G"] != exact_losses["G"]
    assert losses["R1"] == exact_losses["R1"], "what is differentiated twice stays in float32"
    assert gradients.keys() == exact_gradients.keys()
    off = {name: (gradient - exact_gradients[name]).norm() for name, gradient in gradients.items()}
    size = {name: gradient.norm() for name, gradient in exact_gradients.items()}
    assert 1e-4 < torch.stack([*off.values()]).norm() / torch.stack([*size.values()]).norm() < 0.05
    assert all(off[name] < 0.15 * size[name] + 1e-6 for name in off), {name: off[name] / size[name] for name in off}


def test_plain_path_is_another_path():
    """Both sides of the comparison differ in what they call, or it would compare a thing with itself."""
    from editgan.generator import generator as generator_module

    ours = generator_module.modulated_conv2d
    with plain_path_script.plain_path():
        assert generator_module.modulated_conv2d is not ours
        assert torch.channels_last is torch.contiguous_format
    assert generator_module.modulated_conv2d is ours and torch.channels_last is not torch.contiguous_format


@pytest.mark.parametrize("upsample", [False, True])
@pytest.mark.parametrize("path", ["plain", "editgan"])
def test_arithmetic_of_a_modulated_convolution_and_of_its_gradients(path, upsample):
    """2 x 8 samples x 16x16 places x 6 x 5 channels x 9 taps, and each of the two gradients as much again."""
    from editgan.generator import generator as generator_module

    x = torch.randn(8, 5, 16, 16, requires_grad=True)
    weight, styles = torch.randn(6, 5, 3, 3, requires_grad=True), torch.rand(8, 5)
    with plain_path_script.plain_path() if path == "plain" else contextlib.nullcontext():
        with plain_path_script.FlopCounter() as counter:
            out = generator_module.modulated_conv2d(x, weight, styles, upsample=upsample, demodulate=False)
            forward = counter.total
            out.sum().backward()
    once = 2 * 8 * 16 * 16 * 6 * 5 * 9
    filters = 16 * 8 * 6 * 32 * 32 * 2 if upsample else 0  # the FIR after it, at most: a depthwise convolution
    assert once <= forward <= once + filters
    assert 2 * once <= counter.total - forward <= 2 * once + 2 * filters
