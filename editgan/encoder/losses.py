"""Losses of the encoder and of inversion (EditGAN supplement: l1 = l3 = 10, l2 = l4 = 1, l5 = 5)."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from editgan.assets.load import load_network
from editgan.assets.networks.winograd import use_winograd

LPIPS_SIDE = 256  # VGG was made for 224 px


def for_lpips(images: Tensor) -> Tensor:
    """Images above LPIPS_SIDE are averaged down to it, as in StyleGAN2's projector.  # [N, 3, s, s]"""
    factor = images.shape[-1] // LPIPS_SIDE
    return F.avg_pool2d(images, factor) if factor > 1 else images


def load_lpips(assets_dir: Path, device: torch.device) -> nn.Module:
    """LPIPS-VGG, frozen, in the form that is fastest for training: Winograd's convolutions, channels last."""
    return use_winograd(load_network("lpips_vgg", assets_dir)).to(device, memory_format=torch.channels_last)


def l2_distance(x: Tensor, y: Tensor) -> Tensor:
    """Mean squared error of images in [-1, 1], measured on the [0, 1] scale as in the released code.  # [N]"""
    return ((x - y) / 2).square().mean(dim=(1, 2, 3))


def latent_distance(w: Tensor, w_hat: Tensor) -> Tensor:
    """|| m(z) - E(G(z)) ||^2, averaged over rows and entries; w, w_hat: [N, num_ws, w_dim].  # [N]"""
    return (w - w_hat).square().mean(dim=(1, 2))


def reconstruction_loss(lpips: Tensor, l2: Tensor, *, lpips_weight: float = 10.0, l2_weight: float = 1.0) -> Tensor:
    """L_RGB = 10 LPIPS + 1 L2 per image (EditGAN supplement, encoder training and embedding).  # [N]"""
    return lpips_weight * lpips + l2_weight * l2
