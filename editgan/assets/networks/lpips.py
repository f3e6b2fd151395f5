"""LPIPS (Zhang et al. 2018) by the `lpips` package, its ImageNet trunk read from a local file instead of a download."""

import warnings
from pathlib import Path

import lpips
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Lpips(nn.Module):
    """Perceptual distance between float images [N, 3, H, W] in [-1, 1], H and W at least 32.

    Everything that counts is the package's own: `features` and `distance` are its forward pass cut in two, so that a
    fixed target is embedded once.

    Args:
        trunk: "alex" or "vgg"
    """

    def __init__(self, *, trunk: str):
        super().__init__()
        # On the meta device nothing is drawn at random for the trunk (which would also disturb the global generator).
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # lpips passes torchvision's deprecated `pretrained`
            self.model = lpips.LPIPS(net=trunk, pnet_rand=True, pretrained=False, verbose=False)
        heads_path = Path(lpips.__file__).parent / "weights" / "v0.1" / f"{trunk}.pth"
        heads = torch.load(heads_path, map_location="cpu", weights_only=True)
        self.model.to_empty(device="cpu")
        self.model.load_state_dict(heads, strict=False)
        self.model.scaling_layer = lpips.ScalingLayer()
        self.num_features = self.model.chns[-1]

    def load_trunk(self, tensors: dict[str, Tensor]) -> None:
        """Fill the convolutions: `slice1.0.weight`, `slice1.0.bias`, ... as lpips names them."""
        self.model.net.load_state_dict(tensors)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Distance of each pair: [N]."""
        return self.distance(self.features(x), self.features(y))

    def features(self, images: Tensor) -> list[Tensor]:
        """The five feature maps [N, C, h, w], each place normalised to unit length."""
        return [lpips.normalize_tensor(feature) for feature in self._trunk(images)]

    def distance(self, first: list[Tensor], second: list[Tensor]) -> Tensor:
        """From two results of `features`, one of which may hold a single image: [N]."""
        distances = [
            head((a - b).square()).mean((1, 2, 3)) for head, a, b in zip(self.model.lins, first, second, strict=True)
        ]
        return torch.stack(distances).sum(0)

    def pooled(self, images: Tensor) -> Tensor:
        """The last feature map before normalisation, averaged over places: [N, 512] (vgg) or [N, 256] (alex)."""
        return self._trunk(images)[-1].mean((2, 3))

    def spread(self, images: Tensor, size: int = 224) -> Tensor:
        """Mean and deviation over places of the last map of `features`, of images resized to `size`: [N, 2 C]."""
        images = F.interpolate(images, size=(size, size), mode="bicubic", antialias=True, align_corners=False)
        last = self.features(images.clamp(-1, 1))[-1].flatten(2)  # [N, C, places]
        return torch.cat([last.mean(2), last.std(2)], dim=1)

    def _trunk(self, images: Tensor) -> tuple[Tensor, ...]:
        return self.model.net(self.model.scaling_layer(images))
