"""Choose pictures to label: k-means on features of unlabelled pictures, one picture from each cluster."""

import torch
from torch import Tensor, nn

from editgan.images import to_float

ROUNDS = 50  # iterations of k-means; on a few hundred pictures it converges earlier
BATCH = 50


@torch.no_grad()
def picture_features(lpips: nn.Module, images: Tensor, device: torch.device) -> Tensor:
    """LPIPS-VGG features averaged in a 4x4 grid of cells, so that hair, eyes and mouth are in different cells.

    Args:
        images: uint8 [N, 3, H, W]
    Returns:
        [N, D], with unit norm per layer
    """
    rows = []
    for part in images.split(BATCH):
        maps = lpips.features(to_float(part.to(device)))
        pooled = [nn.functional.adaptive_avg_pool2d(each, 4).flatten(1) for each in maps]
        rows.append(torch.cat([nn.functional.normalize(each) for each in pooled], dim=1).cpu())
    return torch.cat(rows)


def suggest(features: Tensor, count: int, seed: int) -> list[int]:
    """Indices of `count` pictures that differ from each other: the one nearest to the centre of each k-means cluster.

    The first centres are spread out (k-means++), so rare kinds, such as glasses, get a cluster of their own. Clusters
    with more pictures come first.

    Args:
        features: [N, D]
    """
    generator = torch.Generator().manual_seed(seed)
    centres = features[torch.randint(len(features), (1,), generator=generator)]
    while len(centres) < count:
        distance = torch.cdist(features, centres).amin(1).square().clamp(min=1e-12)  # [N]
        centres = torch.cat([centres, features[distance.multinomial(1, generator=generator)]])
    for _ in range(ROUNDS):
        nearest = torch.cdist(features, centres).argmin(1)  # [N]
        centres = torch.stack(
            [features[nearest == k].mean(0) if (nearest == k).any() else centres[k] for k in range(count)]
        )
    sizes, chosen = nearest.bincount(minlength=count), torch.cdist(centres, features).argmin(1)
    return [int(chosen[k]) for k in sizes.argsort(descending=True, stable=True)]
