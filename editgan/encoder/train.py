"""Training of the encoder: samples with known latents first, then real images and samples alternating."""

import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from editgan.encoder.encoder import Encoder
from editgan.encoder.losses import l2_distance, latent_distance, reconstruction_loss
from editgan.encoder.params import EncoderParams
from editgan.generator.generator import TRUNCATION_PSI, Generator
from editgan.images import to_float
from editgan.training import (
    STATE_FILE,
    batch_indices,
    check_finite,
    cosine_decay,
    due,
    generator_for,
    load_state,
    muon_and_adam,
    save_state,
    set_muon_lr,
)

LPIPS_WEIGHT, L2_WEIGHT = 10.0, 1.0  # of the images, EditGAN's
LATENT_WEIGHT = 5.0  # of the distance of the latents, samples only; EditGAN's
SNAPSHOT_KIMG, SNAPSHOTS = 1, 20  # thousands of images between two, and the most that a long training takes
STATUS_KIMG = 0.2  # thousands of images from one line of stats.jsonl to the next
STATE_KIMG = 1  # ... from one complete state on disk to the next


def is_sample_step(cur_nimg: int, batch: int, warmup_nimg: int) -> bool:
    """Whether a step uses samples: always during warm-up, then every second step."""
    return cur_nimg < warmup_nimg or (cur_nimg // batch) % 2 == 0


def train_encoder(
    E: Encoder,
    G: Generator,
    lpips_vgg: nn.Module,
    images: Tensor,
    params: EncoderParams,
    *,
    seed: int,
    work: Path,
    device: torch.device | str = "cpu",
    on_status: Callable[[int, dict[str, float]], None],
    on_snapshot: Callable[[int, Encoder], dict[str, float]] | None = None,
) -> Encoder:
    """Minimise 10 LPIPS + 1 L2 on real images, and the same + 5 latent distance on samples (EditGAN supplement).

    Muon replaces the paper's Adam at a constant 3e-5, which needs far more images. The complete state is saved to
    `work` every `STATE_KIMG` and loaded from there if it exists. Every random draw depends only on (seed, images
    seen), so a resumed run equals an uninterrupted one bit for bit.

    Args:
        E: trained in place; G, lpips_vgg: frozen.
        images: uint8 [M, 3, H, W], the training split.
        on_status: called with (images seen, mean losses since the last call) every `STATUS_KIMG`.
        on_snapshot: called with (images seen, E) every `SNAPSHOT_KIMG`; its result is added to the next status.
    Returns:
        E in eval mode, frozen.
    Raises:
        UserError: a loss or the gradient is not finite.
    """
    if images.shape[1:] != (3, G.img_resolution, G.img_resolution) or images.dtype != torch.uint8:
        raise ValueError(
            f"training images must be uint8 [M, 3, {G.img_resolution}, {G.img_resolution}], got {images.dtype}"
            f" {list(images.shape)}"
        )
    E = E.to(device, memory_format=torch.channels_last).requires_grad_(True)
    muon, adam = muon_and_adam(E.parameters())
    batch, total_nimg, warmup_nimg = params.batch, round(params.kimg * 1000), round(params.warmup_kimg * 1000)
    cur_nimg, sums = 0, {}
    state = load_state(work)
    if state is not None:
        cur_nimg, sums = state["cur_nimg"], state["sums"]
        E.load_state_dict(state["E"])
        muon.load_state_dict(state["muon"])
        adam.load_state_dict(state["adam"])
    started, timed_from = time.monotonic(), cur_nimg

    while cur_nimg < total_nimg:
        # One batch: samples with their latents, or real images.
        if is_sample_step(cur_nimg, batch, warmup_nimg):
            kind = "sample"
            z = torch.randn(batch, G.z_dim, generator=generator_for(seed, "encoder", "z", cur_nimg)).to(device)
            with torch.no_grad():
                w_plus = G.mapping(z, truncation_psi=TRUNCATION_PSI)  # [N, num_ws, w_dim]
                reals = G.synthesis(w_plus, noise_mode="const")  # [N, 3, H, W]
        else:
            kind, w_plus = "real", None
            reals = to_float(images[batch_indices(seed, cur_nimg, batch, len(images))].to(device))  # [N, 3, H, W]

        # One step.
        w_hat = E(reals)  # [N, num_ws, w_dim]
        fakes = G.synthesis(w_hat, noise_mode="const")  # [N, 3, H, W]
        terms = {"lpips": lpips_vgg(fakes, reals).mean(), "l2": l2_distance(fakes, reals).mean()}
        loss = reconstruction_loss(terms["lpips"], terms["l2"], lpips_weight=LPIPS_WEIGHT, l2_weight=L2_WEIGHT)
        if w_plus is not None:
            terms["latent"] = latent_distance(w_plus, w_hat).mean()
            loss = loss + LATENT_WEIGHT * terms["latent"]
        set_muon_lr(muon, adam, params.lr * cosine_decay(cur_nimg / total_nimg))
        E.zero_grad(set_to_none=True)
        loss.backward()
        gradient = nn.utils.get_total_norm([p.grad for p in E.parameters() if p.grad is not None])
        values = {f"{kind}_{name}": term.item() for name, term in terms.items()} | {"gradient": gradient.item()}
        check_finite(values, f"{cur_nimg / 1000:.1f} kimg of the encoder", work / STATE_FILE)
        muon.step()
        adam.step()
        for name, value in values.items():
            total, count = sums.get(name, (0.0, 0))
            sums[name] = (total + value, count + 1)

        # Three intervals: snapshot, status, state.
        cur_nimg += batch
        finished = cur_nimg >= total_nimg
        if on_snapshot is not None and (finished or due(cur_nimg, batch, max(SNAPSHOT_KIMG, params.kimg / SNAPSHOTS))):
            with torch.no_grad():
                measured = on_snapshot(cur_nimg, E)
            sums |= {name: (value, 1) for name, value in measured.items()}
        if finished or due(cur_nimg, batch, STATUS_KIMG):
            means = {name: total / count for name, (total, count) in sums.items()}
            on_status(cur_nimg, means | {"img_per_s": (cur_nimg - timed_from) / (time.monotonic() - started)})
            sums, started, timed_from = {}, time.monotonic(), cur_nimg
        if finished or due(cur_nimg, batch, STATE_KIMG):
            optimizers = {"muon": muon.state_dict(), "adam": adam.state_dict()}
            save_state(work, {"cur_nimg": cur_nimg, "sums": sums, "E": E.state_dict(), **optimizers})
    return E.eval().requires_grad_(False)
