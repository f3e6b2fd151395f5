"""The losses of StyleGAN2 as pure functions, and the latents that training draws."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from editgan.generator.generator import Generator
from editgan.training import generator_for

W_AVG_SAMPLES = 10_000


def generator_loss(fake_logits: Tensor) -> Tensor:
    """Non-saturating logistic loss: mean softplus(-D(G(z))) (Goodfellow et al. 2014, section 3)."""
    return F.softplus(-fake_logits).mean()


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Logistic loss: mean softplus(D(G(z))) + mean softplus(-D(x))."""
    return F.softplus(fake_logits).mean() + F.softplus(-real_logits).mean()


def r1_penalty(discriminator: Callable[[Tensor], Tensor], real: Tensor) -> Tensor:
    """Mean over the batch of |grad_x D(x)|^2 (Mescheder et al. 2018, equation 9), without the factor gamma / 2."""
    real = real.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(discriminator(real).sum(), real, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean()


def path_lengths(generator: Generator, ws: Tensor) -> Tensor:
    """|J^T y| of the synthesis at ws for y ~ N(0, 1) / sqrt(H * W) (StyleGAN2, equation 4).  # [N]

    ws [N, num_ws, w_dim] must ask for gradients. The squared norm is averaged over the rows of W+, as the released
    code does.
    """
    img = generator.synthesis(ws, noise_mode="random")
    noise = torch.randn_like(img, memory_format=torch.contiguous_format) / math.sqrt(img.shape[2] * img.shape[3])
    (gradient,) = torch.autograd.grad((img * noise).sum(), ws, create_graph=True)  # [N, num_ws, w_dim]
    return gradient.square().sum(dim=2).mean(dim=1).sqrt()


def mixed_ws(generator: Generator, batch: int, style_mixing_prob: float, device: torch.device) -> Tensor:
    """W+ rows of random z; with the given probability a second z takes over from a random row on (StyleGAN, 3.1).

    Draws from torch's global generator on the CPU, so that every device sees the same latents.
    """
    z = torch.randn(2, batch, generator.z_dim)
    cutoff = int(torch.randint(1, generator.num_ws, ())) if torch.rand(()) < style_mixing_prob else generator.num_ws
    ws = generator.mapping(z[0].to(device))  # [N, num_ws, w_dim]
    if cutoff == generator.num_ws:
        return ws
    return torch.cat([ws[:, :cutoff], generator.mapping(z[1].to(device))[:, cutoff:]], dim=1)


@torch.no_grad()
def mean_w(generator: Generator, seed: int) -> Tensor:
    """Mean of w over W_AVG_SAMPLES latents.  # [w_dim]"""
    z = torch.randn(W_AVG_SAMPLES, generator.z_dim, generator=generator_for(seed, "generator", "w_avg"))
    return generator.mapping(z.to(generator.w_avg.device))[:, 0].mean(dim=0)
