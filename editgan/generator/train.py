"""Training of StyleGAN2: the warm start, then the adversarial phase, each a resumable loop.

Positions are counted in images. Every step seeds torch from (seed, phase, position).
"""

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from editgan.generator import losses
from editgan.generator import warm_start as first_phase
from editgan.generator.augment import adapted, augment
from editgan.generator.discriminator import Discriminator
from editgan.generator.generator import Generator, resolutions_of
from editgan.generator.origin import Origin
from editgan.generator.params import GeneratorParams
from editgan.generator.principal_components import PCA_IMAGES, PrincipalComponents
from editgan.generator.snapshots import Recorder, curves, final_statistics
from editgan.generator.warm_start import (
    BandLoss,
    fit_mapping,
    grow,
    reconstruction_losses,
    resolution_at,
)
from editgan.images import to_float
from editgan.runtime.precision import mixed_precision
from editgan.runtime.tracking import Run
from editgan.training import (
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
    linear_decay,
    load_state,
    muon_and_adam,
    optimizer_step,
    save_state,
    seed_everything,
    set_lr,
    set_muon_lr,
)  # fmt: skip
from editgan.weights import write_json

PL_DECAY = 0.01  # update rate of the running mean of path lengths
PL_BATCH_SHRINK = 2  # path lengths use 1 / PL_BATCH_SHRINK of the batch
PERCEPTUAL_RESOLUTION = 32  # smallest image side for LPIPS
ADA_INTERVAL = 4  # steps between updates of the augmentation probability
FIT_BATCH = 50
FIT_POSITIONS = range(0, 2000, FIT_BATCH)  # images for the mean and covariance of the mapping


@dataclass(frozen=True)
class Task:
    """Inputs, outputs and settings shared by both phases."""

    params: GeneratorParams
    resolution: int
    seed: int
    images: Tensor  # uint8 [N, 3, res, res], on the CPU
    lpips_vgg: nn.Module
    code: PrincipalComponents
    bands: BandLoss
    device: torch.device
    work: Path
    recorder: Recorder
    run: Run
    compile: Callable[[nn.Module], nn.Module]  # the result of `compiler`

    @property
    def warm_start_nimg(self) -> int:  # images of the warm start, after which the adversarial phase starts
        return sum(round(kimg * 1000) for kimg in self.params.warm_start.kimg)

    @property
    def total_nimg(self) -> int:
        return self.warm_start_nimg + round(self.params.kimg * 1000)

    def real_batch(self, cur_nimg: int, batch: int) -> Tensor:
        """Images cur_nimg .. cur_nimg + batch of an endless shuffled sequence, in [-1, 1], half of them mirrored."""
        images = self.images[batch_indices(self.seed, cur_nimg, batch, len(self.images))]  # uint8 [N, 3, res, res]
        if self.params.mirror:
            flip = torch.rand(batch, generator=generator_for(self.seed, "generator", "mirror", cur_nimg)) < 0.5
            images = torch.where(flip[:, None, None, None], images.flip(3), images)
        if self.device.type == "cuda":
            images = images.pin_memory()  # lets the copy overlap with computation
        return to_float(images.to(self.device, non_blocking=True)).contiguous(memory_format=torch.channels_last)

    def autoencoder_loss(self, fake: Tensor, real: Tensor, step: int) -> tuple[Tensor, dict[str, float]]:
        """(weighted sum, terms) for images [N, 3, r, r]; the perceptual term every `PERCEPTUAL_INTERVAL` steps.

        The perceptual term uses only the first `PERCEPTUAL_IMAGES` images, because on the whole batch it would cost
        more than everything else together. Half-size images would be cheaper but lose mouths and eyes.
        """
        terms = reconstruction_losses(fake, real)
        loss = first_phase.PIXEL_WEIGHT * (terms["l1"] + terms["l2"])
        if first_phase.BAND_WEIGHT > 0:
            terms["bands"] = self.bands(fake, real)
            loss = loss + first_phase.BAND_WEIGHT * terms["bands"]
        looks = first_phase.PERCEPTUAL_WEIGHT > 0 and fake.shape[-1] >= PERCEPTUAL_RESOLUTION
        if looks and step % first_phase.PERCEPTUAL_INTERVAL == 0:
            pair = [images[: first_phase.PERCEPTUAL_IMAGES] for images in (fake, real)]
            terms["lpips"] = self.lpips_vgg(*pair).mean()
            loss = loss + first_phase.PERCEPTUAL_WEIGHT * first_phase.PERCEPTUAL_INTERVAL * terms["lpips"]
        return loss, {name: value.item() for name, value in terms.items()}

    def save(self, phase: str, cur_nimg: int, **content: Any) -> None:
        history = json.dumps(self.recorder.history)
        shared = {"code": self.code.state_dict(), "bands": self.bands.state_dict()}
        save_state(self.work, {"phase": phase, "cur_nimg": cur_nimg, "history": history, **shared, **content})


def train(
    *,
    params: GeneratorParams,
    resolution: int,
    seed: int,
    images: Tensor,
    lpips_vgg: nn.Module,
    device: torch.device,
    out: Path,
    work: Path,
    run: Run,
    compile: bool = False,
    origin: Origin | None = None,
) -> tuple[Generator, Discriminator, PrincipalComponents, dict[str, float]]:
    """Train from scratch, from the networks of another run, or from the state in `work`.

    Args:
        origin: networks to fine-tune: G_ema (initialises G), D and the code, which a warm start keeps.
        images: uint8 [N, 3, resolution, resolution].
        lpips_vgg: the perceptual network for the loss of the warm start and for the KID of snapshots.
        out, work: folders for results and for resumable state.

    Returns:
        (G_ema with its w_avg, D, the code of the warm start (components 0 without one), final statistics).

    Raises:
        UserError: training diverged; the message names the last good state.
    """
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32 for the operations that stay in float32
    state = load_state(work) or {}
    recorder = Recorder(
        out=out,
        work=work,
        run=run,
        lpips_vgg=lpips_vgg,
        reals=images,
        seed=seed,
        kid_images=params.kid_images,
        device=device,
        history=json.loads(state.get("history", "[]")),
    )
    task = Task(
        params=params,
        resolution=resolution,
        seed=seed,
        images=images,
        lpips_vgg=lpips_vgg,
        code=PrincipalComponents(img_resolution=resolution, w_dim=params.w_dim).to(device),
        bands=BandLoss(img_resolution=resolution).to(device),
        device=device,
        work=work,
        recorder=recorder,
        run=run,
        compile=compiler(compile, device),
    )
    seed_everything(seed, "generator", "init")
    generator = Generator(
        z_dim=params.w_dim,
        w_dim=params.w_dim,
        img_resolution=resolution,
        channel_base=params.channel_base,
        channel_max=params.channel_max,
        num_mapping_layers=params.num_mapping_layers,
    ).to(device, memory_format=torch.channels_last)
    if state:
        task.code.load_state_dict(state["code"])
        task.bands.load_state_dict(state["bands"])
    else:
        if origin is not None:
            generator.load_state_dict(origin.generator.state_dict())
            task.code.load_state_dict(origin.code.state_dict())
        recorder.grid(generator, "fakes_init")
    if params.warm_start.kimg and state.get("phase") != "adversarial":
        warm_start(task, generator, state, new_code=origin is None)
        state = {}
    generator_ema, discriminator = adversarial(task, generator, state, origin)
    generator_ema.w_avg.copy_(losses.mean_w(generator_ema, seed))
    for name, rows in curves(recorder.history).items():
        write_json(out / "curves" / f"{name}.json", rows)
    return generator_ema, discriminator, task.code, final_statistics(recorder.history)


def compiler(wanted: bool, device: torch.device) -> Callable[[nn.Module], nn.Module]:
    """torch.compile if requested and working here, else the identity; prints the reason."""
    if wanted:
        try:
            torch.compile(torch.sin)(torch.ones(16, device=device))
            return lambda module: torch.compile(module, dynamic=False)
        except Exception as error:  # a missing or broken compiler can raise anything
            reason = str(error).strip().splitlines()[0]
            print(f"runtime.compile: torch.compile failed, training continues without it ({reason})", flush=True)
    return lambda module: module


def warm_start(task: Task, generator: Generator, state: dict[str, Any], *, new_code: bool = True) -> None:
    """Train `generator.synthesis` progressively to decode a new code or the origin's; fit the mapping to the codes."""
    params, kimg = task.params, task.params.warm_start.kimg
    muon, adam = muon_and_adam(generator.synthesis.parameters())
    cur_nimg, end = 0, task.warm_start_nimg
    if state:
        cur_nimg = state["cur_nimg"]
        generator.load_state_dict(state["G"])
        muon.load_state_dict(state["muon"])
        adam.load_state_dict(state["adam"])
    elif new_code:
        seed_everything(task.seed, "generator", "components")
        reals = to_float(task.images[:PCA_IMAGES]).to(task.device)
        task.code.fit(torch.cat([reals, reals.flip(3)]) if params.mirror else reals)
    last_step = max(cur_nimg - first_phase.BATCH, 0)
    generator.synthesis.block_resolutions = resolutions_of(resolution_at(last_step, kimg, task.resolution))
    synthesis, averages = task.compile(generator.synthesis), Averages()

    while cur_nimg < end:
        seed_everything(task.seed, "generator", "warm_start", cur_nimg)
        set_muon_lr(muon, adam, first_phase.LR * cosine_decay(cur_nimg / end))
        resolution = resolution_at(cur_nimg, kimg, task.resolution)
        grow(generator.synthesis, resolution)
        real = task.real_batch(cur_nimg, first_phase.BATCH)
        ws = task.code.noisy(real).unsqueeze(1).repeat(1, generator.num_ws, 1)  # [N, num_ws, w_dim], equal rows
        with mixed_precision(task.device):
            fake = synthesis(ws, noise_mode="none")
            target = F.adaptive_avg_pool2d(real, resolution)
            loss, terms = task.autoencoder_loss(fake, target, cur_nimg // first_phase.BATCH)
        optimizer_step(loss, muon, adam)
        averages.add({f"loss/warm_{name}": value for name, value in terms.items()})
        cur_nimg += first_phase.BATCH
        finished = cur_nimg >= end

        task.run.progress(cur_nimg / 1000, task.total_nimg / 1000, "kimg", f"warm start, {resolution} px")
        if due(cur_nimg, first_phase.BATCH, params.status_kimg) or finished:
            stats = averages.take()
            check_finite(stats, f"{cur_nimg / 1000:.1f} kimg of the warm start", task.work / STATE_FILE)
            if due(cur_nimg, first_phase.BATCH, params.snapshot_kimg) or finished:
                fit_mapping(generator.mapping, task.code, (task.real_batch(n, FIT_BATCH) for n in FIT_POSITIONS))
                stats |= task.recorder.snapshot(generator, cur_nimg)
            task.recorder.tick("warm_start", cur_nimg, stats)
            if due(cur_nimg, first_phase.BATCH, params.state_kimg) or finished:
                task.save(
                    "warm_start", cur_nimg, G=generator.state_dict(), muon=muon.state_dict(), adam=adam.state_dict()
                )


def adversarial(
    task: Task, generator: Generator, state: dict[str, Any], origin: Origin | None = None
) -> tuple[Generator, Discriminator]:
    """Adversarial training with StyleGAN2's losses and lazy regularisation. Returns (G_ema, D).

    The first `anchor_images` fakes of a batch are reconstructions of the first real images, from their codes. D sees
    them like other fakes, and the autoencoder loss pulls them towards their images.
    Two differences from the released code: the discriminator step reuses the fakes of the generator step, and the
    running mean of path lengths starts at its first value, not at 0, because a warm-started generator already has
    nonzero path lengths.
    """
    params, batch = task.params, task.params.batch
    seed_everything(task.seed, "generator", "discriminator")
    discriminator = Discriminator(
        img_resolution=task.resolution,
        channel_base=params.d_channel_base,
        channel_max=params.channel_max,
        mbstd_group=params.mbstd_group,
    ).to(task.device, memory_format=torch.channels_last)
    if origin is not None:
        discriminator.load_state_dict(origin.discriminator.state_dict())
    generator_ema = copy.deepcopy(generator).eval().requires_grad_(False)
    noise = [p for name, p in generator.named_parameters() if name.endswith("noise_strength")]
    others = [p for name, p in generator.named_parameters() if not name.endswith("noise_strength")]
    anchors = params.anchor_images
    g_optimizer = lazy_adam([others, noise], params.pl_interval if params.pl_weight > 0 else None)
    d_optimizer = lazy_adam([list(discriminator.parameters())], params.r1_interval if params.r1_gamma > 0 else None)
    start, end = task.warm_start_nimg, task.total_nimg
    cur_nimg, pl_mean = start, torch.tensor(float("nan"), device=task.device)
    p, signs = 0.0, []  # augmentation probability, and r_t since its last change
    if state:
        cur_nimg, pl_mean = state["cur_nimg"], state["pl_mean"].to(task.device)
        p, signs = state["augment_p"], state["augment_signs"]
        for name, part in (("G", generator), ("G_ema", generator_ema), ("D", discriminator)):
            part.load_state_dict(state[name])
        g_optimizer.load_state_dict(state["g_optimizer"])
        d_optimizer.load_state_dict(state["d_optimizer"])
    synthesis, critic, averages = task.compile(generator.synthesis), task.compile(discriminator), Averages()

    while cur_nimg < end:
        seed_everything(task.seed, "generator", "adversarial", cur_nimg)
        step = (cur_nimg - start) // batch
        decay = linear_decay((cur_nimg - start) / (end - start), params.lr_decay_from)
        set_lr(g_optimizer, params.g_lr * decay, params.g_lr * decay * params.noise_lr_multiplier)
        set_lr(d_optimizer, params.d_lr * decay)
        real = task.real_batch(cur_nimg, batch)
        generator_learns = cur_nimg - start >= params.d_first_kimg * 1000

        # Gmain
        discriminator.requires_grad_(False)
        with torch.set_grad_enabled(generator_learns), mixed_precision(task.device):
            z, cutoff = losses.draw_latents(generator, batch - anchors, params.style_mixing_prob)
            ws = losses.mixed_ws(generator, z.to(task.device), cutoff)
            if anchors:
                code = task.code.noisy(real[:anchors])  # [anchors, w_dim]
                ws = torch.cat([code.unsqueeze(1).repeat(1, generator.num_ws, 1), ws])
            fake = synthesis(ws, noise_mode="random")
            loss = losses.generator_loss(critic(augment(fake, p)))
            stats = {"loss/G": loss.item()}
            if anchors and generator_learns:
                anchor_loss, terms = task.autoencoder_loss(fake[:anchors], real[:anchors], step)
                loss = loss + first_phase.ANCHOR_WEIGHT * anchor_loss
                stats |= {f"loss/anchor_{name}": value for name, value in terms.items()}
        if generator_learns:
            optimizer_step(loss, g_optimizer)
            averages.add(stats)

        # Greg
        if generator_learns and params.pl_weight > 0 and step % params.pl_interval == 0:
            z, cutoff = losses.draw_latents(generator, max(batch // PL_BATCH_SHRINK, 1), params.style_mixing_prob)
            lengths = losses.path_lengths(generator, losses.mixed_ws(generator, z.to(task.device), cutoff))  # [N]
            mean = lengths.mean().detach()
            pl_mean = mean if pl_mean.isnan() else pl_mean.lerp(mean, PL_DECAY)
            penalty = (lengths - pl_mean).square().mean()
            optimizer_step(penalty * params.pl_weight * params.pl_interval, g_optimizer)
            averages.add({"loss/path_penalty": penalty.item(), "path_length": mean.item()})

        # Dmain
        discriminator.requires_grad_(True)
        with mixed_precision(task.device):
            real_logits, fake_logits = critic(augment(real, p)), critic(augment(fake.detach(), p))  # [N, 1] each
        loss = losses.discriminator_loss(real_logits, fake_logits)
        optimizer_step(loss, d_optimizer)
        averages.add(
            {
                "loss/D": loss.item(),
                "r_t": real_logits.sign().mean().item(),
                "logits/real": real_logits.mean().item(),
                "logits/fake": fake_logits.mean().item(),
            }
        )

        # Dreg
        if params.r1_gamma > 0 and step % params.r1_interval == 0:
            penalty = losses.r1_penalty(lambda images, p=p: discriminator(augment(images, p)), real)
            optimizer_step(penalty * (params.r1_gamma / 2) * params.r1_interval, d_optimizer)
            averages.add({"loss/r1": penalty.item()})

        # Adaptive augmentation
        if params.ada_target is not None:
            signs.append(real_logits.sign().mean().item())
            averages.add({"augment_p": p})
            if len(signs) == ADA_INTERVAL:
                r_t, images = sum(signs) / len(signs), batch * len(signs)
                p, signs = adapted(p, r_t, target=params.ada_target, images=images, kimg=params.ada_kimg), []

        cur_nimg += batch
        ema_update(generator_ema, generator, ema_beta(batch, params.ema_kimg, cur_nimg - start, params.ema_rampup))
        finished = cur_nimg >= end

        task.run.progress(cur_nimg / 1000, end / 1000, "kimg", "adversarial")
        if due(cur_nimg, batch, params.status_kimg) or finished:
            stats = averages.take() | {"noise_strength": torch.stack(noise).detach().abs().mean().item()}
            check_finite(stats, f"{cur_nimg / 1000:.1f} kimg", task.work / STATE_FILE)
            if due(cur_nimg, batch, params.snapshot_kimg) or finished:
                stats |= task.recorder.snapshot(generator_ema, cur_nimg)
            task.recorder.tick("adversarial", cur_nimg, stats)
            if due(cur_nimg, batch, params.state_kimg) or finished:
                task.save(
                    "adversarial",
                    cur_nimg,
                    G=generator.state_dict(),
                    G_ema=generator_ema.state_dict(),
                    D=discriminator.state_dict(),
                    g_optimizer=g_optimizer.state_dict(),
                    d_optimizer=d_optimizer.state_dict(),
                    pl_mean=pl_mean.cpu(),
                    augment_p=p,
                    augment_signs=signs,
                )
    return generator_ema, discriminator
