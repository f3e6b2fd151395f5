"""Training of the network that translates neutral heads to smiling ones, on image pairs; resumable."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from editgan.images import to_float
from editgan.methods.distillation.pix2pixhd import GlobalGenerator, MultiscaleDiscriminator
from editgan.methods.params import DistillationParams
from editgan.methods.translation import adversarial_step
from editgan.training import Training, batch_indices, generator_for

INTERVALS = dict(status_kimg=0.5, state_kimg=2, snapshot_kimg=1)


@dataclass(frozen=True)
class Pairs:
    """Images of the same people without and with a smile."""

    sources: Tensor  # uint8 [N, 3, H, W]
    targets: Tensor  # uint8 [N, 3, H, W]

    def __len__(self) -> int:
        return len(self.sources)


def drawn(pairs: Pairs, params: DistillationParams, seed: int, cur_nimg: int) -> tuple[Tensor, Tensor]:
    """The batch at position `cur_nimg`: (sources, targets), float [batch, 3, H, W].

    Both images of a pair are mirrored with probability 1/2.
    """
    indices = batch_indices(seed, cur_nimg, params.batch, len(pairs))
    both = torch.stack([pairs.sources[indices], pairs.targets[indices]])  # [2, batch, 3, H, W]
    flip = torch.rand(params.batch, generator=generator_for(seed, "distillation", "mirror", cur_nimg)) < 0.5
    both = torch.where(flip[:, None, None, None], both.flip(4), both)
    return to_float(both[0]), to_float(both[1])


def relative_lr(progress: float) -> float:
    """Relative learning rate: 1 for the first half of training, then linear decay to 0."""
    return min(1.0, 2 * (1 - progress))


def distillation_training(
    net: GlobalGenerator,
    D: MultiscaleDiscriminator,
    lpips_vgg: nn.Module,
    pairs: Pairs,
    params: DistillationParams,
    *,
    seed: int,
    device: torch.device | str = "cpu",
) -> Training:
    """pix2pixHD on pairs; D is conditioned on the source. Trains net and D in place."""
    if pairs.sources.shape != pairs.targets.shape or pairs.sources.dtype != torch.uint8:
        raise ValueError(
            f"pairs must be uint8 images of one shape, got {pairs.sources.dtype} {list(pairs.sources.shape)} and"
            f" {pairs.targets.dtype} {list(pairs.targets.shape)}"
        )
    networks = {"net": net.to(device).train(), "D": D.to(device).train()}
    total_nimg = round(params.kimg * 1000)

    def fakes_at(cur_nimg: int) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        sources, targets = (images.to(device) for images in drawn(pairs, params, seed, cur_nimg))  # [N, 3, H, W]
        return sources, targets, {"": net(sources)}

    def lrs_at(cur_nimg: int) -> tuple[float, float]:
        factor = relative_lr(cur_nimg / total_nimg)
        return params.lr * factor, params.d_lr * factor

    adversarial, parts = adversarial_step(networks, fakes_at, lrs_at, lpips_vgg, params.vgg_images)

    def step(cur_nimg: int) -> dict[str, Tensor]:
        values = adversarial(cur_nimg)
        values["gradient"] = values.pop("gradient_net")  # its name in the curves of this stage
        return values

    return Training("distillation", step, parts, total_nimg=total_nimg, batch=params.batch, **INTERVALS)
