"""Unlimited labelled data: samples with predicted masks, without the most uncertain ones (DatasetGAN, 3.2)."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from editgan.errors import UserError
from editgan.generator.generator import TRUNCATION_PSI, Generator
from editgan.segmentation.ensemble import SegmentationEnsemble
from editgan.segmentation.predict import BATCH, segment
from editgan.segmentation.uncertainty import image_uncertainty


@dataclass(frozen=True)
class LabelledSamples:
    """Samples in the order of their seeds."""

    seeds: list[int]
    images: Tensor  # uint8 [N, 3, H, W]
    masks: Tensor  # part labels, uint8 [N, H, W]
    uncertainty: Tensor  # mean Jensen-Shannon divergence of the most uncertain tenth of pixels, in nats  # [N]
    dropped: int  # number of discarded samples, which are more uncertain than all of these

    def attributes(self) -> list[dict]:
        """Attributes in the form of an image archive."""
        pairs = zip(self.seeds, self.uncertainty.tolist(), strict=True)
        return [{"seed": seed, "uncertainty": round(value, 6)} for seed, value in pairs]


def sampled_latents(G: Generator, seeds: list[int], truncation_psi: float) -> Tensor:
    """One latent per seed; `truncation_psi` < 1 moves them towards the mean latent.  # w_plus [N, num_ws, w_dim]"""
    if not math.isfinite(truncation_psi):
        raise UserError(f"truncation_psi is {truncation_psi}; expected a finite number, e.g. {TRUNCATION_PSI}")
    z = torch.stack([torch.randn(G.z_dim, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
    with torch.no_grad():
        return G.mapping(z.to(G.w_avg.device), truncation_psi)


def labelled_samples(
    G: Generator,
    S: SegmentationEnsemble,
    *,
    count: int,
    drop: float = 0.1,
    seed: int = 0,
    truncation_psi: float = TRUNCATION_PSI,
    progress: Callable[[int, int], None] | None = None,
) -> LabelledSamples:
    """Draw count / (1 - drop) samples, one per seed, and keep the `count` with the least disagreement."""
    if not 0 <= drop < 1:
        raise UserError(f"the share to drop is {drop}; expected 0 or more and less than 1")
    drawn = math.ceil(round(count / (1 - drop), 6))
    seeds, parts = list(range(seed, seed + drawn)), []
    for start in range(0, drawn, BATCH):
        latents = sampled_latents(G, seeds[start : start + BATCH], truncation_psi)
        masks, divergence, images, _ = segment(G, S, latents, latents.device)
        parts.append((masks, image_uncertainty(divergence), images))
        if progress is not None:
            progress(min(start + BATCH, drawn), drawn)
    masks, uncertainty, images = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    kept = uncertainty.argsort(stable=True)[:count].sort().values  # [count]
    seeds = [seeds[index] for index in kept]
    return LabelledSamples(seeds, images[kept], masks[kept], uncertainty[kept], dropped=drawn - count)
