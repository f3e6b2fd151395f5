"""Face landmarks, and the crop that moves them to the positions that a network expects.

Landmarks are always the same four, in this order: right eye, left eye, nose tip, mouth centre. Right and left are the
person's, so the right eye is on the left of the picture. All are (x, y), x to the right and y down.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from editgan.images import EYE_CENTRE, EYE_DISTANCE

# Nose tip and mouth centre of a frontal head, below the middle of the eyes, in eye distances: means of neutral heads.
NOSE_BELOW_EYES, MOUTH_BELOW_EYES = 0.62, 1.11
HEADS = tuple(
    (EYE_CENTRE[0] + right * EYE_DISTANCE, EYE_CENTRE[1] + down * EYE_DISTANCE)
    for right, down in ((-0.5, 0.0), (0.5, 0.0), (0.0, NOSE_BELOW_EYES), (0.0, MOUTH_BELOW_EYES))
)


def heads_points(images: Tensor) -> Tensor:
    """The four landmarks in the fixed framing of the rendered heads, in pixels, for every image: [N, 4, 2]."""
    height, width = images.shape[2:]
    points = torch.tensor(HEADS, device=images.device) * torch.tensor([width, height], device=images.device)
    return points.expand(len(images), 4, 2)


def fit_similarity(source: Tensor, target: Tensor) -> Tensor:
    """Least-squares rotation, scale and shift from `target` [P, 2] to `source` [N, P, 2], as matrices [N, 2, 3].

    With centred points as complex numbers the best factor is one complex division:
    sum(conj(t) s) / sum(|t|^2) (Umeyama 1991, without reflection).
    """
    s = torch.view_as_complex(source.double().contiguous())  # [N, P]
    t = torch.view_as_complex(target.double().contiguous())  # [P]
    centred = t - t.mean()
    factor = (centred.conj() * (s - s.mean(1, keepdim=True))).sum(1) / centred.abs().square().sum()  # [N]
    shift = s.mean(1) - factor * t.mean()
    a, b = factor.real, factor.imag
    return torch.stack([a, -b, shift.real, b, a, shift.imag], dim=1).view(-1, 2, 3).to(source.dtype)


def align(images: Tensor, template: tuple[tuple[float, float], ...], size: int, points: Tensor | None = None) -> Tensor:
    """Crop faces so that their landmarks match `template`; differentiable with respect to the images.

    Large pictures are downscaled first, by one factor per batch: align faces of very different sizes separately.

    Args:
        images: [N, 3, H, W], any size; edge pixels are repeated beyond the border.
        template: positions of the four landmarks in the crop, relative to its side.
        size: side of the crop in pixels.
        points: [N, 4, 2] in pixels, default: the framing of the rendered heads.

    Returns:
        [N, 3, size, size]
    """
    points = heads_points(images) if points is None else points.to(images.device, torch.float32)
    matrices = fit_similarity(points, torch.tensor(template, device=images.device) * size)  # crop -> image pixels
    zoom = float(matrices[:, :, 0].norm(dim=1).mean())
    if zoom > 1:  # downscale with anti-aliasing first, otherwise sampling would skip pixels
        height, width = images.shape[2:]
        small = (max(round(height / zoom), 1), max(round(width / zoom), 1))
        images = F.interpolate(images, size=small, mode="bilinear", antialias=True, align_corners=False)
        ratio = torch.tensor([small[1] / width, small[0] / height], device=images.device)
        matrices = matrices * ratio[:, None]
    axis = torch.arange(size, device=images.device) + 0.5
    ones = torch.ones(size, size, device=images.device)
    places = torch.stack([axis.expand(size, size), axis[:, None].expand(size, size), ones], dim=-1)  # [size, size, 3]
    grid = torch.einsum("hwk,nck->nhwc", places, matrices)  # image pixels, [N, size, size, 2]
    extent = torch.tensor([images.shape[3], images.shape[2]], device=images.device)
    return F.grid_sample(images, grid / extent * 2 - 1, mode="bilinear", padding_mode="border", align_corners=False)


def expression_crops(images: Tensor, size: int, points: Tensor | None = None) -> list[Tensor]:
    """Six crops of every face for an expression network: three sizes, each also mirrored; [N, 3, size, size] each.

    A detector's face box varies by about this much, and the networks are sensitive to it. The mean over the crops is
    more stable. Differentiable.
    """
    crops = []
    for eye_distance in (0.30, 0.33, 0.36):  # relative to the crop's side
        eyes, nose, mouth = 0.32, 0.32 + 0.57 * eye_distance, 0.32 + 1.09 * eye_distance  # heights in the crop
        template = ((0.5 - eye_distance / 2, eyes), (0.5 + eye_distance / 2, eyes), (0.5, nose), (0.5, mouth))
        crop = align(images, template, size, points)
        crops += [crop, crop.flip(3)]
    return crops
