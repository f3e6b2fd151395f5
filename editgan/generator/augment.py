"""Adaptive discriminator augmentation, pipeline `bgc`: differentiable, controlled by one probability p.

Karras et al., "Training Generative Adversarial Networks with Limited Data" (NeurIPS 2020), section 3 and appendix B,
with the strengths of its `bgc` table. It is applied to all images that the discriminator sees, real and generated.
Gradients pass through it to the generator, and it is twice differentiable, as R1 requires.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# Low-pass filter of the sym6 wavelet (Daubechies 1992); its even shifts are orthonormal.
SYM6 = (
    0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633,
    0.4910559419267466, 0.787641141030194, 0.3379294217276218, -0.07263752278646252,
    -0.021060292512300564, 0.04472490177066578, 0.0017677118642428036, -0.007800708325034148,
)  # fmt: skip
# The filter is not quite symmetric: it shifts an image by DELAY pixels along both axes.
DELAY = (sum(place * tap for place, tap in enumerate(SYM6)) / sum(SYM6) - (len(SYM6) - 1) / 2) / 2
EDGE = 3  # pixels that the filter reaches beyond an image, at its own resolution

TRANSLATION = 0.125  # relative to the side: largest whole-pixel shift, and std of the fractional shift
SCALE_STD = 0.2  # std of log2 of the isotropic and of the anisotropic scale
BRIGHTNESS_STD = 0.2
CONTRAST_STD = 0.5  # std of log2
SATURATION_STD = 1.0  # std of log2


def augment(img: Tensor, p: float) -> Tensor:
    """Images [N, 3, res, res] in [-1, 1] -> the same shape, each transform applied with probability `p` in [0, 1].

    Images are float32; the output may exceed [-1, 1]. Random numbers come from torch's global CPU generator, so the
    transforms do not depend on the device. Computed in full precision under any autocast.
    """
    if p <= 0:
        return img
    with torch.autocast("cpu", enabled=False), torch.autocast(img.device.type, enabled=False):
        geometry, colour = geometry_matrices(len(img), img.shape[-1], p), colour_matrices(len(img), p)
        if not torch.equal(geometry, torch.eye(3).expand_as(geometry)):
            img = warp(img, geometry)
        if not torch.equal(colour, torch.eye(4).expand_as(colour)):
            colour = colour.to(img.device)
            img = torch.einsum("nij,njhw->nihw", colour[:, :3, :3], img) + colour[:, :3, 3, None, None]
    return img


def adapted(p: float, r_t: float, *, target: float, images: int, kimg: float) -> float:
    """The updated probability after `images` more images: a step towards r_t = target, 1 / kimg per 1000 images."""
    return min(max(p + math.copysign(images / (kimg * 1000), r_t - target), 0.0), 1.0)


def gated(values: Tensor, p: float, neutral: float = 0.0) -> Tensor:
    """Keep each row of `values` [N, ...] with probability p, else set it to `neutral`."""
    chosen = torch.rand(len(values)) < p
    return torch.where(chosen.view(-1, *[1] * (values.ndim - 1)), values, torch.full_like(values, neutral))


def geometry_matrices(count: int, side: int, p: float) -> Tensor:
    """Random matrices from output to input coordinates, in pixels from the centre: x_in = M x_out.  # [N, 3, 3]

    In the order of the paper's table: mirror, quarter turns, whole-pixel shift, scale, rotation, stretch along a random
    axis (a scale between two rotations), fractional shift.
    """
    rotation_p = 1 - math.sqrt(1 - p)  # of each of the two rotations; at least one occurs with probability p
    mirror = gated(torch.floor(torch.rand(count) * 2), p)  # 0 or 1
    turns = gated(torch.floor(torch.rand(count) * 4), p)  # 0 .. 3
    whole = torch.round(gated((torch.rand(count, 2) * 2 - 1) * TRANSLATION, p) * side)  # [N, 2]
    scale = gated(torch.exp2(torch.randn(count) * SCALE_STD), p, 1.0)
    before = gated((torch.rand(count) * 2 - 1) * math.pi, rotation_p)
    stretch = gated(torch.exp2(torch.randn(count) * SCALE_STD), p, 1.0)
    after = gated((torch.rand(count) * 2 - 1) * math.pi, rotation_p)
    fraction = gated(torch.randn(count, 2) * TRANSLATION, p) * side  # [N, 2]
    one = torch.ones(count)
    parts = (
        scaling(1 - 2 * mirror, one),
        rotation(turns * (math.pi / 2)),
        translation(whole),
        scaling(1 / scale, 1 / scale),
        rotation(before),
        scaling(1 / stretch, stretch),
        rotation(after),
        translation(fraction),
    )
    matrix = parts[0]
    for part in parts[1:]:
        matrix = matrix @ part
    return matrix


def colour_matrices(count: int, p: float) -> Tensor:
    """Random homogeneous RGB transforms: brightness, contrast, luma flip, hue, saturation.  # [N, 4, 4]"""
    brightness = gated(torch.randn(count) * BRIGHTNESS_STD, p)
    contrast = gated(torch.exp2(torch.randn(count) * CONTRAST_STD), p, 1.0)
    flip = gated(torch.floor(torch.rand(count) * 2), p)  # 0 or 1
    hue = gated((torch.rand(count) * 2 - 1) * math.pi, p)
    saturation = gated(torch.exp2(torch.randn(count) * SATURATION_STD), p, 1.0)

    axis = torch.full((3,), 1 / math.sqrt(3))  # grey
    grey = torch.outer(axis, axis)  # projects onto it
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)  # axis x ...
    unit = torch.eye(3)
    flip, cos, sin, saturation = (value.view(-1, 1, 1) for value in (flip, hue.cos(), hue.sin(), saturation))
    linear = (grey + (unit - grey) * saturation) @ (grey + (unit - grey) * cos + cross * sin) @ (unit - 2 * grey * flip)
    matrix = torch.eye(4).repeat(count, 1, 1)
    matrix[:, :3, :3] = linear * contrast.view(-1, 1, 1)
    matrix[:, :3, 3] = (matrix[:, :3, :3] @ brightness.view(-1, 1, 1).expand(count, 3, 1))[:, :, 0]
    return matrix


def translation(shift: Tensor) -> Tensor:
    """[N, 2] pixels (x, y) -> [N, 3, 3]."""
    matrix = torch.eye(3).repeat(len(shift), 1, 1)
    matrix[:, :2, 2] = -shift
    return matrix


def scaling(x: Tensor, y: Tensor) -> Tensor:
    """Factors [N] along x and y -> [N, 3, 3]."""
    return torch.diag_embed(torch.stack([x, y, torch.ones_like(x)], dim=1))


def rotation(angle: Tensor) -> Tensor:
    """Radians [N] -> [N, 3, 3]."""
    matrix = torch.eye(3).repeat(len(angle), 1, 1)
    matrix[:, 0, 0] = matrix[:, 1, 1] = angle.cos()
    matrix[:, 1, 0] = angle.sin()
    matrix[:, 0, 1] = -angle.sin()
    return matrix


def warp(img: Tensor, matrices: Tensor) -> Tensor:
    """Sample each output pixel at M x, without aliasing, with reflection padding.

    The image is upsampled by 2 with the sym6 filter, sampled bilinearly and downsampled with the same filter; the
    identity matrix reproduces the image. Unlike the released code, this compensates the filter's delay.

    Args:
        img: [N, C, res, res].
        matrices: [N, 3, 3], in pixels from the centre, on the CPU.
    """
    side = img.shape[-1]
    reach = side / 2 + EDGE
    delay = torch.full((1, 2), DELAY)
    matrices = translation(-delay) @ matrices @ translation(delay)
    corners = torch.tensor([[x, y, 1.0] for x in (-reach, reach) for y in (-reach, reach)])
    furthest = float((matrices @ corners.t())[:, :2].abs().max())
    margin = min(max(math.ceil(furthest - side / 2) + EDGE + 1, EDGE), side - 1)
    source = sym6_upsample(F.pad(img, [margin] * 4, mode="reflect"))  # [N, C, 2 (res + 2 margin), ...]
    into, from_ = (side + 2 * margin) / 2, reach  # half sides, in pixels
    theta = matrices[:, :2] * torch.tensor([from_, from_, 1.0]) / into  # [N, 2, 3]
    size = [len(img), img.shape[1], 2 * (side + 2 * EDGE), 2 * (side + 2 * EDGE)]
    grid = F.affine_grid(theta.to(img), size, align_corners=False)
    larger = sym6_downsample(Sample.apply(source, grid))  # [N, C, res + 2 EDGE, ...]
    return larger[:, :, EDGE:-EDGE, EDGE:-EDGE]


def sym6_kernel(like: Tensor, gain: float) -> Tensor:
    """The outer product of the filter with sum `gain`, one copy per channel.  # [C, 1, 12, 12]"""
    taps = torch.tensor(SYM6, dtype=like.dtype, device=like.device)
    taps = taps / taps.sum()
    return (torch.outer(taps, taps) * gain).expand(like.shape[1], 1, len(SYM6), len(SYM6)).contiguous()


def sym6_upsample(x: Tensor) -> Tensor:
    """[N, C, H, W] -> [N, C, 2H, 2W]: zero insertion, then the filter with gain 4."""
    padding = len(SYM6) // 2 - 1
    return F.conv_transpose2d(x, sym6_kernel(x, 4.0), stride=2, padding=padding, groups=x.shape[1])


def sym6_downsample(x: Tensor) -> Tensor:
    """[N, C, H, W] -> [N, C, H/2, W/2]: the adjoint of `sym6_upsample`, divided by 4."""
    padding = len(SYM6) // 2 - 1
    return F.conv2d(x, sym6_kernel(x, 1.0), stride=2, padding=padding, groups=x.shape[1])


class Sample(torch.autograd.Function):
    """Bilinear sampling, linear in the image. Unlike torch's grid_sample it is twice differentiable."""

    @staticmethod
    def forward(ctx, img: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.shape = img.shape
        return F.grid_sample(img, grid, mode="bilinear", padding_mode="zeros", align_corners=False)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        (grid,) = ctx.saved_tensors
        return Spread.apply(gradient, grid, ctx.shape), None


class Spread(torch.autograd.Function):
    """The adjoint of `Sample`."""

    @staticmethod
    def forward(ctx, gradient: Tensor, grid: Tensor, shape: torch.Size) -> Tensor:
        ctx.save_for_backward(grid)
        image = gradient.new_empty(1).expand(shape)  # only its shape matters
        bilinear, zeros, align_corners = 0, 0, False
        wanted = [True, False]  # gradient with respect to the image, not the grid
        return torch.ops.aten.grid_sampler_2d_backward(gradient, image, grid, bilinear, zeros, align_corners, wanted)[0]

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        (grid,) = ctx.saved_tensors
        return Sample.apply(gradient, grid), None, None
