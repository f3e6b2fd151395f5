"""The code of an image: its principal components, scaled to be a w. Warm start and encoder begin with it."""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from editgan.weights import load_module

PCA_RESOLUTION = 64  # larger images are averaged down to this side before their components are taken
PCA_IMAGES = 4096  # the components come from so many images, and from their mirror images
PCA_POWER = 0.8  # a component's spread in w is its spread in the images to this power; 1 keeps proportions, 0 whitens
CODE_NOISE = 0.08  # standard deviation of the noise on codes, whose mean square is 1: neighbours in W look alike


class PrincipalComponents(nn.Module):
    """Image [N, 3, res, res] in [-1, 1] -> code [N, w_dim], linear, with nothing to train.

    Attributes:
        components: [w_dim, pixels], scaled as `fit` says; zeros before.
        pixel_mean: [pixels].
        config: the arguments, enough to build the module again.
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
        """What the components are taken of: [N, 3, res, res] -> [N, 3 * side^2]."""
        return F.adaptive_avg_pool2d(img, self.side).flatten(1)

    def noisy(self, img: Tensor) -> Tensor:
        """The codes with CODE_NOISE, from torch's random stream.  # [N, w_dim]"""
        code = self(img)
        return code + CODE_NOISE * torch.randn_like(code)

    @torch.no_grad()
    def fit(self, images: Tensor) -> None:
        """Take the leading principal components of `images` [N, 3, res, res] in [-1, 1].

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


def load_code(path: str | Path) -> PrincipalComponents:
    """Read a `code.safetensors`.

    Raises:
        UserError: missing or damaged file, or a file that holds something else.
    """
    return load_module(path, PrincipalComponents)
