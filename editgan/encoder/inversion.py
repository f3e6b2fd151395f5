"""Inversion: find the W+ latent of an image. The encoder's estimate, then Adam with the released code's schedule."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from editgan.encoder.encoder import Encoder, check_images
from editgan.encoder.losses import for_lpips, l2_distance, reconstruction_loss
from editgan.generator.generator import Generator

WARMUP = 0.05  # share of the steps with linear warm-up of the learning rate
RAMPDOWN = 0.25  # share of the steps with cosine ramp-down
PULL = 0.2  # weight of the squared distance to the encoder's estimate; without it, edits of the latents are weaker


def lr_at(step: int, steps: int, peak: float) -> float:
    """Linear warm-up over the first 5 % of the steps, cosine ramp-down over the last 25 % (StyleGAN2's projector)."""
    t = (step + 0.5) / steps
    rampdown = min(1.0, (1 - t) / RAMPDOWN)
    return peak * (0.5 - 0.5 * math.cos(math.pi * rampdown)) * min(1.0, t / WARMUP)


def invert(
    G: Generator,
    E: Encoder,
    lpips_vgg: nn.Module,
    images: Tensor,
    *,
    steps: int,
    batch: int = 16,
    lr: float = 0.1,
    pull: float = PULL,
    identity: nn.Module | None = None,
    identity_weight: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Embed images: start at E(x), minimise 10 LPIPS + 1 L2 + pull over W+, keep the best iterate of each image.

    Losses are summed over the batch and Adam works elementwise, so the result of an image does not depend on the
    batch (up to rounding). The noise maps are fixed. The paper uses 500 steps of Adam with Lookahead at a constant
    learning rate; this is the released code's Adam with warm-up and ramp-down. The encoder consistency, the distance to
    E(G(w_plus)), is replaced by the distance to E(x), which costs nothing. LPIPS sees at most 256 px (`for_lpips`).

    Args:
        G, E, lpips_vgg: frozen; lpips_vgg needs `features(x)` and `distance(fx, fy) -> [N]`.
        images: float [N, 3, H, W] in [-1, 1], H = W = G.img_resolution
        steps: Adam updates; 0 returns the encoder's estimate
        batch: images at a time; affects speed and memory only
        lr: the peak learning rate
        pull: weight of ||w_plus - E(x)||^2, averaged over entries; keeps latents where edits work
        identity, identity_weight: features [N, D] of images in [-1, 1] for pSp's identity term, 1 - cosine (Richardson
            et al. 2021), and its weight relative to 10 LPIPS + 1 L2
        progress: called with (images done, total images) after each batch
    Returns:
        w_plus [N, num_ws, w_dim]
    Raises:
        ValueError: images of another size, values that are not finite, or an identity term without its network.
    """
    if identity_weight > 0 and identity is None:
        raise ValueError(f"the identity term has weight {identity_weight} but no identity network was given")
    check_images(images, G.img_resolution)
    if not torch.isfinite(images).all():
        raise ValueError("images contain NaN or infinite values; inversion needs finite values in [-1, 1]")
    results, done = [], 0
    for part in images.split(batch):
        part = part.contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            estimate = E(part)  # [N, num_ws, w_dim]
            target = lpips_vgg.features(for_lpips(part))
            person = identity(part) if identity_weight > 0 else None  # [N, D]
        w_plus = estimate.clone().requires_grad_()
        optimizer = torch.optim.Adam([w_plus], lr=lr)
        best_loss = part.new_full((len(part),), math.inf)  # [N]
        best_w_plus = w_plus.detach().clone()
        for step in range(steps + 1 if steps else 0):  # the last iteration only evaluates the last update
            with torch.set_grad_enabled(step < steps):
                fakes = G.synthesis(w_plus, noise_mode="const")
                lpips = lpips_vgg.distance(lpips_vgg.features(for_lpips(fakes)), target)
                losses = reconstruction_loss(lpips, l2_distance(fakes, part))  # [N]
                losses = losses + pull * (w_plus - estimate).square().mean((1, 2))
                if identity_weight > 0:
                    losses = losses + identity_weight * (1 - F.cosine_similarity(identity(fakes), person))
            better = losses.detach() < best_loss  # [N]; False for NaN: a diverged image keeps its best iterate
            best_loss = torch.where(better, losses.detach(), best_loss)
            best_w_plus = torch.where(better[:, None, None], w_plus.detach(), best_w_plus)
            if step < steps:
                optimizer.param_groups[0]["lr"] = lr_at(step, steps, lr)
                optimizer.zero_grad()
                (w_plus.grad,) = torch.autograd.grad(losses.sum(), w_plus)
                optimizer.step()
        results.append(best_w_plus)
        done += len(part)
        if progress is not None:
            progress(done, len(images))
    return torch.cat(results)  # [N, num_ws, w_dim]
