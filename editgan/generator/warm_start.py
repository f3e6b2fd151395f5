"""Warm start: train the synthesis network as the decoder of a linear autoencoder in W, growing from 8x8 pixels.

A GAN of this size needs days of CPU time to learn the layout of a face; a reconstruction loss needs minutes. The code
of an image is its principal components, which encode a smile from the first step. A learned encoder would first encode
light, colour and hair and ignore the mouth, which covers few pixels. The decoder grows (Karras et al. 2018), because
steps at low resolution are cheap. A new block starts with RGB weights of 0, so it does not change the image at first.

Adversarial training continues with this synthesis network. Its mapping network starts as the affine map from z to the
Gaussian distribution of the codes. Optionally, part of each batch of fakes is generated from the codes of real images
and also trained to reconstruct them (anchors); this keeps a short training from drifting into patterns that fool an
early discriminator. The warm start is ours; it is not in StyleGAN2 or EditGAN.
"""

import itertools
import math
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from editgan.generator.generator import Mapping, Synthesis, resolutions_of
from editgan.generator.layers import LRELU_GAIN, LRELU_SLOPE
from editgan.generator.principal_components import CODE_NOISE, PrincipalComponents

BAND_MEMORY = 0.97  # decay of the running mean of errors, per step
BAND_FLOOR = 0.1  # errors are divided by (running mean at the pixel + BAND_FLOOR * its mean over pixels)

BATCH = 8
LR = 0.05  # learning rate of Muon; Adam has a tenth of it; half-cosine decay to 0
PIXEL_WEIGHT = 0.3  # weight of L1 + L2
BAND_WEIGHT = 0.3  # weight of the relative errors in the bands of a Laplacian pyramid
PERCEPTUAL_WEIGHT = 0.3  # weight of LPIPS-VGG
PERCEPTUAL_IMAGES = 1  # images per batch in the LPIPS term
PERCEPTUAL_INTERVAL = 2  # steps between evaluations of the LPIPS term
ANCHOR_WEIGHT = 1.0  # weight of the reconstruction loss of the anchors in the adversarial phase


@torch.no_grad()
def grow(synthesis: Synthesis, resolution: int) -> None:
    """Grow the network to `resolution`; new blocks start with RGB weights of 0."""
    before = synthesis.block_resolutions[-1]
    synthesis.block_resolutions = resolutions_of(resolution)
    for new in synthesis.block_resolutions:
        if new > before:
            getattr(synthesis, f"b{new}").torgb.weight.zero_()


def resolution_at(cur_nimg: int, kimg: Sequence[float], img_resolution: int) -> int:
    """The training resolution after `cur_nimg` images: kimg[-1] is spent at full resolution, kimg[-2] at half."""
    ends = itertools.accumulate(round(amount * 1000) for amount in kimg)
    sizes_to_come = sum(cur_nimg < end for end in ends)
    return img_resolution >> max(sizes_to_come - 1, 0)


@torch.no_grad()
def set_affine(mapping: Mapping, matrix: Tensor, offset: Tensor) -> None:
    """Set the mapping network to exactly w = matrix @ z + offset on normalised z, with unchanged architecture.

    Two leaky ReLUs with a sign change before each cancel: f(-f(-x)) = slope * x for f = leaky ReLU. So a pair of
    layers is linear if the second one is a negative multiple of the identity. Later training learns a residual.

    Args:
        matrix: [w_dim, z_dim], square.
        offset: [w_dim].

    Raises:
        ValueError: an odd number of layers, or a matrix of another shape than the layers.
    """
    layers = mapping.layers
    if len(layers) % 2 or any(layer.weight.shape != matrix.shape for layer in layers):
        shapes = [tuple(layer.weight.shape) for layer in layers]
        raise ValueError(f"set_affine needs an even number of layers {tuple(matrix.shape)}, got {shapes}")
    scale = -1 / (math.sqrt(LRELU_SLOPE) * LRELU_GAIN)
    unit = torch.eye(len(matrix), device=matrix.device)
    for index, layer in enumerate(layers):
        layer.weight.copy_((matrix if index == 0 else unit) * (scale / layer.weight_gain))
        layer.bias.copy_(offset * (scale / layer.bias_gain) if index == 0 else torch.zeros_like(offset))


def gaussian_root(covariance: Tensor) -> Tensor:
    """The symmetric square root of a covariance matrix: root @ N(0, 1) has this covariance.  # [d, d]"""
    values, vectors = torch.linalg.eigh(covariance.double())
    return ((vectors * values.clamp(min=0).sqrt()) @ vectors.t()).to(covariance.dtype)


@torch.no_grad()
def fit_mapping(mapping: Mapping, code: PrincipalComponents, batches: Iterable[Tensor]) -> None:
    """Set the mapping to the affine map whose output has the mean and covariance of the noisy codes of `batches`."""
    codes = torch.cat([code(real) for real in batches])  # [N, w_dim]
    covariance = codes.t().cov() + CODE_NOISE**2 * torch.eye(codes.shape[1], device=codes.device)  # [w_dim, w_dim]
    set_affine(mapping, gaussian_root(covariance), codes.mean(dim=0))


def reconstruction_losses(fake: Tensor, real: Tensor) -> dict[str, Tensor]:
    """Mean l1 and l2 between images [N, 3, res, res] in [-1, 1]."""
    difference = fake - real
    return {"l1": difference.abs().mean(), "l2": difference.square().mean()}


class BandLoss(nn.Module):
    """Absolute errors in the bands of a Laplacian pyramid, each divided by its running mean at the same pixel.

    Errors of hair and background are large everywhere and in every band; errors of mouth and eyes are small, sharp and
    local. Dividing by the running mean weighs them equally. The value is about 1 at any quality, so it does not measure
    progress.

    Args:
        img_resolution: side of the largest images. Each power of two from 8 on has its own means.
    """

    def __init__(self, *, img_resolution: int) -> None:
        super().__init__()
        self.bands = {r: [r >> k for k in range(r.bit_length() - 2)] for r in resolutions_of(img_resolution) if r > 4}
        for resolution, sides in self.bands.items():
            for side in sides:
                self.register_buffer(f"mean{resolution}_{side}", torch.zeros(side, side))

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        """Images [N, 3, res, res] -> the loss; updates the running means."""
        rest = fake - real
        sides = self.bands[rest.shape[-1]]
        parts = []
        for side in sides:
            band, mean = rest, getattr(self, f"mean{sides[0]}_{side}")
            if side != sides[-1]:  # the last band is the low-pass residual
                smaller = F.avg_pool2d(rest, 2)
                band = rest - F.interpolate(smaller, scale_factor=2, mode="bilinear", align_corners=False)
                rest = smaller
            parts.append(self.relative(band.abs(), mean))
        return torch.stack(parts).mean()

    @staticmethod
    def relative(error: Tensor, mean: Tensor) -> Tensor:
        """Mean of error [N, 3, s, s] divided by its running mean [s, s], which is updated in place (0: no data yet)."""
        with torch.no_grad():
            usual = error.mean(dim=(0, 1))
            usual = F.avg_pool2d(usual[None, None], 3, 1, 1, count_include_pad=False)[0, 0]
            mean.copy_(torch.where(mean.any(), mean * BAND_MEMORY + usual * (1 - BAND_MEMORY), usual))
        return (error / (mean + BAND_FLOOR * mean.mean() + 1e-8)).mean()
