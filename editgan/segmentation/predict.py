"""Latents -> images, features, masks and ensemble disagreement, batch by batch."""

import torch
from torch import Tensor

from editgan.generator.generator import Generator
from editgan.images import to_uint8
from editgan.segmentation.ensemble import SegmentationEnsemble
from editgan.segmentation.uncertainty import js_divergence

BATCH = 16  # images per batch of G


@torch.no_grad()
def features_of(generator: Generator, w_plus: Tensor, device: torch.device) -> tuple[Tensor, list[Tensor]]:
    """Images uint8 [N, 3, H, W] and feature maps [N, C_k, h_k, h_k] of latents [N, num_ws, w_dim]."""
    parts = (generator.synthesis_features(chunk.to(device)) for chunk in w_plus.split(BATCH))
    images, features = zip(*parts, strict=True)
    return to_uint8(torch.cat(images)), [torch.cat(maps) for maps in zip(*features, strict=True)]


@torch.no_grad()
def render(generator: Generator, ensemble: SegmentationEnsemble, w_plus: Tensor) -> tuple[Tensor, Tensor]:
    """Images uint8 [N, 3, H, W] and their predicted masks uint8 [N, H, W] of latents [N, num_ws, w_dim], on the CPU."""
    rows = []
    for chunk in w_plus.split(BATCH):
        images, features = generator.synthesis_features(chunk.to(generator.w_avg.device), noise_mode="const")
        rows.append((to_uint8(images).cpu(), ensemble.predict(features, images.shape[-1]).cpu()))
    images, masks = (torch.cat(parts) for parts in zip(*rows, strict=True))
    return images, masks


def predict_masks(generator: Generator, ensemble: SegmentationEnsemble, w_plus: Tensor) -> Tensor:
    """Predicted masks of the images of latents [N, num_ws, w_dim], on the CPU.  # labels, uint8 [N, H, W]"""
    return render(generator, ensemble, w_plus)[1]


@torch.no_grad()
def segment(
    generator: Generator, ensemble: SegmentationEnsemble, w_plus: Tensor, device: torch.device
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Segment the images of latents, on the CPU.

    Returns predicted masks uint8 [N, H, W], disagreement of members [N, H, W], images uint8 [N, 3, H, W], and the
    masks predicted by each member, uint8 [N, M, H, W].
    """
    rows = []
    for chunk in w_plus.split(BATCH):
        images, features = generator.synthesis_features(chunk.to(device))
        for image, *maps in zip(images.split(1), *(feature.split(1) for feature in features), strict=True):
            logits = ensemble(maps, image.shape[-1])  # [1, M, K, H, W]
            masks = logits.mean(1).argmax(1).to(torch.uint8)  # [1, H, W]
            alone = logits.argmax(2).to(torch.uint8)  # [1, M, H, W]
            rows.append((masks.cpu(), js_divergence(logits).cpu(), to_uint8(image).cpu(), alone.cpu()))
    return tuple(torch.cat(parts) for parts in zip(*rows, strict=True))
