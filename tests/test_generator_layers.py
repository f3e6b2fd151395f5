"""Resampling against scipy, modulated convolution against per-sample weights, gradients of both."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.signal import upfirdn

from editgan.generator.layers import (
    FIR_TAPS,
    EqualizedConv2d,
    EqualizedLinear,
    fir_blur,
    fir_downsample,
    fir_upsample,
    modulated_conv2d,
)

TAPS = np.array(FIR_TAPS) / sum(FIR_TAPS)


def scipy_resample(x, *, up=1, down=1, before, after, gain=1.0):
    """Zero insertion, zero padding, FIR filter, decimation along both image axes, by scipy."""
    y = x.numpy()
    for axis in (2, 3):
        inserted = upfirdn([1.0], y, up=up, axis=axis)
        missing = y.shape[axis] * up - inserted.shape[axis]  # scipy drops the zeros after the last sample
        padding = [(0, 0)] * 4
        padding[axis] = (before, after + missing)
        filtered = upfirdn(TAPS, np.pad(inserted, padding), axis=axis)
        valid = [slice(None)] * 4
        valid[axis] = slice(3, filtered.shape[axis] - 3, down)
        y = filtered[tuple(valid)]
    return torch.from_numpy(y * gain)


@pytest.mark.parametrize("size", [4, 7, 16])
def test_resampling_is_that_of_scipy(size):
    x = torch.randn(2, 3, size, size, dtype=torch.float64)
    torch.testing.assert_close(fir_upsample(x), scipy_resample(x, up=2, before=2, after=1, gain=4.0))
    torch.testing.assert_close(fir_blur(x, padding=2), scipy_resample(x, before=2, after=2))
    if size % 2 == 0:
        torch.testing.assert_close(fir_downsample(x), scipy_resample(x, down=2, before=1, after=1))


def test_upsampling_keeps_a_constant_and_downsampling_takes_it_back():
    x = torch.full((1, 1, 8, 8), 3.0)
    y = fir_upsample(x)
    assert y.shape == (1, 1, 16, 16)
    torch.testing.assert_close(y[:, :, 2:-2, 2:-2], torch.full((1, 1, 12, 12), 3.0))
    torch.testing.assert_close(fir_downsample(y)[:, :, 2:-2, 2:-2], x[:, :, 2:-2, 2:-2])


def grouped_reference(x, weight, styles, *, upsample, demodulate):
    """The paper's formula in float64: one set of weights a sample, as one grouped convolution."""
    x, weight, styles = x.double(), weight.double(), styles.double()
    count, channels, height, width = x.shape
    w = weight[None] * styles[:, None, :, None, None]  # [N, O, I, k, k]
    if demodulate:
        w = w / (w.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8).sqrt()
    if not upsample:
        grouped = x.reshape(1, count * channels, height, width)
        y = F.conv2d(grouped, w.flatten(0, 1), padding=weight.shape[-1] // 2, groups=count)
        return y.reshape(count, -1, height, width)
    kernels = w.transpose(1, 2).flatten(0, 1)  # [N * I, O, k, k]
    y = F.conv_transpose2d(x.reshape(1, count * channels, height, width), kernels, stride=2, groups=count)
    y = y.reshape(count, -1, 2 * height + 1, 2 * width + 1)
    return scipy_resample(y.detach(), before=1, after=1, gain=4.0)


@pytest.mark.parametrize(("kernel", "upsample"), [(1, False), (3, False), (3, True)])
@pytest.mark.parametrize("demodulate", [False, True])
def test_modulated_convolution_is_the_grouped_one(kernel, upsample, demodulate):
    x, weight = torch.randn(3, 5, 8, 8), torch.randn(6, 5, kernel, kernel)
    styles = torch.randn(3, 5) + 1
    ours = modulated_conv2d(x, weight, styles, upsample=upsample, demodulate=demodulate)
    reference = grouped_reference(x, weight, styles, upsample=upsample, demodulate=demodulate)
    torch.testing.assert_close(ours.double(), reference, rtol=1e-4, atol=1e-4)


def test_gradients_of_modulated_convolution_are_those_of_the_grouped_one():
    def gradients(function):
        torch.manual_seed(0)
        x, weight, styles = (torch.randn(*s, dtype=torch.float64) for s in ((2, 3, 6, 6), (4, 3, 3, 3), (2, 3)))
        inputs = [t.requires_grad_(True) for t in (x, weight, styles)]
        return torch.autograd.grad(function(*inputs).sin().sum(), inputs)

    ours = gradients(lambda x, w, s: modulated_conv2d(x, w, s))
    reference = gradients(lambda x, w, s: grouped_reference(x, w, s, upsample=False, demodulate=True))
    for a, b in zip(ours, reference, strict=True):
        torch.testing.assert_close(a, b)


def test_modulated_convolution_can_be_differentiated_twice():
    x, weight = torch.randn(2, 2, 4, 4, dtype=torch.float64), torch.randn(3, 2, 3, 3, dtype=torch.float64)
    styles = (torch.rand(2, 2, dtype=torch.float64) + 0.5).requires_grad_(True)
    assert torch.autograd.gradgradcheck(lambda s: modulated_conv2d(x, weight, s, upsample=True), (styles,))


def test_demodulated_output_has_unit_variance_whatever_the_styles():
    torch.manual_seed(0)
    x, weight = torch.randn(4, 64, 32, 32), torch.randn(64, 64, 3, 3)
    y = modulated_conv2d(x, weight, torch.rand(4, 64) * 30 + 0.1)
    assert abs(float(y[:, :, 1:-1, 1:-1].std()) - 1) < 0.02


def test_equalised_layers_scale_at_run_time():
    linear = EqualizedLinear(9, 4, lrelu=True, lr_multiplier=0.01, bias_init=0.5)
    x = torch.randn(5, 9)
    plain = F.linear(x, linear.weight * 0.01 / 3, linear.bias * 0.01)
    torch.testing.assert_close(linear(x), F.leaky_relu(plain, 0.2) * math.sqrt(2))
    conv = EqualizedConv2d(4, 6, 3)
    with torch.no_grad():
        conv.bias.normal_()
    image = torch.randn(2, 4, 8, 8)
    plain = F.conv2d(image, conv.weight / 6, conv.bias, padding=1)
    torch.testing.assert_close(conv(image), F.leaky_relu(plain, 0.2) * math.sqrt(2))


@pytest.mark.parametrize("kernel", [1, 3])
def test_downsampling_convolution_filters_first(kernel):
    conv = EqualizedConv2d(3, 5, kernel, down=True, lrelu=False).double()
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    pad = 2 if kernel == 3 else 1
    blurred = scipy_resample(x, before=pad, after=pad)
    expected = F.conv2d(blurred, conv.weight * conv.weight_gain, conv.bias, stride=2)
    torch.testing.assert_close(conv(x), expected)
