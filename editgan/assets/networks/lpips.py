"""LPIPS (Zhang et al. 2018) from package `lpips`; its ImageNet trunk is read from a local file, not downloaded."""

import warnings
from pathlib import Path

import lpips
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Lpips(nn.Module):
    """Perceptual distance between float images [N, 3, H, W] in [-1, 1], H and W at least 32.

    The computation is the package's own. `features` and `distance` are the two halves of its forward pass, so the
    features of a fixed target are computed once.

    Args:
        trunk: "alex" or "vgg"
    """

    def __init__(self, *, trunk: str):
        super().__init__()
        # The meta device skips the random initialisation of the trunk, which would also advance the global generator.
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # lpips passes torchvision's deprecated `pretrained`
            self.model = lpips.LPIPS(net=trunk, pnet_rand=True, pretrained=False, verbose=False)
        path = Path(lpips.__file__).parent / "weights" / "v0.1" / f"{trunk}.pth"
        linear = torch.load(path, map_location="cpu", weights_only=True)
        self.model.to_empty(device="cpu")
        self.model.load_state_dict(linear, strict=False)
        self.model.scaling_layer = lpips.ScalingLayer()

    def load_trunk(self, tensors: dict[str, Tensor]) -> None:
        """Load the convolutions, named `slice1.0.weight`, `slice1.0.bias`, ... as in lpips."""
        self.model.net.load_state_dict(tensors)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Distance of each pair: [N]."""
        return self.distance(self.features(x), self.features(y))

    def features(self, images: Tensor) -> list[Tensor]:
        """The five feature maps [N, C, h, w], normalised to unit length at each position."""
        return [lpips.normalize_tensor(feature) for feature in self._trunk(images)]

    def distance(self, first: list[Tensor], second: list[Tensor]) -> Tensor:
        """Distance of two results of `features`, one of which may hold a single image: [N]."""
        distances = [
            layer((a - b).square()).mean((1, 2, 3)) for layer, a, b in zip(self.model.lins, first, second, strict=True)
        ]
        return torch.stack(distances).sum(0)

    def pooled(self, images: Tensor) -> Tensor:
        """The last feature map before normalisation, averaged over positions: [N, 512] (vgg) or [N, 256] (alex)."""
        return self._trunk(images)[-1].mean((2, 3))

    def spread(self, images: Tensor) -> Tensor:
        """Mean and standard deviation over positions of the last feature map of images resized to 224 px: [N, 2 C]."""
        images = F.interpolate(images, size=(224, 224), mode="bicubic", antialias=True, align_corners=False)
        last = self.features(images.clamp(-1, 1))[-1].flatten(2)  # [N, C, positions]
        return torch.cat([last.mean(2), last.std(2)], dim=1)

    def _trunk(self, images: Tensor) -> tuple[Tensor, ...]:
        return self.model.net(self.model.scaling_layer(images))
