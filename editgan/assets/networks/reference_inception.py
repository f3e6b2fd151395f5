"""The Inception-v3 of published FID and KID results, from package torch-fidelity, with weights supplied by the user."""

import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from editgan.images import to_uint8


class ReferenceInception(nn.Module):
    """Float images [N, 3, H, W] in [-1, 1] -> pool3 features [N, 2048].

    Images are rounded to 8 bits and resized like TensorFlow 1, as for published results. The network therefore
    passes no gradient.

    Args:
        weights: state dict of pt_inception-2015-12-05-6726825d.pth, including its 1,008 logits.
    """

    def __init__(self, *, weights: dict[str, Tensor]):
        super().__init__()
        with tempfile.TemporaryDirectory() as folder:  # the package reads a file, without `weights_only`
            path = Path(folder) / "weights.pth"
            torch.save(weights, path)
            self.extractor = FeatureExtractorInceptionV3(
                "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(path)
            )

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        return self.extractor(to_uint8(images))[0]
