"""Layers of StyleGAN2's networks: FIR resampling, equalised layers, modulated convolution.

Karras et al., "Analyzing and Improving the Image Quality of StyleGAN" (CVPR 2020); constants not given there are from
Karras et al., "Training Generative Adversarial Networks with Limited Data" (NeurIPS 2020). Only plain torch operations
are used, and all of them are twice differentiable.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FIR_TAPS = (1.0, 3.0, 3.0, 1.0)  # StyleGAN2's low-pass filter; normalised in `fir_kernel`
LRELU_SLOPE = 0.2
LRELU_GAIN = math.sqrt(2)  # keeps the second moment of a unit-variance input


def fir_kernel(*, gain: float, like: Tensor) -> Tensor:
    """The outer product of the normalised taps, times `gain`, one copy per channel of `like`.  # [C, 1, 4, 4]"""
    taps = torch.tensor(FIR_TAPS, dtype=like.dtype, device=like.device) / sum(FIR_TAPS)
    return (torch.outer(taps, taps) * gain).expand(like.shape[1], 1, 4, 4).contiguous()


def fir_blur(x: Tensor, *, padding: int, gain: float = 1.0) -> Tensor:
    """Low-pass filter with zero padding: [N, C, H, W] -> [N, C, H + 2 * padding - 3, W + 2 * padding - 3]."""
    return F.conv2d(x, fir_kernel(gain=gain, like=x), padding=padding, groups=x.shape[1])


def fir_upsample(x: Tensor) -> Tensor:
    """Zero insertion, then the low-pass filter with gain 4: [N, C, H, W] -> [N, C, 2H, 2W]."""
    return F.conv_transpose2d(x, fir_kernel(gain=4.0, like=x), stride=2, padding=1, groups=x.shape[1])


def fir_downsample(x: Tensor) -> Tensor:
    """The low-pass filter, then every second pixel: [N, C, H, W] -> [N, C, H/2, W/2]."""
    return F.conv2d(x, fir_kernel(gain=1.0, like=x), stride=2, padding=1, groups=x.shape[1])


def modulated_conv2d(
    x: Tensor,  # [N, I, H, W]
    weight: Tensor,  # [O, I, k, k], shared by all samples
    styles: Tensor,  # [N, I], factors of the input channels
    *,
    upsample: bool = False,
    demodulate: bool = True,
    gain: float = 1.0,  # factor of the output
) -> Tensor:
    """Convolution with per-sample weights w'_oikk = s_i w_oikk, demodulated (StyleGAN2, equations 1 and 3).

    Convolution is linear in its input channels. So the styles scale the activations before a convolution shared by
    all samples, and the demodulation scales them afterwards. This equals the grouped convolution with per-sample
    weights and is several times faster on a CPU.

    Returns:
        [N, O, H, W], or [N, O, 2H, 2W] with `upsample` (transposed convolution, then the FIR filter).
    """
    x = x * styles[:, :, None, None].to(x.dtype)  # [N, I, H, W]
    if upsample:
        x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)  # [N, O, 2H + 1, 2W + 1]
        x = fir_blur(x, padding=1, gain=4.0)  # [N, O, 2H, 2W]
    else:
        x = F.conv2d(x, weight, padding=weight.shape[-1] // 2)  # [N, O, H, W]
    if demodulate:
        scale = demodulation(weight, styles) * gain  # [N, O]
        return x * scale[:, :, None, None].to(x.dtype)
    return x if gain == 1.0 else x * gain


def demodulation(weight: Tensor, styles: Tensor) -> Tensor:
    """1 / sqrt(sum_ikk (s_i w_oikk)^2 + 1e-8) (StyleGAN2, equation 3).  # [N, O]"""
    with torch.autocast(weight.device.type, enabled=False):
        energy = weight.square().sum(dim=(2, 3))  # [O, I]
        return torch.rsqrt(styles.square() @ energy.t() + 1e-8)  # [N, O]


class EqualizedLinear(nn.Module):
    """Fully connected layer with equalised learning rate: [N, in] -> [N, out].

    Weights are stored as N(0, 1) / lr_multiplier and multiplied by lr_multiplier / sqrt(in) when used. With `lrelu` the
    output is leaky-ReLU(0.2) * sqrt(2). Computed in full precision under any autocast, because these layers produce
    latents and styles.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        lrelu: bool = False,
        lr_multiplier: float = 1.0,
        bias_init: float = 0.0,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((out_features,), bias_init))
        self.lrelu = lrelu
        self.weight_gain = lr_multiplier / math.sqrt(in_features)
        self.bias_gain = lr_multiplier

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            x = F.linear(x.to(self.weight.dtype), self.weight * self.weight_gain, self.bias * self.bias_gain)
        return F.leaky_relu(x, LRELU_SLOPE) * LRELU_GAIN if self.lrelu else x


class EqualizedConv2d(nn.Module):
    """Convolution with equalised learning rate: [N, in, H, W] -> [N, out, H, W], or half the size with `down`.

    `down` filters with the FIR taps first. With `lrelu` the output is leaky-ReLU(0.2) * sqrt(2). Leaky ReLU is
    positively homogeneous, so this gain is applied to the weights, at no cost.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        down: bool = False,
        lrelu: bool = True,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.down = down
        self.lrelu = lrelu
        self.gain = LRELU_GAIN if lrelu else 1.0
        self.weight_gain = self.gain / math.sqrt(in_channels * kernel_size**2)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight * self.weight_gain
        bias = None if self.bias is None else self.bias * self.gain
        if not self.down:
            x = F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)
        elif weight.shape[-1] == 1:
            x = F.conv2d(fir_downsample(x), weight, bias)
        else:
            x = F.conv2d(fir_blur(x, padding=2), weight, bias, stride=2)
        return F.leaky_relu(x, LRELU_SLOPE) if self.lrelu else x
