"""Pivotal tuning (Roich et al. 2021): fine-tune the generator to reproduce one image from its latent."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from editgan.encoder.encoder import check_images
from editgan.encoder.losses import for_lpips, l2_distance
from editgan.errors import UserError
from editgan.generator.generator import Generator

L2_WEIGHT = 4.0  # weight of squared error on the [0, 1] scale; equals the paper's 1 on [-1, 1]


def tune_generator(
    G: Generator,
    lpips_vgg: nn.Module,
    w_plus: Tensor,
    images: Tensor,
    *,
    steps: int = 100,
    lr: float = 0.001,
    progress: Callable[[int, int], None] | None = None,
) -> Generator:
    """Return a copy of G whose synthesis network reproduces `images` from `w_plus`, for edits of these images only.

    Minimises LPIPS + L2 of the reconstruction over the synthesis weights with Adam; the latents (pivots) are fixed.
    Editing vectors still apply, because the copy stays close to G. Without the paper's regularisation at random
    latents, which matters only for other images. The paper uses a learning rate of 0.0003 for 350 steps.

    Args:
        w_plus: latents, normally of one image, [N, num_ws, w_dim]; images: float in [-1, 1], [N, 3, H, W]
    Returns:
        the copy with the lowest loss of all steps, frozen, in eval mode
    """
    check_images(images, G.img_resolution)
    tuned = copy.deepcopy(G)
    parameters = tuned.synthesis.named_parameters()
    weights = [weight.requires_grad_() for name, weight in parameters if not name.endswith("noise_strength")]
    optimizer = torch.optim.Adam(weights, lr=lr)
    with torch.no_grad():
        target = lpips_vgg.features(for_lpips(images))
    best, kept = float("inf"), None
    for step in range(steps + 1):
        with torch.set_grad_enabled(step < steps):
            fakes = tuned.synthesis(w_plus, noise_mode="const")
            lpips = lpips_vgg.distance(lpips_vgg.features(for_lpips(fakes)), target)  # [N]
            loss = (lpips + L2_WEIGHT * l2_distance(fakes, images)).sum()
        value = loss.item()
        if step == 0 and value != value:
            raise UserError("the initial loss of pivotal tuning is NaN: the latents or the generator are damaged")
        if value < best:
            best, kept = value, [parameter.detach().clone() for parameter in weights]
        if step < steps:
            for parameter, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
                parameter.grad = gradient
            optimizer.step()
        if progress is not None:
            progress(step, steps)
    with torch.no_grad():
        for parameter, value in zip(weights, kept, strict=True):
            parameter.copy_(value)
    return tuned.eval().requires_grad_(False)
