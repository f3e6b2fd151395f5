"""Training of the network that translates neutral heads to smiling ones, on image pairs; resumable."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from editgan.images import to_float
from editgan.methods.distillation.pairs import rate_at, translation_loss, translation_terms
from editgan.methods.distillation.params import DistillationParams
from editgan.methods.distillation.pix2pixhd import (
    GlobalGenerator,
    MultiscaleDiscriminator,
    lsgan_d_loss,
    vgg_features,
    vgg_loss,
)
from editgan.training import STATE_FILE, batch_indices, check_finite, due, generator_for, load_state, save_state, set_lr

BETAS = (0.5, 0.999)  # of Adam, as in the paper
FEATURE_MATCHING_WEIGHT = VGG_WEIGHT = 10.0  # the paper's
SNAPSHOT_KIMG, SNAPSHOTS = 1, 20  # thousands of images between two, and the most that a long training takes
STATUS_KIMG = 0.5  # thousands of pairs from one line of stats.jsonl to the next
STATE_KIMG = 2  # ... from one complete state on disk to the next


@dataclass(frozen=True)
class Pairs:
    """Images of the same people without and with a smile."""

    sources: Tensor  # uint8 [N, 3, H, W]
    targets: Tensor  # uint8 [N, 3, H, W]

    def __len__(self) -> int:
        return len(self.sources)


def drawn(pairs: Pairs, params: DistillationParams, seed: int, cur_nimg: int) -> tuple[Tensor, Tensor]:
    """The batch at position `cur_nimg`: (sources, targets), float [batch, 3, H, W], mirrored together."""
    indices = batch_indices(seed, cur_nimg, params.batch, len(pairs))
    both = torch.stack([pairs.sources[indices], pairs.targets[indices]])  # [2, batch, 3, H, W]
    if params.mirror:
        flip = torch.rand(params.batch, generator=generator_for(seed, "distillation", "mirror", cur_nimg)) < 0.5
        both = torch.where(flip[:, None, None, None], both.flip(4), both)
    return to_float(both[0]), to_float(both[1])


def train_distillation(
    net: GlobalGenerator,
    D: MultiscaleDiscriminator,
    lpips_vgg: nn.Module,
    pairs: Pairs,
    params: DistillationParams,
    *,
    seed: int,
    work: Path,
    device: torch.device | str = "cpu",
    on_status: Callable[[int, dict[str, float]], None],
    on_snapshot: Callable[[int, GlobalGenerator], dict[str, float]] | None = None,
) -> GlobalGenerator:
    """Minimise LSGAN + 10 feature matching + 10 VGG (pix2pixHD) on `params.kimg` thousand pairs.

    As in the released code, both losses are computed before either network is updated. The complete state is saved to
    `work` every `STATE_KIMG` and loaded from there if it exists. Every random draw depends only on (seed, images
    seen), so a resumed run equals an uninterrupted one bit for bit.

    Args:
        net, D: trained in place; lpips_vgg: frozen.
        on_status: called with (images seen, mean losses since the last call) every `STATUS_KIMG`.
        on_snapshot: called with (images seen, net) every `SNAPSHOT_KIMG`; its result is added to the next status.
    Returns:
        net in eval mode, frozen.
    Raises:
        UserError: a loss or a gradient is not finite.
    """
    if pairs.sources.shape != pairs.targets.shape or pairs.sources.dtype != torch.uint8:
        raise ValueError(
            f"pairs must be uint8 images of one shape, got {pairs.sources.dtype} {list(pairs.sources.shape)} and"
            f" {pairs.targets.dtype} {list(pairs.targets.shape)}"
        )
    net = net.to(device).train()
    D = D.to(device).train()
    net_adam, d_adam = (torch.optim.Adam(module.parameters(), lr=0.0, betas=BETAS) for module in (net, D))
    trained = {"net": net, "D": D, "net_adam": net_adam, "d_adam": d_adam}
    batch, total_nimg = params.batch, round(params.kimg * 1000)
    cur_nimg, sums = 0, {}
    state = load_state(work)
    if state is not None:
        cur_nimg, sums = state["cur_nimg"], state["sums"]
        for name, part in trained.items():
            part.load_state_dict(state[name])
    started, timed_from = time.monotonic(), cur_nimg

    while cur_nimg < total_nimg:
        sources, targets = (images.to(device) for images in drawn(pairs, params, seed, cur_nimg))  # [N, 3, H, W]
        fakes = net(sources)  # [N, 3, H, W]

        # The discriminators are conditioned on the source.
        real_out = D(torch.cat([sources, targets], dim=1))
        d_loss = lsgan_d_loss(real_out, D(torch.cat([sources, fakes.detach()], dim=1)))

        D.requires_grad_(False)
        fake_out = D(torch.cat([sources, fakes], dim=1))
        D.requires_grad_(True)
        with torch.no_grad():
            wanted = vgg_features(lpips_vgg, targets[: params.vgg_images])
        vgg = vgg_loss(wanted, vgg_features(lpips_vgg, fakes[: params.vgg_images]))
        terms = translation_terms(real_out, fake_out, vgg)
        loss = translation_loss(terms, feature_matching_weight=FEATURE_MATCHING_WEIGHT, vgg_weight=VGG_WEIGHT)

        for optimizer, rate in ((net_adam, params.lr), (d_adam, params.d_lr)):
            set_lr(optimizer, rate * rate_at(cur_nimg / total_nimg))
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        d_loss.backward()
        values = {name: term.item() for name, term in (terms | {"D": d_loss}).items()}
        values["l1"] = (fakes.detach() - targets).abs().mean().item()
        for name, module in (("gradient", net), ("gradient_D", D)):
            values[name] = nn.utils.get_total_norm([p.grad for p in module.parameters()]).item()
        check_finite(values, f"{cur_nimg / 1000:.1f} kimg of distillation", work / STATE_FILE)
        net_adam.step()
        d_adam.step()
        for name, value in values.items():
            total, count = sums.get(name, (0.0, 0))
            sums[name] = (total + value, count + 1)

        # Three intervals: snapshot, status, state.
        cur_nimg += batch
        finished = cur_nimg >= total_nimg
        if on_snapshot is not None and (finished or due(cur_nimg, batch, max(SNAPSHOT_KIMG, params.kimg / SNAPSHOTS))):
            with torch.no_grad():
                measured = on_snapshot(cur_nimg, net)
            sums |= {name: (value, 1) for name, value in measured.items()}
        if finished or due(cur_nimg, batch, STATUS_KIMG):
            means = {name: total / count for name, (total, count) in sums.items()}
            on_status(cur_nimg, means | {"img_per_s": (cur_nimg - timed_from) / (time.monotonic() - started)})
            sums, started, timed_from = {}, time.monotonic(), cur_nimg
        if finished or due(cur_nimg, batch, STATE_KIMG):
            position = {"cur_nimg": cur_nimg, "sums": sums}
            save_state(work, position | {name: part.state_dict() for name, part in trained.items()})
    return net.eval().requires_grad_(False)
