"""The generator's and discriminator's fast layers against plain ones, as published: losses and gradients of a step."""

import contextlib
from collections.abc import Iterator
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import editgan.generator.generator as generator_module
import editgan.generator.layers as layers
from editgan.generator.discriminator import Discriminator
from editgan.generator.generator import Generator
from editgan.generator.losses import discriminator_loss, generator_loss, path_lengths, r1_penalty


def plain_resample(x: Tensor, *, up: int = 1, down: int = 1, padding: tuple[int, int], gain: float = 1.0) -> Tensor:
    """Zero insertion, padding (before, after), FIR filter, subsampling: four operations."""
    count, channels, height, width = x.shape
    if up > 1:
        x = F.pad(x.reshape(count, channels, height, 1, width, 1), [0, up - 1, 0, 0, 0, up - 1])
        x = x.reshape(count, channels, height * up, width * up)
    x = F.pad(x, [padding[0], padding[1], padding[0], padding[1]])
    x = F.conv2d(x, layers.fir_kernel(gain=gain, like=x), groups=channels)
    return x[:, :, ::down, ::down]


def plain_blur(x: Tensor, *, padding: int, gain: float = 1.0) -> Tensor:
    return plain_resample(x, padding=(padding, padding), gain=gain)


def plain_modulated_conv2d(
    x: Tensor, weight: Tensor, styles: Tensor, *, upsample: bool = False, demodulate: bool = True, gain: float = 1.0
) -> Tensor:
    """One kernel a sample, all samples in one grouped convolution (StyleGAN2, section 2.2)."""
    count, in_channels, height, width = x.shape
    out_channels, _, size, _ = weight.shape
    kernels = weight.unsqueeze(0) * styles[:, None, :, None, None]  # [N, O, I, k, k]
    if demodulate:
        kernels = kernels * torch.rsqrt(kernels.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8)
    x = x.reshape(1, count * in_channels, height, width)
    if upsample:
        kernels = kernels.transpose(1, 2).reshape(count * in_channels, out_channels, size, size)
        x = F.conv_transpose2d(x, kernels, stride=2, groups=count)
    else:
        kernels = kernels.reshape(count * out_channels, in_channels, size, size)
        x = F.conv2d(x, kernels, padding=size // 2, groups=count)
    x = x.reshape(count, out_channels, *x.shape[2:])
    if upsample:
        x = plain_blur(x, padding=1, gain=4.0)
    return x * gain


@contextlib.contextmanager
def plain_path() -> Iterator[None]:
    """Within it, networks that are built and run compute as published."""
    with contextlib.ExitStack() as stack:
        for module, name, replacement in (
            (layers, "fir_blur", plain_blur),
            (layers, "fir_downsample", lambda x: plain_resample(x, down=2, padding=(1, 1))),
            (generator_module, "fir_upsample", lambda x: plain_resample(x, up=2, padding=(2, 1), gain=4.0)),
            (generator_module, "modulated_conv2d", plain_modulated_conv2d),
            (torch, "channels_last", torch.contiguous_format),
        ):
            stack.enter_context(mock.patch.object(module, name, replacement))
        yield


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
    with plain_path():
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
    ours = generator_module.modulated_conv2d
    with plain_path():
        assert generator_module.modulated_conv2d is not ours
        assert torch.channels_last is torch.contiguous_format
    assert generator_module.modulated_conv2d is ours and torch.channels_last is not torch.contiguous_format
