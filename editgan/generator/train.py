"""Adversarial training, in one resumable loop.

There are two recipes. `loss: relativistic` is ours: a pixel discriminator with the relativistic pairing loss and
finite-difference penalties on reals and fakes (R3GAN), plus a projected discriminator (Projected GAN). `loss: logistic`
is StyleGAN2's: R1, path length regularisation, adaptive augmentation.

Positions are counted in images. Every step seeds torch from (seed, position), so a resumed run equals an uninterrupted
one, bit for bit on a CPU with the same number of processes.

Unlike all releases, each discriminator runs forward once for both losses. G's loss is differentiated with respect to
the images, then through G. D's loss is differentiated with respect to D's weights, on the same graph.
"""

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from editgan.generator import losses
from editgan.generator.augment import adapted, augment
from editgan.generator.discriminator import Discriminator
from editgan.generator.generator import Generator
from editgan.generator.losses import draw_latents, mean_w, mixed_ws
from editgan.generator.origin import load_origin
from editgan.generator.parallel import Ranks
from editgan.generator.params import GeneratorParams
from editgan.generator.pixel_discriminator import PixelDiscriminator
from editgan.generator.projected_discriminator import STATISTICS_IMAGES, ProjectedDiscriminator, diffaugment
from editgan.generator.state import WARMUP_KIMG, find_state, save_light
from editgan.images import to_float
from editgan.runtime.precision import autocast
from editgan.training import (
    ADAM_BETAS,
    STATE_FILE,
    Averages,
    batch_indices,
    check_finite,
    cosine_decay,
    due,
    ema_beta,
    ema_update,
    generator_for,
    lazy_adam,
    sanitize_gradients,
    save_state,
    seed_everything,
    set_lr,
)
from editgan.weights import save_module

if TYPE_CHECKING:
    from editgan.generator.snapshots import Recorder

FINAL_LR = 0.1  # learning rates at the end of the decay, relative to the initial ones
FINITE_STEP = 0.05  # step of the finite differences: std of the noise added to images in [-1, 1]
PL_DECAY = 0.01  # update rate of the running mean of path lengths
PL_BATCH_SHRINK = 2  # path lengths use 1 / PL_BATCH_SHRINK of the batch
ADA_INTERVAL = 4  # steps between updates of the augmentation probability
ADA_KIMG = 500  # kimg in which this probability can rise from 0 to 1, as in the paper
PROJECTED_LR = 0.0002  # learning rate of the projected discriminator's Adam, as in Projected GAN
BEST_FILE = "G_ema_best.safetensors"  # the snapshot with the lowest KID, next to the state


@dataclass(frozen=True)
class Networks:
    """The networks of a training; `P` is None without a projected discriminator."""

    G: Generator
    G_ema: Generator
    D: nn.Module
    P: ProjectedDiscriminator | None

    def named(self) -> dict[str, nn.Module]:
        named = {"G": self.G, "G_ema": self.G_ema, "D": self.D, "P": self.P}
        return {name: network for name, network in named.items() if network is not None}


def build_networks(
    params: GeneratorParams,
    resolution: int,
    seed: int,
    backbone: nn.Module | None,
    images: Tensor,
    device: torch.device,
) -> Networks:
    """New networks, identical on every rank. `images`, uint8 [N, 3, res, res], standardise the projected features."""
    seed_everything(seed, "generator", "init")
    generator = Generator(
        z_dim=params.w_dim,
        w_dim=params.w_dim,
        img_resolution=resolution,
        channel_base=params.channel_base,
        channel_max=params.channel_max,
        num_mapping_layers=params.num_mapping_layers,
    ).to(device, memory_format=torch.channels_last)
    kind = {"stylegan2": Discriminator, "pixel": PixelDiscriminator}[params.discriminator]
    discriminator = kind(
        img_resolution=resolution,
        channel_base=params.d_channel_base,
        channel_max=params.d_channel_max or params.channel_max,
        mbstd_group=params.mbstd_group,
    ).to(device, memory_format=torch.channels_last)
    projected = None
    if backbone is not None:
        projected = ProjectedDiscriminator(
            backbone=backbone.to(device), size=resolution, width=params.projected_width, seed=seed
        ).to(device)
        projected.standardise(to_float(images[:STATISTICS_IMAGES]).to(device))
    return Networks(generator, copy.deepcopy(generator).eval().requires_grad_(False), discriminator, projected)


def train(
    ranks: Ranks,
    *,
    params: GeneratorParams,
    resolution: int,
    seed: int,
    images: Tensor,
    backbone: nn.Module | None,
    device: torch.device,
    precision: str,
    folder: Path,
    light: Path | None = None,
    origin: Path | None = None,
    recorder: "Recorder | None" = None,
) -> Networks:
    """Train from the complete state in `folder`, else from the light state, else from the networks in `origin`,
    else from scratch.

    Args:
        images: uint8 [N, 3, resolution, resolution].
        backbone: pretrained network of the projected discriminator; None: no projected discriminator.
        precision: float32 or bfloat16 for forward and backward passes; penalties always use float32.
        folder: folder of the complete state and of the best snapshot.
        light: file of the light state, which is written with every snapshot.
        origin: folder of another run's G_ema and D; None: start from scratch.
        recorder: only on rank 0; the other ranks write nothing.

    Raises:
        UserError: the training diverged; the message names the last good state.
    """
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False  # gradient penalties are differences of logits: they need float32
    settings = params.model_dump(mode="json")
    state = find_state(folder, light, settings)
    if ranks.rank == 0 and state.get("processes", ranks.world) != ranks.world:
        print(
            f"generator: {state['processes']} processes before, {ranks.world} now: not bit-for-bit repeatable",
            flush=True,
        )
    networks = build_networks(params, resolution, seed, backbone, images, device)
    G, G_ema, D, P = networks.G, networks.G_ema, networks.D, networks.P
    begin = state or ({} if origin is None else load_origin(origin, G, D))
    for name, network in networks.named().items():
        if name in begin:
            network.load_state_dict(begin[name])
    relativistic = params.loss == "relativistic"
    lazy = not relativistic  # StyleGAN2 uses a separate step for each regulariser
    optimizers = {
        "g": lazy_adam(G.parameters(), params.pl_interval if params.pl_weight > 0 else None),
        "d": lazy_adam(D.parameters(), params.r1_interval if lazy and params.r1_gamma > 0 else None),
    }
    if P is not None:
        optimizers["p"] = torch.optim.Adam(P.heads.parameters(), lr=PROJECTED_LR, betas=ADAM_BETAS, fused=True)
    for name, optimizer in optimizers.items():
        if name in state.get("optimizers", {}):
            optimizer.load_state_dict(state["optimizers"][name])
    cur_nimg, end, batch = state.get("cur_nimg", 0), round(params.kimg * 1000), params.batch
    warm_from = begin.get("warm_from")  # image count at which the optimisers started afresh, from trained networks
    pl_mean = state.get("pl_mean", torch.tensor(float("nan"))).to(device)
    p, signs = state.get("augment_p", 0.0), state.get("augment_signs", [])  # ADA: probability, r_t since its change
    best = state.get("best")  # [kimg, KID] of the snapshot in BEST_FILE
    averages, noise_mode = Averages(), "random" if params.noise else "none"
    if recorder is not None and state:
        recorder.resume(state["history"])
        if "optimizers" not in state:
            recorder.tick(cur_nimg, {"from_light_state": 1.0})
    elif recorder is not None:
        recorder.grid(G, "fakes_init")

    while cur_nimg < end:
        seed_everything(seed, "generator", "adversarial", cur_nimg)
        step, progress = cur_nimg // batch, cur_nimg / end
        factor = relative_lr(progress, params.lr_decay_from)
        if warm_from is not None:
            factor *= min(1.0, (cur_nimg - warm_from + batch) / (WARMUP_KIMG * 1000))
        set_lr(optimizers["g"], params.g_lr * factor)
        set_lr(optimizers["d"], params.d_lr * factor)
        real = real_batch(images, cur_nimg, batch, seed, ranks, device)  # [n, 3, res, res]
        draws = ranks.rows(torch.rand(batch, 2, 5))  # random numbers of DiffAugment, for reals and fakes
        moves = [ranks.rows(torch.randn(batch, 3, resolution, resolution)).to(device) for _ in range(2)]
        z, cutoff = draw_latents(G, batch, params.style_mixing_prob)
        z = ranks.rows(z).to(device)  # [n, 2, z_dim]
        projects = P is not None and cur_nimg >= params.projected_from_kimg * 1000
        seed_everything(seed, "generator", "adversarial", cur_nimg, ranks.rank)  # per rank, for noise inputs and ADA

        # One forward pass for both losses
        with autocast(device, precision):
            fake = G.synthesis(mixed_ws(G, z, cutoff), noise_mode)
            shown = fake.detach().requires_grad_(True)
            real_in, fake_in = augment(real, p), augment(shown, p)
            real_logits, fake_logits = D(real_in), D(fake_in)  # [n, 1]
            if relativistic:
                g_loss = losses.relativistic_generator_loss(real_logits.detach(), fake_logits)
                d_loss = losses.relativistic_discriminator_loss(real_logits, fake_logits)
            else:
                g_loss = losses.generator_loss(fake_logits)
                d_loss = losses.discriminator_loss(real_logits, fake_logits)
            stats = {"loss/G": g_loss, "loss/D": d_loss, "r_t": real_logits.sign().mean()}
            stats |= {"logits/real": real_logits.mean(), "logits/fake": fake_logits.mean()}
            if projects:
                with torch.no_grad():
                    real_features = P.features(diffaugment(real, draws[:, 0]))
                p_real, p_fake = P.logits(real_features), P.logits(P.features(diffaugment(shown, draws[:, 1])))
                p_g_loss = losses.hinge_generator_loss(p_fake)
                p_loss = losses.hinge_discriminator_loss(p_real, p_fake)
                g_loss = g_loss + params.projected_weight * p_g_loss
                stats |= {"loss/projected_G": p_g_loss, "loss/projected_D": p_loss}

        # G: differentiate its loss to the images, then to its weights
        (gradient,) = torch.autograd.grad(g_loss, shown, retain_graph=True)
        optimizers["g"].zero_grad(set_to_none=True)
        fake.backward(gradient)

        # D and the projected discriminator, on the same graph
        if relativistic and params.r1_gamma > 0 and step % params.r1_interval == 0:
            with autocast(device, "float32"):
                penalties = []
                for x, logits, e in ((real_in, real_logits, moves[0]), (fake_in.detach(), fake_logits, moves[1])):
                    base = logits if precision == "float32" else D(x)
                    penalties.append(losses.finite_difference_penalty(D(x + FINITE_STEP * e), base, FINITE_STEP))
            averages.add({"loss/r1": penalties[0].item(), "loss/r2": penalties[1].item()})
            d_loss = d_loss + sum(penalties) * (params.r1_gamma / 2) * params.r1_interval
        optimizers["d"].zero_grad(set_to_none=True)
        d_loss.backward(inputs=list(D.parameters()))
        trained = {"g": G, "d": D}
        if projects:
            optimizers["p"].zero_grad(set_to_none=True)
            p_loss.backward(inputs=list(P.heads.parameters()))
            trained["p"] = P.heads
        ranks.average_gradients(*trained.values())
        for name, network in trained.items():
            take_step(network, optimizers[name])

        # StyleGAN2's lazy regularisers
        if params.pl_weight > 0 and step % params.pl_interval == 0:
            part = z[: max(len(z) // PL_BATCH_SHRINK, 1)]
            lengths = losses.path_lengths(G, mixed_ws(G, part, cutoff))  # [n]
            mean = ranks.mean({"length": lengths.mean().item()})["length"]
            pl_mean = torch.as_tensor(mean).to(pl_mean) if pl_mean.isnan() else pl_mean + PL_DECAY * (mean - pl_mean)
            penalty = (lengths - pl_mean).square().mean()
            optimizers["g"].zero_grad(set_to_none=True)
            (penalty * params.pl_weight * params.pl_interval).backward()
            ranks.average_gradients(G)
            take_step(G, optimizers["g"])
            averages.add({"loss/path_penalty": penalty.item(), "path_length": mean})
        if lazy and params.r1_gamma > 0 and step % params.r1_interval == 0:
            penalty = losses.r1_penalty(lambda x, p=p: D(augment(x, p)), real)
            optimizers["d"].zero_grad(set_to_none=True)
            (penalty * (params.r1_gamma / 2) * params.r1_interval).backward()
            ranks.average_gradients(D)
            take_step(D, optimizers["d"])
            averages.add({"loss/r1": penalty.item()})
        if params.ada_target is not None:
            signs.append(ranks.mean({"r_t": stats["r_t"].item()})["r_t"])
            averages.add({"augment_p": p})
            if len(signs) == ADA_INTERVAL:
                r_t, seen = sum(signs) / len(signs), batch * len(signs)
                p, signs = adapted(p, r_t, target=params.ada_target, images=seen, kimg=ADA_KIMG), []

        averages.add({name: value.item() for name, value in stats.items()})
        cur_nimg += batch
        gain = (params.ema_kimg_end or params.ema_kimg) - params.ema_kimg
        half_life = params.ema_kimg + gain * decayed(progress, params.lr_decay_from)
        ema_update(G_ema, G, ema_beta(batch, half_life, cur_nimg, params.ema_rampup))
        finished = cur_nimg >= end

        if recorder is not None:
            recorder.run.progress(cur_nimg / 1000, end / 1000, "kimg", "adversarial")
        if due(cur_nimg, batch, params.status_kimg) or finished:
            line = ranks.mean(averages.take())
            check_finite(line, f"{cur_nimg / 1000:.1f} kimg", folder / STATE_FILE)
            if recorder is None:
                continue
            snapshot = due(cur_nimg, batch, params.snapshot_kimg) or finished
            if snapshot:
                G_ema.mapping.w_avg.copy_(mean_w(G_ema, seed))
                line |= recorder.snapshot(G_ema, cur_nimg)
                if best is None or line[recorder.kid_name] < best[1]:
                    best = [cur_nimg / 1000, line[recorder.kid_name]]
                    save_module(folder / BEST_FILE, G_ema, G_ema.config, {"kimg": best[0], "recipe": params.recipe})
            recorder.tick(cur_nimg, line)
            if snapshot or due(cur_nimg, batch, params.state_kimg):
                complete = {
                    **{name: network.state_dict() for name, network in networks.named().items()},
                    "cur_nimg": cur_nimg, "history": json.dumps(recorder.history), "settings": json.dumps(settings),
                    "best": best, "warm_from": warm_from, "pl_mean": pl_mean.cpu(),
                    "optimizers": {name: optimizer.state_dict() for name, optimizer in optimizers.items()},
                    "augment_p": p, "augment_signs": signs, "precision": precision, "processes": ranks.world,
                }  # fmt: skip
                save_state(folder, complete)
                if snapshot and light is not None:
                    save_light(light, complete)
    return networks


def real_batch(images: Tensor, cur_nimg: int, batch: int, seed: int, ranks: Ranks, device: torch.device) -> Tensor:
    """This rank's part of images cur_nimg .. cur_nimg + batch of an endless shuffled sequence, in [-1, 1].

    Each image is mirrored with probability 1/2.
    """
    part = images[ranks.rows(batch_indices(seed, cur_nimg, batch, len(images)))]  # uint8 [n, 3, res, res]
    flip = ranks.rows(torch.rand(batch, generator=generator_for(seed, "generator", "mirror", cur_nimg)) < 0.5)
    part = torch.where(flip[:, None, None, None], part.flip(3), part)
    if device.type == "cuda":
        part = part.pin_memory()  # lets the copy overlap with computation
    return to_float(part.to(device, non_blocking=True)).contiguous(memory_format=torch.channels_last)


def take_step(module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Replace gradients that are not finite (StyleGAN2-ADA), then step."""
    sanitize_gradients(module.parameters())
    optimizer.step()


def decayed(progress: float, start: float) -> float:
    """Progress of the decay: 0 until `start`, then linear to 1 at the end."""
    return max(0.0, (progress - start) / (1 - start)) if start < 1 else 0.0


def relative_lr(progress: float, start: float) -> float:
    """1 until `start`, then a half cosine down to FINAL_LR at progress 1."""
    return FINAL_LR + (1 - FINAL_LR) * cosine_decay(decayed(progress, start))
