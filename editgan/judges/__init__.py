"""Smile classifiers trained here and pretrained networks, behind one small interface: who judges, and who guides."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from editgan.judges.classifier import SmileConvNet, SmileResNet
from editgan.weights import load_module

SMILE_JUDGES = ("judge", "face_api_expression", "fer")


@dataclass(frozen=True)
class Judges:
    """Networks that judge and have no part in training, guiding or selecting. All take float images in [-1, 1].

    smile: name -> network with `.smile(images) -> [N]`; kept apart, never averaged.
    identity: images -> [N, 192], ArcFace features.      features: images -> [N, 1280], for FID and KID.
    lpips: (images, images) -> [N], LPIPS with AlexNet.
    """

    smile: dict[str, nn.Module]
    identity: nn.Module
    features: nn.Module
    lpips: nn.Module

    def smile_probabilities(self, images: Tensor) -> Tensor:
        """Probability of a smile by each judge, [N, 3] in the order of SMILE_JUDGES."""
        return torch.stack([self.smile[name].smile(images) for name in SMILE_JUDGES], dim=1)


def load_guide(judges_dir: str | Path) -> SmileConvNet:
    """The smile classifier that may guide, label and select; it never judges."""
    return load_module(Path(judges_dir) / "guide.safetensors", SmileConvNet)


def load_judge(judges_dir: str | Path) -> SmileResNet:
    """The smile classifier that only judges."""
    return load_module(Path(judges_dir) / "judge.safetensors", SmileResNet)


def load_judges(assets_dir: str | Path, judges_dir: str | Path, device: torch.device | str = "cpu") -> Judges:
    """All judges, frozen, in eval mode, on `device`.

    Raises:
        UserError: a network's file is missing or damaged; the message says which and what restores it.
    """
    from editgan.assets.inference import for_inference
    from editgan.assets.load import load_network  # here, so that reading params imports no pretrained network

    assets_dir = Path(assets_dir)
    return Judges(
        smile={
            "judge": for_inference(load_judge(judges_dir)).to(device),
            "face_api_expression": for_inference(load_network("face_api_expression", assets_dir)).to(device),
            "fer": for_inference(load_network("fer", assets_dir)).to(device),
        },
        identity=for_inference(load_network("mobilefacenet", assets_dir)).to(device),
        features=for_inference(load_network("efflite0", assets_dir)).to(device),
        lpips=for_inference(load_network("lpips_alex", assets_dir)).to(device),
    )
