"""Train one smile classifier on labelled heads. A resumed run is bit-identical to an uninterrupted one."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from editgan.images import to_float
from editgan.judges.classifier import SmileClassifier
from editgan.training import batch_indices, check_finite, cosine_decay, due, generator_for, load_state, save_state

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


def select_clear(smile: list[float], threshold: float) -> tuple[Tensor, Tensor]:
    """Indices [M] of the heads with a clear label, and their labels, bool [M].

    Smiling means a strength of at least `threshold`, not smiling a strength of exactly 0. Intermediate strengths are
    ambiguous for people too and are left out of training and of accuracy.
    """
    strength = torch.tensor(smile, dtype=torch.float64)
    smiling = strength >= threshold
    clear = torch.nonzero(smiling | (strength == 0)).squeeze(1)
    return clear, smiling[clear]


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Randomly mirror, shift, change contrast and brightness, blur and add noise, independently per image.

    Judges see generated pictures, which are softer than rendered ones and have other noise. Neither should affect the
    decision about the mouth. Input and output are float [N, 3, H, W] in [-1, 1].
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


def train_classifier(
    net: SmileClassifier,
    heads: LabelledHeads,
    *,
    name: str,
    seed: int,
    total_nimg: int,
    batch: int,
    lr: float,
    status_kimg: float,
    state_kimg: float,
    work: Path,
    device: torch.device,
    on_status: Callable[[int, dict[str, float]], None],
) -> SmileClassifier:
    """Train `net` with cross-entropy on `total_nimg` images and return it in eval mode, frozen.

    The complete state is written to `work` every `state_kimg` and loaded from there if present. Every random draw
    depends only on (seed, name, images seen), so a resumed run is bit-identical to an uninterrupted one.

    Args:
        on_status: gets (images seen, {"loss", "accuracy", "img_per_s"}) every `status_kimg`; the first two are
            means since the last call.
    """
    net = net.to(device).train()
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    cur_nimg, loss_sum, correct, seen = 0, 0.0, 0, 0
    state = load_state(work)
    if state is not None:
        cur_nimg, loss_sum, correct, seen = (state[name] for name in ("cur_nimg", "loss_sum", "correct", "seen"))
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])

    started, timed_from = time.monotonic(), cur_nimg
    while cur_nimg < total_nimg:
        indices = batch_indices(seed, cur_nimg, batch, len(heads.images))
        generator = generator_for(seed, "judges", name, cur_nimg)
        images = augment(to_float(heads.images[indices]), generator).to(device)
        smiling = heads.smiling[indices].to(device, torch.float32)  # [batch]

        for group in optimizer.param_groups:
            group["lr"] = lr * cosine_decay(cur_nimg / total_nimg)
        logits = net(images)  # [batch]
        loss = F.binary_cross_entropy_with_logits(logits, smiling)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

        cur_nimg += batch
        finished = cur_nimg >= total_nimg
        loss_sum += loss.item() * batch
        correct += int(((logits > 0) == (smiling > 0.5)).sum())
        seen += batch
        if finished or due(cur_nimg, batch, status_kimg):
            status = {"loss": loss_sum / seen, "accuracy": correct / seen}
            check_finite(status, f"{cur_nimg / 1000:.1f} kimg of the {name} classifier")
            on_status(cur_nimg, status | {"img_per_s": (cur_nimg - timed_from) / (time.monotonic() - started)})
            loss_sum, correct, seen = 0.0, 0, 0
            started, timed_from = time.monotonic(), cur_nimg
        if finished or due(cur_nimg, batch, state_kimg):
            position = {"cur_nimg": cur_nimg, "loss_sum": loss_sum, "correct": correct, "seen": seen}
            save_state(work, {**position, "net": net.state_dict(), "optimizer": optimizer.state_dict()})
    return net.cpu().eval().requires_grad_(False)
