"""StyleGAN2 Distillation (Viazovetskyi, Ivashkin & Kashin, ECCV 2020): an edit of latents becomes a network for photos.

Every latent gives three images: its own, and one a step either way along the direction. Of these a pair is kept that a
classifier calls opposite with the highest confidence. pix2pixHD learns the pairs, and then edits a photo in one
forward pass, with nothing inverted.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from editgan.images import to_float, to_uint8
from editgan.methods.distillation.pix2pixhd import GlobalGenerator, feature_matching_loss, lsgan_g_loss

SIDES = (-1, 0, 1)  # steps from a latent along the direction: less, its own, more
PAIRS = ((0, 1), (1, 2), (0, 2))  # of SIDES, (source, target)


@dataclass(frozen=True)
class ChosenPairs:
    """Which two of its three images each kept latent gives, the most confident first."""

    latents: Tensor  # indices  # int64 [M]
    sides: Tensor  # indices into SIDES, (source, target)  # int64 [M, 2]
    confidence: Tensor  # probability that both calls are right  # [M]

    def __len__(self) -> int:
        return len(self.latents)


def shifted(w_plus: Tensor, direction: Tensor, *, step: Tensor | float, rows: int) -> Tensor:
    """w_plus [N, num_ws, w_dim] moved by step [N] along direction [w_dim] in its first `rows` rows, the coarse ones.

    All rows where there are no more: the paper moves 8 of 18.
    """
    moved = w_plus.clone()
    moved[:, :rows] += torch.as_tensor(step, device=w_plus.device).reshape(-1, 1, 1) * direction
    return moved


def choose_pairs(logits: Tensor, count: int) -> ChosenPairs:
    """The best pair of each latent, and of these the `count` most confident.

    A pair needs a source that is called without the attribute and a target that is called with it; its confidence is
    the product of the two probabilities.

    Args:
        logits: of the classifier, one column for each of SIDES  # [N, 3]
    Raises:
        ValueError: fewer latents than `count` give a pair of opposite classes.
    """
    lows, highs = (logits.double()[:, [pair[end] for pair in PAIRS]] for end in (0, 1))  # [N, 3]
    scores = F.logsigmoid(-lows) + F.logsigmoid(highs)  # logarithms: probabilities themselves saturate
    best, which = scores.where((lows < 0) & (highs > 0), -torch.inf).max(1)  # [N]
    opposite = int(best.isfinite().sum())
    if opposite < count:
        raise ValueError(f"{opposite} of {len(logits)} latents give a pair of opposite classes, {count} are wanted")
    order = best.argsort(descending=True, stable=True)[:count]
    return ChosenPairs(latents=order, sides=torch.tensor(PAIRS)[which[order]], confidence=best[order].exp())


def translation_terms(real: list[list[Tensor]], fake: list[list[Tensor]], vgg: Tensor) -> dict[str, Tensor]:
    """What the translating network minimises, not yet weighted.

    Args:
        real, fake: outputs of the discriminators on (source, target) and on (source, translated source)
        vgg: `vgg_loss` of target and translated source  # scalar
    """
    return {"gan": lsgan_g_loss(fake), "feature_matching": feature_matching_loss(real, fake), "vgg": vgg}


def translation_loss(terms: dict[str, Tensor], *, feature_matching_weight: float, vgg_weight: float) -> Tensor:
    """LSGAN + 10 feature matching + 10 VGG with the paper's weights.  # scalar"""
    return terms["gan"] + feature_matching_weight * terms["feature_matching"] + vgg_weight * terms["vgg"]


def rate_at(progress: float) -> float:
    """Part of the learning rate: whole for the first half of the training, then falling linearly to 0."""
    return min(1.0, 2 * (1 - progress))


@torch.no_grad()
def smile(net: GlobalGenerator, photos: Tensor, *, batch: int = 50) -> Tensor:
    """The edit itself: photos uint8 [N, 3, H, W] -> the same people smiling, uint8, on the CPU.

    Raises:
        ValueError: of what is not divisible into the network's steps (see `GlobalGenerator`).
    """
    device = next(net.parameters()).device
    return torch.cat([to_uint8(net(to_float(part).to(device))).cpu() for part in photos.split(batch)])
