"""Training of MaskGAN's networks, resumable: the autoencoder of masks, the parser, the mapping in two stages."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from editgan.images import to_float
from editgan.methods.distillation.pix2pixhd import MultiscaleDiscriminator
from editgan.methods.maskgan.losses import AlphaBlender, MaskVAE, ebst_images, simulated_edits
from editgan.methods.maskgan.networks import MaskGAN, one_hot
from editgan.methods.params import MaskganParams
from editgan.methods.translation import adversarial_step
from editgan.training import Training, batch_indices, cosine_decay, generator_for, set_lr

EBST_LR = 0.25  # learning rates after stage 1, relative to the initial ones
EBST_DIVISOR = 2.5  # a simulated edit goes 1 / 2.5 of the way to another mask, as in the paper
INTERVALS = dict(status_kimg=0.5, state_kimg=1, snapshot_kimg=2)


@dataclass(frozen=True)
class MaskedHeads:
    """Photos and their masks."""

    photos: Tensor  # uint8 [N, 3, H, W]
    masks: Tensor  # labels  # uint8 [N, H, W]

    def __post_init__(self) -> None:
        expected = (len(self.photos), *self.photos.shape[2:])
        if self.photos.dtype != torch.uint8 or self.masks.dtype != torch.uint8 or self.masks.shape != expected:
            raise ValueError(
                f"photos must be uint8 [N, 3, H, W] and masks uint8 [N, H, W], got {self.photos.dtype}"
                f" {list(self.photos.shape)} and {self.masks.dtype} {list(self.masks.shape)}"
            )

    def __len__(self) -> int:
        return len(self.masks)


def labels_training(
    name: str,
    net: nn.Module,
    terms_at: Callable[[Tensor, int], dict[str, Tensor]],
    *,
    weights: dict[str, float],
    kimg: float,
    batch: int,
    lr: float,
    count: int,
    seed: int,
) -> Training:
    """Minimise weighted terms with Adam, of the autoencoder or the parser; terms without a weight are only reported.

    terms_at: called with the indices of a batch, among `count` images, and the number of images seen before.
    """
    adam, total_nimg = torch.optim.Adam(net.parameters(), lr=0.0), round(1000 * kimg)

    def step(cur_nimg: int) -> dict[str, Tensor]:
        terms = terms_at(batch_indices(seed, cur_nimg, batch, count), cur_nimg)
        loss = torch.stack([weight * terms[term] for term, weight in weights.items()]).sum()
        set_lr(adam, lr * cosine_decay(cur_nimg / total_nimg))
        adam.zero_grad(set_to_none=True)
        loss.backward()
        gradient = nn.utils.get_total_norm([p.grad for p in net.parameters()])
        adam.step()
        return terms | {"gradient": gradient}

    parts = {"net": net, "adam": adam}
    return Training(f"MaskGAN's {name}", step, parts, total_nimg=total_nimg, batch=batch, **INTERVALS)


def relative_lr(cur_nimg: int, params: MaskganParams) -> float:
    """Relative learning rate: 1 for half of stage 1, then linear to `EBST_LR`, then in stage 2 linear to 0."""
    first, second = 1000 * params.kimg, 1000 * params.ebst_kimg
    if cur_nimg < first:
        return 1 - (1 - EBST_LR) * max(0.0, 2 * cur_nimg / first - 1)
    return EBST_LR * max(0.0, 1 - (cur_nimg - first) / second)


def mapping_training(
    net: MaskGAN,
    D: MultiscaleDiscriminator,
    blender: AlphaBlender,
    vae: MaskVAE,
    lpips_vgg: nn.Module,
    heads: MaskedHeads,
    params: MaskganParams,
    *,
    seed: int,
    device: torch.device | str = "cpu",
) -> Training:
    """Stage 1 reconstructs photos from their masks, stage 2 also by blending two simulated edits.

    The discriminators are conditioned on the photos' masks. Trains net, D and blender in place; vae is in eval mode.
    """
    networks = {"net": net, "D": D, "blender": blender}
    for module in networks.values():
        module.to(device).train()
    batch, first_nimg = params.batch, round(params.kimg * 1000)

    def fakes_at(cur_nimg: int) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        indices = batch_indices(seed, cur_nimg, batch, len(heads))
        photos = to_float(heads.photos[indices]).to(device)  # [N, 3, H, W]
        labels = heads.masks[indices].to(device)  # [N, H, W]
        masks = one_hot(labels, net.num_classes)  # [N, num_classes, H, W]
        styles = net.style(photos, masks)  # [N, style_size]
        fakes = {"": net.mapping(masks, styles)}  # [N, 3, H, W]
        if cur_nimg >= first_nimg:
            drawn = torch.randint(len(heads), (batch,), generator=generator_for(seed, "maskgan", "ebst", cur_nimg))
            edits = simulated_edits(vae, labels, heads.masks[drawn].to(device), EBST_DIVISOR)
            inter, outer = (one_hot(edited, net.num_classes) for edited in edits)
            fakes["blend_"] = ebst_images(net, blender, styles, inter, outer)[2]
        return masks, photos, fakes

    def lrs_at(cur_nimg: int) -> tuple[float, float]:
        factor = relative_lr(cur_nimg, params)
        return factor * params.lr, factor * params.d_lr

    step, parts = adversarial_step(networks, fakes_at, lrs_at, lpips_vgg, params.vgg_images)
    total_nimg = first_nimg + round(params.ebst_kimg * 1000)
    return Training("MaskGAN", step, parts, total_nimg=total_nimg, batch=batch, **INTERVALS)
