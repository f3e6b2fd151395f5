"""The editing objective (EditGAN, section 3.2): match the edited mask inside a region, keep the image outside.

L = l_lpips LPIPS(x' (1 - r), x (1 - r)) + l_mse MSE(same) + l_ce CE(S(w_plus), y_edited) on r + l_id (1 - cos)

x' = G(w_plus), x is the image to keep, r the edit region. The paper gives LPIPS and the squared error one common
weight; the released code uses 10 : 5. Here the two weights are independent. Images are masked in [-1, 1], so the
masked region is grey, not black, in both images.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from editgan.editing.params import ObjectiveWeights
from editgan.segmentation.ensemble import SegmentationEnsemble
from editgan.segmentation.pixels import pixel_sampler


@dataclass(frozen=True)
class EditLoss:
    """The terms of the objective for each image of a batch, unweighted; `total` is their weighted sum.  # each [N]"""

    total: Tensor
    lpips: Tensor  # LPIPS-VGG outside the region
    mse: Tensor  # squared error outside the region, of images in [0, 1], averaged over all pixels
    ce: Tensor  # cross-entropy to the edited mask, averaged over the region
    identity: Tensor  # 1 - cosine of the identity features; 0 if the term is off
    followed: Tensor  # share of the region's pixels with the target label as prediction; a metric, not minimised


class EditObjective:
    """The objective of a batch of edits; call it with latents to get their losses.

    Every image has its own target and loss and is independent of the others in the batch. The constructor computes
    everything that does not depend on the latents (features of the kept image, sampling of the region). The
    segmentation is evaluated only at the pixels of the region.

    Args:
        generator: G, frozen
        segmentation: S, frozen
        lpips: LPIPS-VGG with `features` and `distance`
        weights: of the terms
        images: the images to keep outside the region, normally G's reconstructions, in [-1, 1]  # [N, 3, H, W]
        masks: the edited masks y_edited, labels  # [N, H, W]
        region: r, where the edited masks apply; may be empty for an image  # bool [N, H, W]
        identity: face features [N, D] of images in [-1, 1]; required if weights.identity > 0
    """

    def __init__(
        self,
        *,
        generator: nn.Module,
        segmentation: SegmentationEnsemble,
        lpips: nn.Module,
        weights: ObjectiveWeights,
        images: Tensor,
        masks: Tensor,
        region: Tensor,
        identity: nn.Module | None = None,
    ) -> None:
        if masks.shape != region.shape or images.shape[2:] != masks.shape[1:] or len(images) != len(masks):
            raise ValueError(
                f"shapes of images {images.shape}, masks {masks.shape} and region {region.shape} do not match"
            )
        if weights.identity > 0 and identity is None:
            raise ValueError(f"the identity term has weight {weights.identity} but no identity network was given")
        self.generator, self.segmentation, self.lpips, self.weights = generator, segmentation, lpips, weights
        self.identity = identity if weights.identity > 0 else None
        size = masks.shape[-1]
        self.masks, self.region = masks, region
        self.keep = (~region)[:, None].to(images.dtype)  # 1 - r: [N, 1, H, W]
        with torch.no_grad():
            self.kept = images * self.keep  # [N, 3, H, W]
            self.kept_features = lpips.features(self.kept)
            self.kept_identity = None if self.identity is None else self.identity(images)  # [N, D]
        pixels = region.flatten().nonzero()[:, 0]  # [P]
        self.image_of = pixels // (size * size)  # [P]
        self.labels = masks.flatten()[pixels].long()  # [P]
        self.share = 1 / region.flatten(1).sum(1).to(images.dtype)[self.image_of]  # 1 / |r| of each pixel's image: [P]
        self.sampler = pixel_sampler(pixels, size, map_sides(len(segmentation.feature_channels)))

    def __call__(self, w_plus: Tensor) -> EditLoss:
        """Losses of latents [N, num_ws, w_dim], differentiable."""
        images, features = self.generator.synthesis_features(w_plus, noise_mode="const")
        kept = images * self.keep  # [N, 3, H, W]
        lpips = self.lpips.distance(self.lpips.features(kept), self.kept_features)  # [N]
        mse = ((kept - self.kept) / 2).square().mean((1, 2, 3))  # [N]; / 2: images in [0, 1]
        logits = self.segmentation.pixel_logits(features, self.sampler).mean(1)  # [P, K]
        ce = self._per_image(F.cross_entropy(logits, self.labels, reduction="none"))  # [N]
        followed = self._per_image((logits.detach().argmax(1) == self.labels).to(ce.dtype))  # [N]
        weights = self.weights
        total = weights.lpips * lpips + weights.mse * mse + weights.ce * ce  # [N]
        identity = torch.zeros_like(total)
        if self.identity is not None:
            identity = 1 - F.cosine_similarity(self.identity(images), self.kept_identity)  # [N]
            total = total + weights.identity * identity
        return EditLoss(total=total, lpips=lpips, mse=mse, ce=ce, identity=identity, followed=followed)

    def _per_image(self, values: Tensor) -> Tensor:
        """Mean over each image's region, 0 for an empty region: [P] -> [N]"""
        return torch.zeros(len(self.keep), dtype=values.dtype, device=values.device).index_add(
            0, self.image_of, values * self.share
        )


def map_sides(count: int) -> list[int]:
    """Sides of the `count` feature maps of a StyleGAN2: 4, 4, 8, 8, 16, 16, ..."""
    return [4 * 2 ** (index // 2) for index in range(count)]
