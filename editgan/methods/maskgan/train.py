"""Training of MaskGAN's networks: one loop for the autoencoder and the parser, one for the two-stage mapping."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from editgan.images import to_float
from editgan.methods.distillation.pix2pixhd import MultiscaleDiscriminator, vgg_features, vgg_loss
from editgan.methods.maskgan.losses import (
    AlphaBlender,
    MaskVAE,
    ebst_images,
    maskgan_d_loss,
    maskgan_loss,
    maskgan_terms,
    simulated_edits,
)
from editgan.methods.maskgan.networks import MaskGAN, one_hot
from editgan.methods.maskgan.params import MaskganParams
from editgan.training import (
    STATE_FILE,
    batch_indices,
    check_finite,
    cosine_decay,
    due,
    generator_for,
    load_state,
    save_state,
    set_lr,
)

BETAS = (0.5, 0.999)  # of Adam in adversarial training, as in the paper
FEATURE_MATCHING_WEIGHT = VGG_WEIGHT = 10.0  # the paper's
EBST_RATE = 0.25  # part of the learning rates that is left after stage 1
EBST_DIVISOR = 2.5  # a simulated edit goes 1 / 2.5 of the way to another mask, as in the paper
SNAPSHOT_KIMG, SNAPSHOTS = 2, 20  # thousands of images between two, and the most that a long training takes
STATUS_KIMG = 0.5  # thousands of images from one line of stats.jsonl to the next
STATE_KIMG = 1  # ... from one complete state on disk to the next

NetT = TypeVar("NetT", bound=nn.Module)
OnStatus = Callable[[int, dict[str, float]], None]


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


class Means:
    """Means of named values since the last `take`; `sums` is part of the training state."""

    def __init__(self, sums: dict[str, tuple[float, int]] | None = None) -> None:
        self.sums = sums or {}

    def add(self, values: dict[str, float]) -> None:
        for name, value in values.items():
            total, count = self.sums.get(name, (0.0, 0))
            self.sums[name] = (total + value, count + 1)

    def take(self) -> dict[str, float]:
        means = {name: total / count for name, (total, count) in self.sums.items()}
        self.sums = {}
        return means


def train_on_labels(
    net: NetT,
    terms_at: Callable[[Tensor, int], dict[str, Tensor]],
    weights: dict[str, float],
    *,
    kimg: float,
    batch: int,
    lr: float,
    name: str,
    count: int,
    seed: int,
    work: Path,
    device: torch.device | str = "cpu",
    on_status: OnStatus,
) -> NetT:
    """Minimise the weighted terms with Adam; for the autoencoder and the parser.

    The complete state is saved to `work` every `STATE_KIMG` and loaded from there if it exists. Every random draw
    depends only on (seed, images seen), so a resumed run equals an uninterrupted one bit for bit.

    Args:
        terms_at: called with the indices of a batch and the number of images seen before; terms without a weight are
            only reported.
        count: number of training images.
    Returns:
        net in eval mode, frozen.
    Raises:
        UserError: a term or a gradient is not finite.
    """
    net = net.to(device).train()
    adam = torch.optim.Adam(net.parameters(), lr=0.0)
    total_nimg = round(kimg * 1000)
    cur_nimg, means = 0, Means()
    state = load_state(work)
    if state is not None:
        cur_nimg, means = state["cur_nimg"], Means(state["sums"])
        net.load_state_dict(state["net"])
        adam.load_state_dict(state["adam"])
    started, timed_from = time.monotonic(), cur_nimg

    while cur_nimg < total_nimg:
        terms = terms_at(batch_indices(seed, cur_nimg, batch, count), cur_nimg)
        loss = torch.stack([weight * terms[term] for term, weight in weights.items()]).sum()
        set_lr(adam, lr * cosine_decay(cur_nimg / total_nimg))
        adam.zero_grad(set_to_none=True)
        loss.backward()
        values = {term: value.item() for term, value in terms.items()}
        values["gradient"] = nn.utils.get_total_norm([p.grad for p in net.parameters()]).item()
        check_finite(values, f"{cur_nimg / 1000:.1f} kimg of MaskGAN's {name}", work / STATE_FILE)
        adam.step()
        means.add(values)

        cur_nimg += batch
        finished = cur_nimg >= total_nimg
        if finished or due(cur_nimg, batch, STATUS_KIMG):
            speed = (cur_nimg - timed_from) / (time.monotonic() - started)
            on_status(cur_nimg, means.take() | {"img_per_s": speed})
            started, timed_from = time.monotonic(), cur_nimg
        if finished or due(cur_nimg, batch, STATE_KIMG):
            networks = {"net": net.state_dict(), "adam": adam.state_dict()}
            save_state(work, {"cur_nimg": cur_nimg, "sums": means.sums, **networks})
    return net.eval().requires_grad_(False)


def rate_at(cur_nimg: int, params: MaskganParams) -> float:
    """Relative learning rate: 1 for half of stage 1, then linear to `EBST_RATE`, then in stage 2 linear to 0."""
    first, second = 1000 * params.kimg, 1000 * params.ebst_kimg
    if cur_nimg < first:
        return 1 - (1 - EBST_RATE) * max(0.0, 2 * cur_nimg / first - 1)
    return EBST_RATE * max(0.0, 1 - (cur_nimg - first) / second)


def train_maskgan(
    net: MaskGAN,
    D: MultiscaleDiscriminator,
    blender: AlphaBlender,
    vae: MaskVAE,
    lpips_vgg: nn.Module,
    heads: MaskedHeads,
    params: MaskganParams,
    *,
    seed: int,
    work: Path,
    device: torch.device | str = "cpu",
    on_status: OnStatus,
    on_snapshot: Callable[[int, MaskGAN], dict[str, float]] | None = None,
) -> MaskGAN:
    """Stage 1 reconstructs photos from their masks; stage 2 also reconstructs them by blending two simulated edits.

    Both minimise LSGAN + 10 feature matching + 10 VGG, for the generated and for the blended image. The discriminators
    are conditioned on the photos' masks. The complete state is saved to `work` every `STATE_KIMG` and loaded from there
    if it exists. Every random draw depends only on (seed, images seen), so a resumed run equals an uninterrupted one
    bit for bit.

    Args:
        net, D, blender: trained in place; vae, lpips_vgg: frozen.
        on_status: called with (images seen, mean losses since the last call) every `STATUS_KIMG`.
        on_snapshot: called with (images seen, net) every `SNAPSHOT_KIMG`; its result is added to the next status.
    Returns:
        net in eval mode, frozen.
    Raises:
        UserError: a loss or a gradient is not finite.
    """
    networks = {"net": net, "D": D, "blender": blender}
    adams = {}
    for name, module in networks.items():
        module.to(device).train()
        adams[f"{name}_adam"] = torch.optim.Adam(module.parameters(), lr=0.0, betas=BETAS)
    vae = vae.to(device).eval()
    batch, first_nimg = params.batch, round(params.kimg * 1000)
    total_nimg = first_nimg + round(params.ebst_kimg * 1000)
    cur_nimg, means = 0, Means()
    state = load_state(work)
    if state is not None:
        cur_nimg, means = state["cur_nimg"], Means(state["sums"])
        for name, part in (networks | adams).items():
            part.load_state_dict(state[name])
    started, timed_from = time.monotonic(), cur_nimg

    while cur_nimg < total_nimg:
        # One batch, generated from its own masks, in stage 2 also from two simulated edits.
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

        # As in pix2pixHD's released code, both losses are computed before either network is updated.
        real_out = D(torch.cat([masks, photos], dim=1))
        d_loss = maskgan_d_loss(real_out, [D(torch.cat([masks, fake.detach()], dim=1)) for fake in fakes.values()])
        D.requires_grad_(False)
        outputs = {name: D(torch.cat([masks, fake], dim=1)) for name, fake in fakes.items()}
        D.requires_grad_(True)
        terms = maskgan_terms(real_out, outputs)
        with torch.no_grad():
            wanted = vgg_features(lpips_vgg, photos[: params.vgg_images])
        for name, fake in fakes.items():
            terms[f"{name}vgg"] = vgg_loss(wanted, vgg_features(lpips_vgg, fake[: params.vgg_images]))
        loss = maskgan_loss(terms, feature_matching_weight=FEATURE_MATCHING_WEIGHT, vgg_weight=VGG_WEIGHT)

        part = rate_at(cur_nimg, params)
        for name, adam in adams.items():
            set_lr(adam, part * (params.d_lr if name == "D_adam" else params.lr))
            adam.zero_grad(set_to_none=True)
        loss.backward()
        d_loss.backward()
        values = {name: term.item() for name, term in (terms | {"D": d_loss}).items()}
        values |= {f"{name}l1": (fake.detach() - photos).abs().mean().item() for name, fake in fakes.items()}
        for name, module in networks.items():
            gradients = [p.grad for p in module.parameters() if p.grad is not None]
            if gradients:  # the blender has no gradients in stage 1
                values[f"gradient_{name}"] = nn.utils.get_total_norm(gradients).item()
        check_finite(values, f"{cur_nimg / 1000:.1f} kimg of MaskGAN", work / STATE_FILE)
        for adam in adams.values():
            adam.step()
        means.add(values)

        # Three intervals: snapshot, status, state.
        cur_nimg += batch
        finished = cur_nimg >= total_nimg
        if on_snapshot is not None and (finished or due(cur_nimg, batch, max(SNAPSHOT_KIMG, params.kimg / SNAPSHOTS))):
            with torch.no_grad():
                means.add(on_snapshot(cur_nimg, net))
        if finished or due(cur_nimg, batch, STATUS_KIMG):
            speed = (cur_nimg - timed_from) / (time.monotonic() - started)
            on_status(cur_nimg, means.take() | {"img_per_s": speed})
            started, timed_from = time.monotonic(), cur_nimg
        if finished or due(cur_nimg, batch, STATE_KIMG):
            parts = {name: part.state_dict() for name, part in (networks | adams).items()}
            save_state(work, {"cur_nimg": cur_nimg, "sums": means.sums, **parts})
    return net.eval().requires_grad_(False)
