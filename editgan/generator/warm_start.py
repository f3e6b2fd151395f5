"""Warm start: the synthesis network learns as the decoder of a variational autoencoder in W.

A GAN of this size needs days of CPU time to find the layout of a face; reconstructing images finds it in minutes. The
synthesis network goes on into adversarial training, with a mapping network that begins as the affine map from z to the
Gaussian that the encoder's latents fill. There the encoder may hold on: a part of each batch of fakes is then made
from the latents of real images and held to these images, too, which keeps the short training from drifting into
patterns that fool a young discriminator. All this is ours; neither StyleGAN2 nor EditGAN has it.

The encoder's mean begins as the image's principal components, and its convolutions add to that. Left to itself an
autoencoder of this size keeps light, colour and hair at first and drops the mouth, which is few pixels; linear
components hold a smile from the first step, so that the decoder has only to learn to draw it.
"""

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from editgan.generator.discriminator import ConvTrunk
from editgan.generator.generator import Mapping
from editgan.generator.layers import LRELU_GAIN, LRELU_SLOPE, EqualizedLinear

LOGVAR_RANGE = (-8.0, 4.0)
LOGVAR_INIT = -5.0
PCA_RESOLUTION = 64  # larger images are averaged down to this side before their components are taken
PCA_IMAGES = 4096  # the components come from so many images, and from their mirror images
PCA_POWER = 0.8  # a component's spread in w is its spread in the images to this power; 1 keeps proportions, 0 whitens


class PosteriorEncoder(ConvTrunk):
    """Image [N, 3, res, res] -> mean and log variance of w, each [N, w_dim].

    The mean is the image's principal components (after `set_components`) plus what the convolutions add, at first 0.
    """

    def __init__(self, *, img_resolution: int, channel_base: int, channel_max: int, w_dim: int) -> None:
        super().__init__(img_resolution=img_resolution, channel_base=channel_base, channel_max=channel_max)
        self.fc = EqualizedLinear(self.out_channels * 16, self.out_channels, lrelu=True)
        self.out = EqualizedLinear(self.out_channels, 2 * w_dim)
        nn.init.zeros_(self.out.weight)
        nn.init.constant_(self.out.bias[w_dim:], LOGVAR_INIT)
        self.pca_resolution = min(img_resolution, PCA_RESOLUTION)
        pixels = 3 * self.pca_resolution**2
        self.register_buffer("components", torch.zeros(w_dim, pixels))
        self.register_buffer("pixel_mean", torch.zeros(pixels))

    def forward(self, img: Tensor) -> tuple[Tensor, Tensor]:
        change, logvar = self.out(self.fc(self.to_4x4(img).flatten(1))).chunk(2, dim=1)
        with torch.autocast(img.device.type, enabled=False):
            mean = F.linear(self.pixels(img) - self.pixel_mean, self.components) + change
        return mean, logvar.clamp(*LOGVAR_RANGE)

    def pixels(self, img: Tensor) -> Tensor:
        """What the components are taken of: [N, 3, res, res] -> [N, 3 * pca_resolution^2]."""
        return F.adaptive_avg_pool2d(img, self.pca_resolution).flatten(1)

    @torch.no_grad()
    def set_components(self, images: Tensor) -> None:
        """Make the mean of w the leading principal components of `images` [N, 3, res, res] in [-1, 1].

        Each is scaled by a power of its spread, all together to a mean square of 1. Uses torch's random stream. Of
        fewer than w_dim images the other components stay 0.
        """
        pixels = self.pixels(images)  # [N, P]
        self.pixel_mean.copy_(pixels.mean(dim=0))
        pixels -= self.pixel_mean
        count = min(len(self.components), *pixels.shape)
        _, singular, vectors = torch.svd_lowrank(pixels, q=min(count + 64, *pixels.shape), niter=3)
        spread = singular[:count] / math.sqrt(len(pixels))  # [count], of the components
        wanted = (spread / spread[0]).pow(PCA_POWER)
        wanted /= wanted.square().mean().sqrt()
        self.components[:count] = vectors[:, :count].t() * (wanted / spread.clamp(min=1e-6)).unsqueeze(1)


@torch.no_grad()
def set_affine(mapping: Mapping, matrix: Tensor, offset: Tensor) -> None:
    """Make the mapping network w = matrix @ z + offset on normalised z, exactly, within its published form.

    Two leaky ReLUs with a sign change before each cancel: f(-f(-x)) = slope * x for f = leaky ReLU. So each pair of
    layers is linear where the second holds a negative multiple of the unit matrix. What the mapping learns later is a
    residual on top.

    Args:
        matrix: [w_dim, z_dim], square.
        offset: [w_dim].

    Raises:
        ValueError: an odd number of layers, or a matrix that is not square or does not fit.
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
    """The symmetric square root of a covariance matrix, so that root @ N(0, 1) has it.  # [d, d]"""
    values, vectors = torch.linalg.eigh(covariance.double())
    return ((vectors * values.clamp(min=0).sqrt()) @ vectors.t()).to(covariance.dtype)


@torch.no_grad()
def fit_mapping(mapping: Mapping, encoder: PosteriorEncoder, batches: Iterable[Tensor]) -> None:
    """Set the mapping to the affine map with the moments of the encoder's latents over `batches` of images.

    The latents of all images together have the mean of the means, and the covariance of the means plus the mean of
    the variances.
    """
    parts = [encoder(real) for real in batches]
    means, logvars = (torch.cat(part) for part in zip(*parts, strict=True))  # [N, w_dim] each
    covariance = means.t().cov() + logvars.exp().mean(dim=0).diag()  # [w_dim, w_dim]
    set_affine(mapping, gaussian_root(covariance), means.mean(dim=0))


def gaussian_kl(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mean, exp(logvar)) || N(0, 1)), summed over dimensions (Kingma and Welling 2014, appendix B).  # [N]"""
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum(dim=1)


def sample_posterior(encoder: PosteriorEncoder, real: Tensor, num_ws: int) -> tuple[Tensor, Tensor]:
    """(one latent per image from its posterior, the same in every row [N, num_ws, w_dim]; mean KL divergence)."""
    mean, logvar = encoder(real)  # [N, w_dim] each
    w = mean + torch.randn_like(mean) * (0.5 * logvar).exp()
    return w.unsqueeze(1).repeat(1, num_ws, 1), gaussian_kl(mean, logvar).mean()


def reconstruction_losses(
    fake: Tensor, real: Tensor, lpips_vgg: nn.Module, perceptual_images: int
) -> dict[str, Tensor]:
    """l1, l2 and lpips between images [N, 3, res, res] in [-1, 1], each a mean over the batch.

    The perceptual distance looks at the first `perceptual_images` images: on all of them a pretrained network would
    cost more than everything else together. At half size it would cost less and miss mouths and eyes.
    """
    pair = [images[:perceptual_images] for images in (fake, real)]
    return {"l1": (fake - real).abs().mean(), "l2": (fake - real).square().mean(), "lpips": lpips_vgg(*pair).mean()}
