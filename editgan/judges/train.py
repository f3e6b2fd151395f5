"""Train one smile classifier on labelled heads; resumable."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from editgan.images import to_float
from editgan.judges.classifier import SmileClassifier
from editgan.judges.params import JudgesParams
from editgan.training import Training, batch_indices, cosine_decay, generator_for, set_lr

INTERVALS = dict(status_kimg=4, state_kimg=8)
MAX_SHIFT = 1 / 32  # relative to the image's side, in each direction


@dataclass(frozen=True)
class LabelledHeads:
    """Heads with a clear label: smiling or not."""

    images: Tensor  # uint8 [N, 3, H, W]
    smiling: Tensor  # bool [N]


def split_halves(identities: list[int], seed: int) -> tuple[set[int], set[int]]:
    """Two disjoint halves, A and B, of the people in `identities`; all images of a person belong to one half."""
    people = torch.tensor(sorted(set(identities)))
    order = people[torch.randperm(len(people), generator=generator_for(seed, "judges", "halves"))].tolist()
    middle = len(order) // 2
    return set(order[:middle]), set(order[middle:])


def select_clear(smile: list[float], threshold: float, low: float = 0.0) -> tuple[Tensor, Tensor]:
    """Indices [M] of the heads with a clear label, and their labels, bool [M].

    True from `threshold` on, False up to `low`; heads in between and unknown ones (nan) are left out.
    """
    strength = torch.tensor(smile, dtype=torch.float64)
    smiling = strength >= threshold
    clear = torch.nonzero(smiling | (strength <= low)).squeeze(1)
    return clear, smiling[clear]


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Randomly mirror, shift, change contrast and brightness, blur and add noise: float [N, 3, H, W] in [-1, 1].

    Judges see generated pictures, which are softer than rendered ones and have other noise.
    """
    count, _, height, width = images.shape

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, 1, 1, 1, generator=generator)

    x = torch.where(uniform(0, 1) < 0.5, images.flip(3), images)
    reach = max(1, round(MAX_SHIFT * width))
    rows = torch.arange(height) + torch.randint(-reach, reach + 1, (count, 1), generator=generator)  # [N, H]
    columns = torch.arange(width) + torch.randint(-reach, reach + 1, (count, 1), generator=generator)  # [N, W]
    picture = torch.arange(count)[:, None, None]
    x = x.permute(0, 2, 3, 1)[picture, rows.clamp(0, height - 1)[:, :, None], columns.clamp(0, width - 1)[:, None, :]]
    x = x.permute(0, 3, 1, 2)  # [N, 3, H, W]
    x = x * uniform(0.8, 1.2) + uniform(-0.1, 0.1)
    blurred = F.interpolate(F.avg_pool2d(x, 2), size=(height, width), mode="bilinear", align_corners=False)
    x = torch.lerp(x, blurred, uniform(-0.5, 0.5).clamp(min=0))  # half of the images are not blurred
    noise = torch.randn(x.shape, generator=generator) * uniform(-0.05, 0.05).clamp(min=0)
    return (x + noise).clamp(-1, 1)


def classifier_training(
    net: SmileClassifier, heads: LabelledHeads, params: JudgesParams, *, name: str, seed: int, device: torch.device
) -> Training:
    """Minimise cross-entropy. Trains net in place."""
    net = net.to(device).train()
    adam, total_nimg = torch.optim.Adam(net.parameters(), lr=0.0), round(params.kimg * 1000)

    def step(cur_nimg: int) -> dict[str, Tensor]:
        indices = batch_indices(seed, cur_nimg, params.batch, len(heads.images))
        generator = generator_for(seed, "judges", name, cur_nimg)
        images = augment(to_float(heads.images[indices]), generator).to(device)
        smiling = heads.smiling[indices].to(device, torch.float32)  # [batch]
        logits = net(images)  # [batch]
        loss = F.binary_cross_entropy_with_logits(logits, smiling)
        set_lr(adam, params.lr * cosine_decay(cur_nimg / total_nimg))
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()
        return {"loss": loss, "accuracy": ((logits > 0) == (smiling > 0.5)).double().mean()}

    sizes = dict(total_nimg=total_nimg, batch=params.batch)
    return Training(f"the {name} classifier", step, {"net": net, "adam": adam}, **sizes, **INTERVALS)
