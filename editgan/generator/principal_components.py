"""The code of an image: its principal components, scaled to be used as w. Warm start and encoder start from it."""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from editgan.weights import load_module

PCA_RESOLUTION = 64  # larger images are downsampled to this side first
PCA_IMAGES = 4096  # number of images for the PCA, plus their mirror images
PCA_POWER = 0.8  # std of a component in w = (its std in the images) ** PCA_POWER; 1: no change, 0: whitening
CODE_NOISE = 0.08  # std of the noise on codes (mean square 1); makes nearby points of W look alike


class PrincipalComponents(nn.Module):
    """Image [N, 3, res, res] in [-1, 1] -> code [N, w_dim]. A fixed linear map.

    Attributes:
        components: [w_dim, pixels], scaled by `fit`; zeros before `fit`.
        pixel_mean: [pixels].
        config: the arguments, sufficient to rebuild the module.
    """

    def __init__(self, *, img_resolution: int, w_dim: int) -> None:
        super().__init__()
        self.config = dict(img_resolution=img_resolution, w_dim=w_dim)
        self.side = min(img_resolution, PCA_RESOLUTION)
        self.register_buffer("components", torch.zeros(w_dim, 3 * self.side**2))
        self.register_buffer("pixel_mean", torch.zeros(3 * self.side**2))

    def forward(self, img: Tensor) -> Tensor:
        with torch.autocast(img.device.type, enabled=False):
            return F.linear(self.pixels(img) - self.pixel_mean, self.components)

    def pixels(self, img: Tensor) -> Tensor:
        """Input of the PCA, downsampled pixels: [N, 3, res, res] -> [N, 3 * side^2]."""
        return F.adaptive_avg_pool2d(img, self.side).flatten(1)

    def noisy(self, img: Tensor) -> Tensor:
        """The codes plus CODE_NOISE, from torch's global generator.  # [N, w_dim]"""
        code = self(img)
        return code + CODE_NOISE * torch.randn_like(code)

    @torch.no_grad()
    def fit(self, images: Tensor) -> None:
        """Compute the leading principal components of `images` [N, 3, res, res] in [-1, 1].

        Their standard deviations are raised to PCA_POWER, then all are scaled to a mean square of 1. Uses torch's
        global generator. With fewer than w_dim images the remaining components stay 0.
        """
        pixels = self.pixels(images)  # [N, P]
        self.pixel_mean.copy_(pixels.mean(dim=0))
        pixels -= self.pixel_mean
        count = min(len(self.components), *pixels.shape)
        _, singular, vectors = torch.svd_lowrank(pixels, q=min(count + 64, *pixels.shape), niter=3)
        spread = singular[:count] / math.sqrt(len(pixels))  # std of each component: [count]
        wanted = (spread / spread[0]).pow(PCA_POWER)
        wanted /= wanted.square().mean().sqrt()
        self.components[:count] = vectors[:, :count].t() * (wanted / spread.clamp(min=1e-6)).unsqueeze(1)


def load_code(path: str | Path) -> PrincipalComponents:
    """Read a `code.safetensors`.

    Raises:
        UserError: missing or damaged file, or other content.
    """
    return load_module(path, PrincipalComponents)
