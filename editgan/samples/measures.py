"""Precision, recall, perceptual path length, nearest training images, and two distortions of real images."""

from collections.abc import Callable

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from editgan.images import mean_squared_error, to_float

BLUR_SIGMA = 1.0  # pixels
NOISE_SIGMA = 8.0  # of 255 grey levels
PATH_EPSILON = 1e-4  # step along the path, as a fraction of it
PATH_TRIM = (0.01, 0.99)  # distances outside these quantiles are left out of the mean
IMAGES = 500  # images at a time


def blurred(images: Tensor) -> Tensor:
    """Gaussian blur with BLUR_SIGMA pixels: uint8 [N, 3, H, W] -> same shape."""
    sigma = (0, 0, BLUR_SIGMA, BLUR_SIGMA)
    parts = [gaussian_filter(part.numpy().astype(np.float32), sigma, mode="nearest") for part in images.split(IMAGES)]
    return torch.from_numpy(np.concatenate(parts)).round().clamp(0, 255).to(torch.uint8)


def noisy(images: Tensor, generator: torch.Generator) -> Tensor:
    """Gaussian noise of NOISE_SIGMA grey levels: uint8 [N, 3, H, W] -> same shape."""
    noise = NOISE_SIGMA * torch.randn(images.shape, generator=generator)
    return (images + noise).round().clamp(0, 255).to(torch.uint8)


@torch.no_grad()
def perceptual_path_length(
    generator: nn.Module,
    distance: Callable[[Tensor, Tensor], Tensor],
    *,
    pairs: int,
    batch: int,
    device: torch.device,
    rng: torch.Generator,
) -> float:
    """Perceptual path length in W, full path (Karras et al., CVPR 2019, equation 3), on whole images.

    Mean of distance(G(w(t)), G(w(t + epsilon))) / epsilon^2, where w(t) interpolates between two random w. The lowest
    and the highest hundredth are left out, as in the released code.

    Args:
        distance: takes two batches of float images [N, 3, H, W] in [-1, 1], returns [N].
    """
    found = []
    for start in range(0, pairs, batch):
        count = min(batch, pairs - start)
        z = torch.randn(2 * count, generator.z_dim, generator=rng).to(device)
        t = torch.rand(count, 1, generator=rng).to(device)
        first, second = generator.mapping(z)[:, 0].split(count)  # [N, w_dim] each
        ws = torch.cat([first.lerp(second, t), first.lerp(second, t + PATH_EPSILON)])
        images = generator.synthesis(ws.unsqueeze(1).repeat(1, generator.num_ws, 1), noise_mode="const")
        found.append(distance(*images.split(count)).flatten().cpu() / PATH_EPSILON**2)
    lengths = torch.cat(found).double()
    low, high = lengths.quantile(torch.tensor(PATH_TRIM, dtype=torch.float64))
    return float(lengths[(lengths >= low) & (lengths <= high)].mean())


def nearest_images(samples: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """Nearest of images [M, 3, H, W] or of their mirror images to samples uint8 [N, 3, H, W], by squared error.

    Returns:
        (these images uint8 [N, 3, H, W], mirrored if that is nearer; mean squared errors [N] in [-1, 1]).
    """
    nearest, errors = [], []
    for sample in samples:
        both = []
        for candidates in (images, images.flip(3)):
            parts = [mean_squared_error(to_float(part), to_float(sample[None])) for part in candidates.split(IMAGES)]
            error, index = torch.cat(parts).min(dim=0)
            both.append((float(error), candidates[index]))
        error, image = min(both, key=lambda pair: pair[0])
        nearest.append(image)
        errors.append(error)
    return torch.stack(nearest), torch.tensor(errors)
