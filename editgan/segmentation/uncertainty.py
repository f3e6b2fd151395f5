"""Disagreement of the ensemble's members (DatasetGAN, section 3.2)."""

import torch
from torch import Tensor

TOP_SHARE = 0.1  # the uncertainty of an image is that of its most uncertain tenth of pixels


def entropy(probabilities: Tensor, dim: int) -> Tensor:
    """Shannon entropy in nats along `dim`; 0 log 0 = 0."""
    return -torch.xlogy(probabilities, probabilities).sum(dim)


def js_divergence(logits: Tensor) -> Tensor:
    """Jensen-Shannon divergence of the members per pixel: H(mean p_m) - mean H(p_m), in nats.

    logits: [N, M, K, H, W]  ->  [N, H, W], from 0 (all agree) to log min(M, K)
    """
    probabilities = logits.softmax(2)  # [N, M, K, H, W]
    return (entropy(probabilities.mean(1), 1) - entropy(probabilities, 2).mean(1)).clamp(min=0)


def image_uncertainty(divergence: Tensor) -> Tensor:
    """Mean of the top tenth of pixels: [N, H, W] -> [N]"""
    flat = divergence.flatten(1)  # [N, H * W]
    return flat.topk(max(1, int(TOP_SHARE * flat.shape[1])), dim=1).values.mean(1)


def uncertainty_auroc(divergence: Tensor, wrong: Tensor) -> float | None:
    """How well disagreement predicts errors: the probability that a wrong pixel is more uncertain than a correct one.

    divergence [N, H, W], wrong bool [N, H, W] -> 0.5 (not at all) to 1; None if no pixel or every pixel is wrong.
    """
    if wrong.all() or not wrong.any():
        return None
    from torchmetrics.functional.classification import binary_auroc  # imports torchvision: seconds

    return float(binary_auroc(divergence.flatten(), wrong.flatten().long()))
