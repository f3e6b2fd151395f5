"""Paste-back: combine the edited region with the original photo, which stays unchanged elsewhere."""

import torch
import torch.nn.functional as F
from torch import Tensor

FEATHER_AT_512 = 16  # width of the seam in pixels at 512 px


def paste_back(photos: Tensor, edited: Tensor, region: Tensor) -> Tensor:
    """The edited pictures inside the region, the photos outside, blended along a seam around the region.

    This restores what the reconstruction loses outside the region, but not inside. It is not part of EditGAN; results
    of pasted pictures are reported in separate rows.

    Args:
        photos, edited: uint8 [N, 3, H, W]
        region: what an edit may change  # bool [N, H, W]
    Returns:
        uint8 [N, 3, H, W]; equal to `edited` in the region and to `photos` beyond the seam
    """
    if photos.shape != edited.shape or region.shape != photos[:, 0].shape:
        raise ValueError(f"shapes do not match: photos {photos.shape}, edited {edited.shape}, region {region.shape}")
    width = max(2, round(FEATHER_AT_512 * photos.shape[-1] / 512))
    near = dilate(region, width).float()[:, None]  # [N, 1, H, W]
    size = 2 * (width // 2) + 1
    soft = F.avg_pool2d(F.pad(near, [size // 2] * 4, mode="replicate"), size, stride=1)
    alpha = torch.where(region[:, None], torch.ones_like(soft), soft * near)  # [N, 1, H, W]
    return photos.float().lerp(edited.float(), alpha).round().to(torch.uint8)


def dilate(region: Tensor, radius: int) -> Tensor:
    """Dilate a bool region [N, H, W] by `radius` pixels (square structuring element)."""
    grown = F.max_pool2d(region.float()[:, None], 2 * radius + 1, stride=1, padding=radius)
    return grown[:, 0] > 0
