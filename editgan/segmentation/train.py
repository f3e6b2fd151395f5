"""Train the ensemble on a few labelled images: random pixels, all members at once."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from editgan.labels import IGNORE
from editgan.segmentation.ensemble import SegmentationEnsemble
from editgan.segmentation.pixels import pixel_sampler
from editgan.training import check_finite, generator_for, seed_everything

SMALL_LABELS_FROM = 256  # pixels; below this side, 30 pixels are a whole eye rather than a labelling error


def drop_small_labels(masks: Tensor, min_pixels: int) -> Tensor:
    """Labels with fewer than `min_pixels` pixels in a mask [N, H, W] become background (0), as in the released code."""
    if masks.shape[-1] < SMALL_LABELS_FROM:
        return masks
    cleaned = masks.clone()
    for mask in cleaned:  # [H, W]
        labels, counts = mask.unique(return_counts=True)
        for label in labels[(counts < min_pixels) & (labels != IGNORE)]:
            mask[mask == label] = 0
    return cleaned


def train_ensemble(
    features: Sequence[Tensor],
    masks: Tensor,
    *,
    class_names: Sequence[str],
    members: int = 10,
    epochs: int = 5,
    batch: int = 64,
    lr: float = 1e-3,
    seed: int = 0,
    report: Callable[[int, int, dict[str, float]], None] | None = None,
) -> SegmentationEnsemble:
    """Cross-entropy on `batch` random pixels per step and member, Adam (EditGAN supplement; DatasetGAN section 3).

    The released code stops when the mini-batch loss has not improved for 50 steps, in practice after 4-5 passes. Here
    the number of passes is fixed, so equal parameters mean equal work. Each member sees every pixel once per pass, in
    its own order, and members are independent: the loss is the sum of their losses.

    Args:
        features: maps of `G.synthesis_features` of the labelled images, [N, C_k, h_k, h_k]
        masks: labels [N, H, H]; pixels with IGNORE have none
        report: called about a hundred times with (step, steps, losses)
    Returns:
        the ensemble in eval mode, frozen
    """
    seed_everything(seed, "segmentation", "init")
    channels = [feature.shape[1] for feature in features]
    ensemble = SegmentationEnsemble(
        feature_channels=channels, num_classes=len(class_names), members=members, class_names=class_names
    ).to(features[0].device)
    optimizer = torch.optim.Adam(ensemble.parameters(), lr=lr, fused=True)
    size, sides = masks.shape[-1], [feature.shape[-1] for feature in features]
    labels = masks.flatten().long()  # [N * size * size]
    steps_per_epoch = max(1, labels.numel() // batch)
    steps, every = epochs * steps_per_epoch, max(1, epochs * steps_per_epoch // 100)
    total, counted = 0.0, 0
    for step in range(steps):
        epoch, within = divmod(step, steps_per_epoch)
        if within == 0:
            orders = pixel_orders(labels.numel(), members, seed, epoch).to(labels.device)  # [M, N * size * size]
        chosen = orders[:, within * batch : (within + 1) * batch]  # [M, P]
        pixels = pixel_sampler(chosen.flatten(), size, sides)(features).unflatten(0, chosen.shape)  # [M, P, C]
        logits = ensemble.member_logits(pixels)  # [M, P, K]
        losses = F.cross_entropy(logits.transpose(1, 2), labels[chosen], reduction="none", ignore_index=IGNORE)
        losses = losses.mean(1)  # [M]
        optimizer.zero_grad()
        losses.sum().backward()
        optimizer.step()
        total, counted = total + losses.detach().mean(), counted + 1
        if report is not None and ((step + 1) % every == 0 or step + 1 == steps):
            mean = {"loss_ce": float(total) / counted}
            check_finite(mean, f"segmentation step {step + 1}")
            report(step + 1, steps, mean)
            total, counted = 0.0, 0
    return ensemble.eval().requires_grad_(False)


def pixel_orders(pixels: int, members: int, seed: int, epoch: int) -> Tensor:
    """One seeded permutation of all pixels per member.  # [M, pixels]"""
    generators = (generator_for(seed, "segmentation", "order", epoch, member) for member in range(members))
    return torch.stack([torch.randperm(pixels, generator=generator) for generator in generators])
