"""The encoder: a feature pyramid from an image to W+ (EditGAN section 3.1, after pSp, Richardson et al. 2021)."""

import math
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from editgan.errors import UserError
from editgan.generator.layers import EqualizedConv2d, EqualizedLinear
from editgan.weights import load_module, load_tensors, save_halves, save_module

PYRAMID_SIZES = (4, 8, 16)  # sides in pixels of the levels for the coarse, middle and fine rows
EMBEDDED_SETS = {"few_shot", "test", "val", "val_encoder"}
GROUP_STARTS = (0, 3, 7)  # first W+ row of the coarse, middle and fine group


def group_sizes(num_ws: int) -> list[int]:
    """Number of W+ rows that are coarse (0-2), middle (3-6) and fine (7 and up)."""
    ends = [*GROUP_STARTS[1:], max(num_ws, GROUP_STARTS[-1])]
    return [min(end, num_ws) - min(start, num_ws) for start, end in zip(GROUP_STARTS, ends, strict=True)]


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut; halves the size: [N, in, H, W] -> [N, out, H/2, W/2]."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv0 = EqualizedConv2d(in_channels, in_channels, 3)
        self.conv1 = EqualizedConv2d(in_channels, out_channels, 3, down=True)
        self.shortcut = EqualizedConv2d(in_channels, out_channels, 1, down=True, lrelu=False, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return (self.conv1(self.conv0(x)) + self.shortcut(x)) * math.sqrt(0.5)


class OutputBranch(nn.Module):
    """The rows of one group, from a pyramid level: [N, in, s, s] -> [N, rows, w_dim], zero at first.

    Stride-2 convolutions down to one pixel, then one linear layer. The rows of a group share the convolutions; separate
    ones, as in the released code, would triple the parameters.
    """

    def __init__(self, in_channels: int, width: int, *, size: int, rows: int, w_dim: int) -> None:
        super().__init__()
        layers = []
        while size > 1:
            layers.append(EqualizedConv2d(in_channels, width, 3, down=True))
            in_channels, size = width, size // 2
        self.convs = nn.Sequential(*layers)
        self.linear = EqualizedLinear(width, rows * w_dim)
        nn.init.zeros_(self.linear.weight)
        self.rows = rows

    def forward(self, x: Tensor) -> Tensor:
        x = self.convs(x).flatten(1)  # [N, width]
        return self.linear(x).unflatten(1, (self.rows, -1))  # [N, rows, w_dim]


class Encoder(nn.Module):
    """E: images in [-1, 1], [N, 3, img_resolution, img_resolution] -> w_plus [N, num_ws, w_dim].

    A residual trunk halves the image down to 4x4. Its maps at 16, 8 and 4 px form a feature pyramid: 1x1 laterals, a
    bilinear top-down path, 3x3 smoothing. The 4-pixel level feeds rows 0-2 of W+, the 8-pixel level rows 3-6, the
    16-pixel level all finer rows. These are the paper's strides 16, 8 and 4 for a 64 px image.

    Differences from the released code, all for training on a few thousand images: the trunk is smaller than
    ResNet-50; all layers have equalised learning rates and no normalisation (as in StyleGAN2's discriminator); the
    output is w_avg + delta(x), where delta is 0 at first.

    The trunk has min(channel_base / r, channel_max) channels at resolution r, but at least channel_max / 8.
    """

    def __init__(
        self,
        *,
        img_resolution: int,
        num_ws: int,
        w_dim: int,
        channel_base: int = 2048,
        channel_max: int = 256,
        pyramid_width: int = 128,
        head_width: int = 256,
    ) -> None:
        super().__init__()
        if img_resolution < PYRAMID_SIZES[-1] or img_resolution & (img_resolution - 1):
            raise ValueError(f"img_resolution must be a power of two of at least 16, got {img_resolution}")
        self.config = dict(
            img_resolution=img_resolution,
            num_ws=num_ws,
            w_dim=w_dim,
            channel_base=channel_base,
            channel_max=channel_max,
            pyramid_width=pyramid_width,
            head_width=head_width,
        )
        self.img_resolution, self.num_ws, self.w_dim = img_resolution, num_ws, w_dim
        self.register_buffer("w_avg", torch.zeros(w_dim))

        def width_at(resolution: int) -> int:
            return max(min(channel_base // resolution, channel_max), channel_max // 8, 1)

        self.stem = EqualizedConv2d(3, width_at(img_resolution), 3)
        self.sizes = [img_resolution >> k for k in range(img_resolution.bit_length()) if img_resolution >> k >= 4]
        self.trunk = nn.ModuleList(ResidualBlock(width_at(2 * size), width_at(size)) for size in self.sizes[1:])
        laterals = [EqualizedConv2d(width_at(size), pyramid_width, 1, lrelu=False) for size in PYRAMID_SIZES]
        smooth = [EqualizedConv2d(pyramid_width, pyramid_width, 3, lrelu=False) for _ in PYRAMID_SIZES]
        self.laterals, self.smooth = nn.ModuleList(laterals), nn.ModuleList(smooth)
        groups = [(size, rows) for size, rows in zip(PYRAMID_SIZES, group_sizes(num_ws), strict=True) if rows]
        branches = [OutputBranch(pyramid_width, head_width, size=size, rows=rows, w_dim=w_dim) for size, rows in groups]
        self.heads = nn.ModuleList(branches)  # this name and `head_width` are stored in trained encoders

    def start_at(self, w_avg: Tensor) -> "Encoder":
        """Set w_avg, to which the output of the branches is added. Returns self."""
        self.w_avg.copy_(w_avg)
        return self

    def forward(self, images: Tensor) -> Tensor:
        check_images(images, self.img_resolution)
        maps = self.pyramid(images)  # 4, 8, 16 px
        rows = [branch(x) for branch, x in zip(self.heads, maps[: len(self.heads)], strict=True)]
        return self.w_avg + torch.cat(rows, dim=1)  # [N, num_ws, w_dim]

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """The smoothed pyramid levels at 4, 8 and 16 px, each [N, pyramid_width, s, s]."""
        x = self.stem(images.contiguous(memory_format=torch.channels_last))
        bottom_up = {self.sizes[0]: x}
        for size, block in zip(self.sizes[1:], self.trunk, strict=True):
            x = bottom_up[size] = block(x)
        maps: list[Tensor] = []
        top: Tensor | None = None
        for size, lateral, smooth in zip(PYRAMID_SIZES, self.laterals, self.smooth, strict=True):
            level = lateral(bottom_up[size])  # [N, pyramid_width, s, s]
            if top is not None:
                level = level + F.interpolate(top, scale_factor=2, mode="bilinear", align_corners=False)
            top = level
            maps.append(smooth(level))
        return maps


def check_images(images: Tensor, resolution: int) -> None:
    """Raise ValueError unless images are float [N, 3, resolution, resolution]."""
    if images.ndim != 4 or images.shape[1:] != (3, resolution, resolution) or not images.is_floating_point():
        raise ValueError(
            f"expected float images [N, 3, {resolution}, {resolution}] in [-1, 1], got {images.dtype}"
            f" {list(images.shape)}; resize uint8 pictures and convert them with editgan.images.to_float"
        )


def save_encoder(path: str | Path, E: Encoder) -> Path:
    """Write an `E.safetensors`."""
    return save_module(path, E, E.config)


def load_encoder(path: str | Path, device: torch.device | str = "cpu") -> Encoder:
    """Read an `E.safetensors`: eval mode, frozen, channels-last. UserError for another kind of network."""
    return load_module(path, Encoder).to(device=device, memory_format=torch.channels_last)


def save_latents(path: str | Path, latents: Mapping[str, Tensor], inversion_steps: int) -> Path:
    """Write named sets of w_plus [N, num_ws, w_dim] in float16."""
    remedy = "lower encoder.inversion_lr and run stage encoder again"
    return save_halves(path, latents, {"inversion_steps": inversion_steps}, remedy=remedy)


def load_latents(path: str | Path) -> dict[str, Tensor]:
    """Read a `latents.safetensors`: the EMBEDDED_SETS in the order of the archives, float32 [N, num_ws, w_dim] each.

    "val_encoder" is the encoder's output for "val", before optimisation.
    """
    tensors, _ = load_tensors(path)
    if not tensors.keys() >= EMBEDDED_SETS or any(tensor.ndim != 3 for tensor in tensors.values()):
        found = ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in sorted(tensors.items())[:5])
        raise UserError(
            f"{path}: expected {', '.join(sorted(EMBEDDED_SETS))} [N, num_ws, w_dim], found {found} ...;"
            " recreate it with `dvc repro --single-item --force encoder`"
        )
    return {name: w_plus.float() for name, w_plus in tensors.items()}
