"""StyleGAN2 Distillation (Viazovetskyi, Ivashkin & Kashin, ECCV 2020): distil a latent edit into an image network.

Every latent gives three images: its own, and one a step in each direction along the edit. The pair that a classifier
assigns to opposite classes with the highest confidence is kept. pix2pixHD learns the pairs and then edits a photo in
one forward pass, without inversion.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from editgan.images import to_float, to_uint8
from editgan.methods.distillation.pix2pixhd import GlobalGenerator, feature_matching_loss, lsgan_g_loss

SIDES = (-1, 0, 1)  # steps along the direction: less, unchanged, more
PAIRS = ((0, 1), (1, 2), (0, 2))  # of SIDES, (source, target)


@dataclass(frozen=True)
class ChosenPairs:
    """The chosen image pair of each kept latent, sorted by confidence, highest first."""

    latents: Tensor  # indices  # int64 [M]
    sides: Tensor  # indices into SIDES, (source, target)  # int64 [M, 2]
    confidence: Tensor  # probability that both classifications are correct  # [M]

    def __len__(self) -> int:
        return len(self.latents)


def shifted(w_plus: Tensor, direction: Tensor, *, step: Tensor | float, rows: int) -> Tensor:
    """Move the first (coarse) `rows` rows of w_plus [N, num_ws, w_dim] by step [N] along direction [w_dim].

    If there are fewer rows, all are moved. The paper moves 8 of 18.
    """
    moved = w_plus.clone()
    moved[:, :rows] += torch.as_tensor(step, device=w_plus.device).reshape(-1, 1, 1) * direction
    return moved


def choose_pairs(logits: Tensor, count: int) -> ChosenPairs:
    """Choose the best pair of each latent and keep the `count` most confident ones.

    The source must be classified as without the attribute and the target as with it. The confidence is the product of
    the two probabilities.

    Args:
        logits: classifier logits, one column per entry of SIDES  # [N, 3]
    Raises:
        ValueError: fewer latents than `count` give a pair of opposite classes.
    """
    lows, highs = (logits.double()[:, [pair[end] for pair in PAIRS]] for end in (0, 1))  # [N, 3]
    scores = F.logsigmoid(-lows) + F.logsigmoid(highs)  # logarithms, because probabilities saturate
    best, which = scores.where((lows < 0) & (highs > 0), -torch.inf).max(1)  # [N]
    opposite = int(best.isfinite().sum())
    if opposite < count:
        raise ValueError(f"{opposite} of {len(logits)} latents give a pair of opposite classes, {count} are needed")
    order = best.argsort(descending=True, stable=True)[:count]
    return ChosenPairs(latents=order, sides=torch.tensor(PAIRS)[which[order]], confidence=best[order].exp())


def translation_terms(real: list[list[Tensor]], fake: list[list[Tensor]], vgg: Tensor) -> dict[str, Tensor]:
    """The unweighted loss terms of the translation network.

    Args:
        real, fake: outputs of the discriminators on (source, target) and on (source, translated source)
        vgg: `vgg_loss` of target and translated source  # scalar
    """
    return {"gan": lsgan_g_loss(fake), "feature_matching": feature_matching_loss(real, fake), "vgg": vgg}


def translation_loss(terms: dict[str, Tensor], *, feature_matching_weight: float, vgg_weight: float) -> Tensor:
    """LSGAN + 10 feature matching + 10 VGG with the paper's weights.  # scalar"""
    return terms["gan"] + feature_matching_weight * terms["feature_matching"] + vgg_weight * terms["vgg"]


def rate_at(progress: float) -> float:
    """Relative learning rate: 1 for the first half of training, then linear decay to 0."""
    return min(1.0, 2 * (1 - progress))


@torch.no_grad()
def smile(net: GlobalGenerator, photos: Tensor, *, batch: int = 50) -> Tensor:
    """Apply the network: photos uint8 [N, 3, H, W] -> the same people smiling, uint8, on the CPU.

    Raises:
        ValueError: an image size that the network does not support (see `GlobalGenerator`).
    """
    device = next(net.parameters()).device
    return torch.cat([to_uint8(net(to_float(part).to(device))).cpu() for part in photos.split(batch)])
