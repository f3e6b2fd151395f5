"""The StyleGAN2 generator: mapping z -> w, synthesis W+ -> image, with skip connections to RGB.

Karras et al., CVPR 2020 (architecture E of table 1) with the constants of stylegan2-ada-pytorch. Parameters and buffers
have the names and shapes of that release, except for its `resample_filter` buffers, which are constants here.
`editgan.generator.foreign` reads the files of that release.
"""

import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from editgan.generator.layers import (
    LRELU_GAIN,
    LRELU_SLOPE,
    EqualizedLinear,
    fir_upsample,
    modulated_conv2d,
)
from editgan.images import to_uint8
from editgan.weights import load_module

TRUNCATION_PSI = 0.7  # of samples for display and for training other networks, as in the released code
NOISE_MODES = ("const", "random", "none")


def channels_at(resolution: int, channel_base: int, channel_max: int) -> int:
    """Channels of the feature maps at a resolution: min(channel_base / resolution, channel_max)."""
    return min(channel_base // resolution, channel_max)


def resolutions_of(img_resolution: int) -> list[int]:
    """4, 8, ... img_resolution.

    Raises:
        ValueError: img_resolution is not a power of two >= 8.
    """
    if img_resolution < 8 or img_resolution & (img_resolution - 1):
        raise ValueError(f"img_resolution must be a power of two of at least 8, got {img_resolution}")
    return [2**k for k in range(2, img_resolution.bit_length())]


def clamped(x: Tensor, limit: float | None) -> Tensor:
    """x limited to [-limit, limit]; None: x."""
    return x if limit is None else x.clamp(-limit, limit)


def normalize_2nd_moment(x: Tensor) -> Tensor:
    """x / sqrt(mean(x^2) + 1e-8) over the last dimension."""
    return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + 1e-8)


class Mapping(nn.Module):
    """z [N, z_dim] ~ N(0, 1) -> ws [N, num_ws, w_dim]: normalisation, then fully connected layers.

    The buffer `w_avg` [w_dim] is the mean of w; `truncation_psi` moves every w towards it.
    """

    def __init__(self, *, z_dim: int, w_dim: int, num_ws: int, num_layers: int, lr_multiplier: float = 0.01) -> None:
        super().__init__()
        self.num_ws = num_ws
        self.num_layers = num_layers
        for index in range(num_layers):
            width = z_dim if index == 0 else w_dim
            setattr(self, f"fc{index}", EqualizedLinear(width, w_dim, lrelu=True, lr_multiplier=lr_multiplier))
        self.register_buffer("w_avg", torch.zeros(w_dim))

    @property
    def layers(self) -> list[EqualizedLinear]:
        return [getattr(self, f"fc{index}") for index in range(self.num_layers)]

    def forward(self, z: Tensor, truncation_psi: float = 1.0) -> Tensor:
        x = normalize_2nd_moment(z.to(self.w_avg.dtype))  # [N, z_dim]
        for layer in self.layers:
            x = layer(x)  # [N, w_dim]
        if truncation_psi != 1.0:
            x = self.w_avg.lerp(x, truncation_psi)
        return x.unsqueeze(1).repeat(1, self.num_ws, 1)  # [N, num_ws, w_dim]


class SynthesisLayer(nn.Module):
    """Modulated 3x3 convolution, then noise, bias, leaky ReLU. x [N, in, H, W], w [N, w_dim] -> [N, out, res, res]."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        w_dim: int,
        resolution: int,
        upsample: bool,
        conv_clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.upsample, self.conv_clamp = upsample, conv_clamp
        self.affine = EqualizedLinear(w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.register_buffer("noise_const", torch.randn(resolution, resolution))

    def forward(self, x: Tensor, w: Tensor, noise_mode: str) -> Tensor:
        # Leaky ReLU is positively homogeneous: its gain sqrt(2) is applied to the demodulation, the noise and the bias.
        x = modulated_conv2d(x, self.weight, self.affine(w), upsample=self.upsample, gain=LRELU_GAIN)
        if noise_mode == "random":
            noise = torch.randn(x.shape[0], 1, *x.shape[2:], device=x.device)  # [N, 1, res, res]
        else:
            noise = self.noise_const  # [res, res]
        if noise_mode != "none":
            x = x + (noise * (self.noise_strength * LRELU_GAIN)).to(x.dtype)
        x = x + (self.bias * LRELU_GAIN)[:, None, None].to(x.dtype)
        return clamped(F.leaky_relu(x, LRELU_SLOPE), self.conv_clamp)


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to RGB, without demodulation. x [N, in, H, W], w [N, w_dim] -> [N, 3, H, W]."""

    def __init__(self, in_channels: int, *, w_dim: int, conv_clamp: float | None = None) -> None:
        super().__init__()
        self.conv_clamp = conv_clamp
        self.affine = EqualizedLinear(w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(3, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(3))
        self.weight_gain = 1 / math.sqrt(in_channels)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        styles = self.affine(w) * self.weight_gain
        x = modulated_conv2d(x, self.weight, styles, demodulate=False)
        return clamped(x.to(self.bias.dtype) + self.bias[:, None, None], self.conv_clamp)


class SynthesisBlock(nn.Module):
    """All layers of one resolution. The 4x4 block starts from a learned constant and has only one convolution.

    Takes one w per convolution plus one for RGB; the row for RGB is also the first row of the next block.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, w_dim: int, resolution: int, conv_clamp: float | None = None
    ) -> None:
        super().__init__()
        options = dict(w_dim=w_dim, resolution=resolution, conv_clamp=conv_clamp)
        if in_channels == 0:
            self.const = nn.Parameter(torch.randn(out_channels, 4, 4))
            self.num_conv = 1
        else:
            self.conv0 = SynthesisLayer(in_channels, out_channels, upsample=True, **options)
            self.num_conv = 2
        self.conv1 = SynthesisLayer(out_channels, out_channels, upsample=False, **options)
        self.torgb = ToRGB(out_channels, w_dim=w_dim, conv_clamp=conv_clamp)

    def forward(
        self, x: Tensor | None, img: Tensor | None, ws: Tensor, noise_mode: str
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Returns (x, img, [first map, second map]) at this resolution; ws [N, num_conv + 1, w_dim]."""
        if x is None:
            first = self.const.unsqueeze(0).repeat(ws.shape[0], 1, 1, 1)  # [N, C, 4, 4]
            first = first.contiguous(memory_format=torch.channels_last)
        else:
            first = self.conv0(x, ws[:, 0], noise_mode)
        x = self.conv1(first, ws[:, self.num_conv - 1], noise_mode)
        rgb = self.torgb(x, ws[:, self.num_conv])
        img = rgb if img is None else fir_upsample(img) + rgb
        return x, img, [first, x]


class Synthesis(nn.Module):
    """ws [N, num_ws, w_dim] -> image [N, 3, res, res], about [-1, 1] (no final nonlinearity)."""

    def __init__(
        self,
        *,
        w_dim: int,
        img_resolution: int,
        channel_base: int,
        channel_max: int,
        conv_clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.block_resolutions = resolutions_of(img_resolution)
        self.num_ws = 2 * len(self.block_resolutions)
        self.feature_channels: list[int] = []
        previous = 0
        for resolution in self.block_resolutions:
            width = channels_at(resolution, channel_base, channel_max)
            block = SynthesisBlock(previous, width, w_dim=w_dim, resolution=resolution, conv_clamp=conv_clamp)
            setattr(self, f"b{resolution}", block)
            self.feature_channels += [width, width]
            previous = width

    def forward(self, ws: Tensor, noise_mode: str = "const") -> Tensor:
        return self.features(ws, noise_mode)[0]

    def features(self, ws: Tensor, noise_mode: str = "const") -> tuple[Tensor, list[Tensor]]:
        """The image and the 2 * log2(res) - 2 feature maps, two per resolution, from 4x4 upwards."""
        if noise_mode not in NOISE_MODES:
            raise ValueError(f"noise_mode must be one of {', '.join(NOISE_MODES)}, got {noise_mode!r}")
        x, img, maps, row = None, None, [], 0
        for resolution in self.block_resolutions:
            block = getattr(self, f"b{resolution}")
            x, img, pair = block(x, img, ws[:, row : row + block.num_conv + 1], noise_mode)
            row += block.num_conv
            maps += pair
        return img, maps


class Generator(nn.Module):
    """StyleGAN2 generator.

    Args:
        z_dim, w_dim: sizes of the latent spaces.
        img_resolution: side of the image, a power of two >= 8.
        channel_base, channel_max: a feature map at resolution r has min(channel_base / r, channel_max) channels.
        num_mapping_layers: fully connected layers from z to w.
        conv_clamp: limit of the magnitude of the outputs of all convolutions, as in stylegan2-ada-pytorch, where it
            keeps 16-bit numbers finite; None: no limit.

    Attributes:
        num_ws: rows of a W+ latent, 2 * log2(img_resolution) - 2.
        feature_channels: channels of the maps that `synthesis_features` returns.
        config: the arguments above, sufficient to rebuild the network.
    """

    def __init__(
        self,
        *,
        z_dim: int,
        w_dim: int,
        img_resolution: int,
        channel_base: int,
        channel_max: int,
        num_mapping_layers: int,
        conv_clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = dict(
            z_dim=z_dim,
            w_dim=w_dim,
            img_resolution=img_resolution,
            channel_base=channel_base,
            channel_max=channel_max,
            num_mapping_layers=num_mapping_layers,
        )
        if conv_clamp is not None:  # files of trained generators do not have this key
            self.config["conv_clamp"] = conv_clamp
        self.z_dim = z_dim
        self.w_dim = w_dim
        self.img_resolution = img_resolution
        self.synthesis = Synthesis(
            w_dim=w_dim,
            img_resolution=img_resolution,
            channel_base=channel_base,
            channel_max=channel_max,
            conv_clamp=conv_clamp,
        )
        self.num_ws = self.synthesis.num_ws
        self.feature_channels = self.synthesis.feature_channels
        self.mapping = Mapping(z_dim=z_dim, w_dim=w_dim, num_ws=self.num_ws, num_layers=num_mapping_layers)

    @property
    def w_avg(self) -> Tensor:
        """Mean of w over the mapping's output.  # [w_dim]"""
        return self.mapping.w_avg

    def forward(self, z: Tensor, truncation_psi: float = 1.0, noise_mode: str = "const") -> Tensor:
        """z [N, z_dim] -> image [N, 3, res, res], about [-1, 1]."""
        return self.synthesis(self.mapping(z, truncation_psi), noise_mode)

    def synthesis_features(self, ws: Tensor, noise_mode: str = "const") -> tuple[Tensor, list[Tensor]]:
        """ws [N, num_ws, w_dim] -> (image, maps): the 4x4 constant and the 4x4 output, then both convolution outputs
        (after noise, bias and activation) of every higher resolution. The list has 2 * log2(res) - 2 entries."""
        if ws.shape[1:] != (self.num_ws, self.w_dim):
            raise ValueError(f"ws must be [N, {self.num_ws}, {self.w_dim}], got {list(ws.shape)}")
        return self.synthesis.features(ws, noise_mode)


def load_generator(path: str | Path, device: torch.device | str = "cpu") -> Generator:
    """Read a `G_ema.safetensors`: eval mode, frozen, channels-last.

    Raises:
        UserError: missing or damaged file, or another kind of network.
    """
    return load_module(path, Generator).to(device=device, memory_format=torch.channels_last)


@torch.no_grad()
def synthesise(G: Generator, w_plus: Tensor, *, batch: int = 16) -> Tensor:
    """Pictures of latents [N, num_ws, w_dim], with constant noise, on the CPU.  # uint8 [N, 3, H, W]"""
    parts = w_plus.to(G.w_avg.device).split(batch)
    return torch.cat([to_uint8(G.synthesis(part, noise_mode="const")).cpu() for part in parts])
