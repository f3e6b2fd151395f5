"""StyleGAN2 in plain operations: grouped convolutions, zero insertion, explicit filters. Uses nothing of `editgan`.

The weights are read through a function, so that every format is computed from its own names.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

TAPS = torch.outer(torch.tensor([1.0, 3.0, 3.0, 1.0]), torch.tensor([1.0, 3.0, 3.0, 1.0])) / 64


def filtered(x: Tensor, pad: tuple[int, int], gain: float) -> Tensor:
    """Low-pass filter with padding before and after."""
    count, channels = x.shape[:2]
    x = F.pad(x, (*pad, *pad)).reshape(count * channels, 1, *(side + sum(pad) for side in x.shape[2:]))
    return F.conv2d(x, TAPS[None, None] * gain).reshape(count, channels, x.shape[2] - 3, x.shape[3] - 3)


def doubled(x: Tensor) -> Tensor:
    """Zeros between the pixels: [N, C, H, W] -> [N, C, 2H, 2W]."""
    out = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    out[:, :, ::2, ::2] = x
    return out


def modulated(x: Tensor, kernel: Tensor, style: Tensor, *, up: bool, demodulate: bool) -> Tensor:
    """One kernel a sample, as a grouped convolution; kernel [out, in, k, k] as a correlation, style [N, in]."""
    count, size = len(x), kernel.shape[-1]
    kernels = kernel[None] * style[:, None, :, None, None]  # [N, out, in, k, k]
    if demodulate:
        kernels = kernels * (kernels.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    if up:  # a transposed convolution: zero insertion, then a correlation with the flipped kernel
        x = F.pad(doubled(x)[:, :, :-1, :-1], (2, 2, 2, 2))
        kernels, pad = kernels.flip(3, 4), 0
    else:
        pad = size // 2
    x = F.conv2d(x.reshape(1, -1, *x.shape[2:]), kernels.flatten(0, 1), padding=pad, groups=count)
    x = x.reshape(count, -1, *x.shape[2:])
    return filtered(x, (1, 1), 4.0) if up else x


def limited(x: Tensor, clamp: float | None) -> Tensor:
    return x if clamp is None else x.clamp(-clamp, clamp)


class Reference:
    """G of a file: `get(place, name)` returns its weights with kernels [out, in, h, w] and dense weights [out, in]."""

    def __init__(self, get: Callable[[str, str], Tensor], side: int, layers: int, clamp: float | None = None) -> None:
        self.get, self.side, self.layers, self.clamp = get, side, layers, clamp

    def w(self, z: Tensor, psi: float = 1.0) -> Tensor:
        x = z / (z.square().mean(1, keepdim=True) + 1e-8).sqrt()
        for index in range(self.layers):
            weight, bias = self.get(f"fc{index}", "weight") * 0.01, self.get(f"fc{index}", "bias") * 0.01
            x = F.leaky_relu(x @ weight.T / math.sqrt(weight.shape[1]) + bias, 0.2) * math.sqrt(2)
        average = self.get("mapping", "w_avg")
        return average + psi * (x - average)

    def style(self, place: str, w: Tensor) -> Tensor:
        weight = self.get(place, "mod_weight")
        return w @ weight.T / math.sqrt(weight.shape[1]) + self.get(place, "mod_bias")

    def image(self, ws: Tensor, noise: bool = True) -> tuple[Tensor, list[Tensor]]:
        """Image and features of ws [N, rows, w_dim]."""
        x = self.get("b4", "const")[None].repeat(len(ws), 1, 1, 1)
        image, row, maps = None, 0, [x]
        for side in (2**k for k in range(2, self.side.bit_length())):
            for layer in ("conv1",) if side == 4 else ("conv0", "conv1"):
                place = f"b{side}.{layer}"
                style, kernel = self.style(place, ws[:, row]), self.get(place, "weight")
                x = modulated(x, kernel, style, up=layer == "conv0", demodulate=True)
                if noise:
                    x = x + self.get(place, "noise_const") * self.get(place, "noise_strength")
                x = F.leaky_relu(x + self.get(place, "bias")[:, None, None], 0.2) * math.sqrt(2)
                x, row = limited(x, self.clamp), row + 1
                maps.append(x)
            place = f"b{side}.torgb"
            kernel = self.get(place, "weight")
            style = self.style(place, ws[:, row]) / math.sqrt(kernel.shape[1])
            rgb = modulated(x, kernel, style, up=False, demodulate=False)
            rgb = limited(rgb + self.get(place, "bias")[:, None, None], self.clamp)
            image = rgb if image is None else filtered(doubled(image), (2, 1), 4.0) + rgb
        return image, maps


def reference_logits(
    get: Callable[[str, str], Tensor], side: int, images: Tensor, *, group: int | None, clamp: float | None = None
) -> Tensor:
    """D of a file, by the same kind of access."""

    def convolved(place: str, x: Tensor, *, down: bool = False, activate: bool = True) -> Tensor:
        kernel = get(place, "weight")
        kernel = kernel / math.sqrt(kernel[0].numel())
        size = kernel.shape[-1]
        if down:
            x = filtered(x, (2, 2) if size == 3 else (1, 1), 1.0)
            x = F.conv2d(x, kernel)[:, :, ::2, ::2]
        else:
            x = F.conv2d(x, kernel, padding=size // 2)
        if not activate:
            return x
        return limited(F.leaky_relu(x + get(place, "bias")[:, None, None], 0.2) * math.sqrt(2), clamp)

    def dense(place: str, x: Tensor) -> Tensor:
        weight = get(place, "weight")
        return x @ weight.T / math.sqrt(weight.shape[1]) + get(place, "bias")

    x = convolved(f"b{side}.fromrgb", images)
    while side > 4:
        y = convolved(f"b{side}.conv1", convolved(f"b{side}.conv0", x), down=True)
        x = (convolved(f"b{side}.skip", x, down=True, activate=False) + y) / math.sqrt(2)
        side //= 2
    count = len(x)
    size = count if group is None else min(group, count)
    spread = torch.zeros(count)
    for first in range(count // size):  # sample n belongs to group n mod (N / size)
        members = list(range(first, count, count // size))
        spread[members] = (x[members].var(0, unbiased=False) + 1e-8).sqrt().mean()
    x = torch.cat([x, spread[:, None, None, None].expand(-1, 1, 4, 4)], 1)
    x = convolved("b4.conv", x).flatten(1)
    return dense("b4.out", F.leaky_relu(dense("b4.fc", x), 0.2) * math.sqrt(2))
