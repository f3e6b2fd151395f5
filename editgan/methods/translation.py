"""Training of image-to-image networks as in pix2pixHD, for Distillation and MaskGAN, and its diagnostics."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from editgan.images import to_float
from editgan.methods.distillation.pix2pixhd import (
    adversarial_terms,
    discriminator_loss,
    vgg_features,
    vgg_loss,
    weighted_sum,
)
from editgan.training import DIGITS, set_lr

BETAS = (0.5, 0.999)  # of Adam, as in both papers
FEATURE_MATCHING_WEIGHT = VGG_WEIGHT = 10.0  # as in both papers
IMPROVED = 0.01  # smallest relative decrease of the validation loss that counts as an improvement


def adversarial_step(
    networks: Mapping[str, nn.Module],
    fakes_at: Callable[[int], tuple[Tensor, Tensor, dict[str, Tensor]]],
    lrs_at: Callable[[int], tuple[float, float]],
    lpips_vgg: nn.Module,
    vgg_images: int,
) -> tuple[Callable[[int], dict[str, Tensor]], dict[str, nn.Module | torch.optim.Optimizer]]:
    """The step and the parts of a `Training`: minimise LSGAN + 10 feature matching + 10 VGG with Adam.

    As in the released code, both losses are computed before any network is updated.

    Args:
        networks: in train mode; "D", a MultiscaleDiscriminator of condition and image, and those that make the fakes
        fakes_at: images seen -> (condition, real images, fakes by the prefix of their terms' names), [N, C, H, W] each
        lrs_at: images seen -> learning rates of the networks that make the fakes, and of D
        vgg_images: number of images of each batch for the VGG loss
    """
    D = networks["D"]
    adams = {f"{name}_adam": torch.optim.Adam(net.parameters(), lr=0.0, betas=BETAS) for name, net in networks.items()}

    def step(cur_nimg: int) -> dict[str, Tensor]:
        condition, reals, fakes = fakes_at(cur_nimg)
        real_out = D(torch.cat([condition, reals], dim=1))
        detached_out = [D(torch.cat([condition, fake.detach()], dim=1)) for fake in fakes.values()]
        d_loss = discriminator_loss(real_out, detached_out)
        D.requires_grad_(False)
        fake_out = {name: D(torch.cat([condition, fake], dim=1)) for name, fake in fakes.items()}
        D.requires_grad_(True)
        terms = adversarial_terms(real_out, fake_out)
        with torch.no_grad():
            wanted = vgg_features(lpips_vgg, reals[:vgg_images])
        for name, fake in fakes.items():
            terms[f"{name}vgg"] = vgg_loss(wanted, vgg_features(lpips_vgg, fake[:vgg_images]))
        loss = weighted_sum(terms, feature_matching_weight=FEATURE_MATCHING_WEIGHT, vgg_weight=VGG_WEIGHT)

        lr, d_lr = lrs_at(cur_nimg)
        for name, adam in adams.items():
            set_lr(adam, d_lr if name == "D_adam" else lr)
            adam.zero_grad(set_to_none=True)
        loss.backward()
        d_loss.backward()
        values = terms | {"D": d_loss}
        values |= {f"{name}l1": (fake.detach() - reals).abs().mean() for name, fake in fakes.items()}
        for name, net in networks.items():
            gradients = [p.grad for p in net.parameters() if p.grad is not None]
            if gradients:  # MaskGAN's blender has none in stage 1
                values[f"gradient_{name}"] = nn.utils.get_total_norm(gradients)
        for adam in adams.values():
            adam.step()
        return values

    return step, {**networks, **adams}


def still_improving(losses: list[float]) -> bool:
    """Whether the mean of the last quarter of a loss curve, if long enough, is at least 1 % below the quarter before.

    The learning rate decays to 0, so a flat curve means that this training budget is used up, not that a longer
    training would not help.
    """
    quarter = max(1, len(losses) // 4)
    last, before = losses[-quarter:], losses[-2 * quarter : -quarter]
    if not before:
        return True
    return sum(last) / len(last) <= (1 - IMPROVED) * sum(before) / len(before)


def l1(first: Tensor, second: Tensor) -> float:
    """Mean L1 between uint8 images [N, 3, H, W], on the [-1, 1] scale."""
    return round(float((to_float(first) - to_float(second)).abs().double().mean()), DIGITS)
