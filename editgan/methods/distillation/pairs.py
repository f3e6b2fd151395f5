"""StyleGAN2 Distillation (Viazovetskyi, Ivashkin & Kashin, ECCV 2020): distil a latent edit into an image network.

Every latent gives three images: its own, and one after a step along the edit in each direction. The pair that a
classifier assigns to opposite classes with the highest confidence is kept. pix2pixHD learns the pairs and then edits a
photo in one forward pass, without inversion.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from editgan.errors import UserError
from editgan.images import to_float, to_uint8
from editgan.methods.distillation.pix2pixhd import GlobalGenerator
from editgan.training import in_batches

SIDES = (-1, 0, 1)  # steps along the direction: less, unchanged, more
PAIRS = ((0, 1), (1, 2), (0, 2))  # of SIDES, (source, target)


class ChosenPairs(NamedTuple):
    """The chosen image pair of each kept latent, sorted by confidence, highest first."""

    latents: Tensor  # indices  # int64 [M]
    sides: Tensor  # indices into SIDES, (source, target)  # int64 [M, 2]
    confidence: Tensor  # probability that both classifications are correct  # [M]


def shifted(w_plus: Tensor, direction: Tensor, *, step: Tensor | float, rows: int) -> Tensor:
    """Move the first (coarse) `rows` rows of w_plus [N, num_ws, w_dim] by step [N] along direction [w_dim]."""
    moved = w_plus.clone()
    moved[:, :rows] += torch.as_tensor(step, device=w_plus.device).reshape(-1, 1, 1) * direction
    return moved


def choose_pairs(logits: Tensor, count: int) -> ChosenPairs:
    """The `count` most confident pairs among the best ones of each latent, from logits [N, 3], a column for each side.

    The source must be classified as without the attribute and the target as with it; the confidence is the product of
    the two probabilities.
    """
    lows, highs = (logits.double()[:, [pair[end] for pair in PAIRS]] for end in (0, 1))  # [N, 3]
    scores = F.logsigmoid(-lows) + F.logsigmoid(highs)  # logarithms, because probabilities saturate
    best, which = scores.where((lows < 0) & (highs > 0), -torch.inf).max(1)  # [N]
    opposite = int(best.isfinite().sum())
    if opposite < count:
        raise UserError(
            f"distillation.pairs {count}: {opposite} of {len(logits)} latents give a pair of opposite classes,"
            f" {count} are needed; raise distillation.samples or step, or lower pairs"
        )
    order = best.argsort(descending=True, stable=True)[:count]
    return ChosenPairs(latents=order, sides=torch.tensor(PAIRS)[which[order]], confidence=best[order].exp())


def smile(net: GlobalGenerator, photos: Tensor, *, batch: int = 50) -> Tensor:
    """Apply the network: photos uint8 [N, 3, H, W] -> the same people smiling, uint8, on the CPU."""
    device = next(net.parameters()).device
    return in_batches(lambda part: to_uint8(net(to_float(part))), photos, batch=batch, device=device)
