"""Training of the encoder: samples with known latents first, then real images and samples alternating."""

import torch
from torch import Tensor, nn

from editgan.encoder.encoder import Encoder
from editgan.encoder.losses import for_lpips, l2_distance, latent_distance, reconstruction_loss
from editgan.encoder.params import EncoderParams
from editgan.generator.generator import Generator
from editgan.images import to_float
from editgan.training import Training, batch_indices, cosine_decay, generator_for, muon_and_adam, set_muon_lr

LPIPS_WEIGHT, L2_WEIGHT = 10.0, 1.0  # in steps with real images, as in EditGAN
LATENT_WEIGHT = 5.0  # of the latent distance in steps with samples, as in EditGAN
SAMPLE_L2_WEIGHT = 30.0  # of the images' L2 in steps with samples
INTERVALS = dict(status_kimg=0.5, state_kimg=2, snapshot_kimg=2)


def is_sample_step(cur_nimg: int, batch: int, warmup_nimg: int) -> bool:
    """Whether a step uses samples: always during warm-up, then every second step."""
    return cur_nimg < warmup_nimg or (cur_nimg // batch) % 2 == 0


def encoder_training(
    E: Encoder,
    G: Generator,
    lpips_vgg: nn.Module,
    images: Tensor,
    params: EncoderParams,
    *,
    seed: int,
    device: torch.device | str = "cpu",
) -> Training:
    """Minimise 10 LPIPS + 1 L2 on real images, and 5 latent distance + 30 L2 on samples (supplement, changed).

    The paper minimises 10 LPIPS + 1 L2 on samples, too. LPIPS takes three quarters of the time of a step and adds
    little to the known latents. Without it, the encoder sees four times as many samples. Muon replaces Adam with a
    constant learning rate of 3e-5, which needs far more images.

    Args:
        E: trained in place; G, lpips_vgg: frozen.
        images: uint8 [M, 3, H, W], the training split.
    """
    if images.shape[1:] != (3, G.img_resolution, G.img_resolution) or images.dtype != torch.uint8:
        raise ValueError(
            f"training images must be uint8 [M, 3, {G.img_resolution}, {G.img_resolution}], got {images.dtype}"
            f" {list(images.shape)}"
        )
    E = E.to(device, memory_format=torch.channels_last).requires_grad_(True)
    muon, adam = muon_and_adam(E.parameters())
    batch, total_nimg, warmup_nimg = params.batch, round(params.kimg * 1000), round(params.warmup_kimg * 1000)

    def step(cur_nimg: int) -> dict[str, Tensor]:
        if is_sample_step(cur_nimg, batch, warmup_nimg):
            kind = "sample"
            z = torch.randn(batch, G.z_dim, generator=generator_for(seed, "encoder", "z", cur_nimg)).to(device)
            with torch.no_grad():
                w_plus = G.mapping(z)  # [N, num_ws, w_dim]
                reals = G.synthesis(w_plus, noise_mode="const")  # [N, 3, H, W]
        else:
            kind = "real"
            reals = to_float(images[batch_indices(seed, cur_nimg, batch, len(images))].to(device))  # [N, 3, H, W]

        w_hat = E(reals)  # [N, num_ws, w_dim]
        fakes = G.synthesis(w_hat, noise_mode="const")  # [N, 3, H, W]
        terms = {"l2": l2_distance(fakes, reals).mean()}
        if kind == "sample":
            terms["latent"] = latent_distance(w_plus, w_hat).mean()
            loss = LATENT_WEIGHT * terms["latent"] + SAMPLE_L2_WEIGHT * terms["l2"]
        else:
            terms["lpips"] = lpips_vgg(for_lpips(fakes), for_lpips(reals)).mean()
            loss = reconstruction_loss(terms["lpips"], terms["l2"], lpips_weight=LPIPS_WEIGHT, l2_weight=L2_WEIGHT)
        set_muon_lr(muon, adam, params.lr * cosine_decay(cur_nimg / total_nimg))
        E.zero_grad(set_to_none=True)
        loss.backward()
        gradient = nn.utils.get_total_norm([p.grad for p in E.parameters() if p.grad is not None])
        muon.step()
        adam.step()
        return {f"{kind}_{name}": term for name, term in terms.items()} | {"gradient": gradient}

    parts = {"E": E, "muon": muon, "adam": adam}
    return Training("the encoder", step, parts, total_nimg=total_nimg, batch=batch, **INTERVALS)
