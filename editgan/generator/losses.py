"""GAN losses as pure functions (StyleGAN2, relativistic pairing, hinge), and the sampling of a step's latents."""

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
    """Logistic loss: mean softplus(D(G(z))) + mean softplus(-D(x)) (Goodfellow et al. 2014, equation 1)."""
    return F.softplus(fake_logits).mean() + F.softplus(-real_logits).mean()


def r1_penalty(discriminator: Callable[[Tensor], Tensor], real: Tensor) -> Tensor:
    """Mean over the batch of |grad_x D(x)|^2 (Mescheder et al. 2018, equation 9), without the factor gamma / 2."""
    real = real.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(discriminator(real).sum(), real, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean()


def relativistic_generator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Relativistic pairing loss: mean softplus(D(x) - D(G(z))) (Huang et al. 2024, R3GAN, equation 2)."""
    return F.softplus(real_logits - fake_logits).mean()


def relativistic_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """The discriminator's side: mean softplus(D(G(z)) - D(x)) (Huang et al. 2024, R3GAN, equation 2)."""
    return F.softplus(fake_logits - real_logits).mean()


def finite_difference_penalty(moved_logits: Tensor, logits: Tensor, step: float) -> Tensor:
    """Mean of ((D(x + step e) - D(x)) / step)^2 for e ~ N(0, I): estimates the mean of |grad_x D(x)|^2.

    Zero-centred penalty on reals (R1) or on fakes (R2) (R3GAN, equation 3). It needs one more forward pass instead of
    second derivatives. Its expectation differs from |grad|^2 by terms of order step^2. All images of a batch move at
    once, each in its own direction. If D looks at several images together (minibatch standard deviation), the logit of
    an image also changes with the other images, so the estimate includes their gradients, and `r1_penalty`, which
    differentiates the sum of the logits, is another quantity (docs/results/generator.md, "Gradient penalty").

    Args:
        moved_logits, logits: D(x + step e) and D(x), [N, 1], float32 or float64.
    """
    return ((moved_logits - logits) / step).square().mean()


def hinge_generator_loss(fake_logits: Tensor) -> Tensor:
    """Mean of -D(G(z)) over logits [N, scales] (Sauer et al. 2021, equation 2; Lim and Ye 2017)."""
    return -fake_logits.mean()


def hinge_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Mean of max(0, 1 - D(x)) + max(0, 1 + D(G(z))) over logits [N, scales] (Lim and Ye 2017, equation 2)."""
    return F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean()


def path_lengths(generator: Generator, ws: Tensor) -> Tensor:
    """|J^T y| of the synthesis at ws for y ~ N(0, 1) / sqrt(H * W) (StyleGAN2, equation 4).  # [N]

    ws [N, num_ws, w_dim] must require gradients. The squared norm is averaged over the rows of W+, as in the released
    code.
    """
    img = generator.synthesis(ws, noise_mode="random")
    noise = torch.randn_like(img, memory_format=torch.contiguous_format) / math.sqrt(img.shape[2] * img.shape[3])
    (gradient,) = torch.autograd.grad((img * noise).sum(), ws, create_graph=True)  # [N, num_ws, w_dim]
    return gradient.square().sum(dim=2).mean(dim=1).sqrt()


def draw_latents(generator: Generator, batch: int, style_mixing_prob: float) -> tuple[Tensor, int]:
    """Two z per image [N, 2, z_dim] and the style mixing cutoff: the first row of W+ that uses the second z.

    The cutoff is common to the batch. With probability 1 - style_mixing_prob it is num_ws: the first z controls all
    rows (StyleGAN, section 3.1). Uses torch's global CPU generator, so the latents do not depend on the device.
    """
    z = torch.randn(2, batch, generator.z_dim)
    cutoff = int(torch.randint(1, generator.num_ws, ())) if torch.rand(()) < style_mixing_prob else generator.num_ws
    return z.transpose(0, 1), cutoff


def mixed_ws(generator: Generator, z: Tensor, cutoff: int) -> Tensor:
    """Style mixing: W+ [N, num_ws, w_dim] from two z per image [N, 2, z_dim]; the second z from row `cutoff` on."""
    ws = generator.mapping(z[:, 0])  # [N, num_ws, w_dim]
    if cutoff == generator.num_ws:
        return ws
    return torch.cat([ws[:, :cutoff], generator.mapping(z[:, 1])[:, cutoff:]], dim=1)


@torch.no_grad()
def mean_w(generator: Generator, seed: int) -> Tensor:
    """Mean of w over W_AVG_SAMPLES latents.  # [w_dim]"""
    z = torch.randn(W_AVG_SAMPLES, generator.z_dim, generator=generator_for(seed, "generator", "w_avg"))
    return generator.mapping(z.to(generator.w_avg.device))[:, 0].mean(dim=0)
