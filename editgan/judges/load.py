"""Load the guide and the judges: smile classifiers trained here, and pretrained networks, behind one interface."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from editgan.assets.load import for_inference, load_network
from editgan.assets.params import AssetsParams
from editgan.assets.reference import load_ir_se50, load_reference_inception
from editgan.data.protocol import SMILE, Protocol
from editgan.judges.classifier import SmileConvNet, SmileResNet
from editgan.weights import load_module

SMILE_JUDGES = SMILE.judges


@dataclass(frozen=True)
class Judges:
    """Networks that only judge: they train, guide and select nothing. All take float images in [-1, 1].

    A network's name is part of its metrics' names, so two networks never share a column and are never averaged.
    """

    smile: dict[str, nn.Module]  # with `.smile(images) -> [N]`, the probability of the attribute, by judge
    identity: dict[str, nn.Module]  # images -> [N, D], face features (of other classes: any) to compare by cosine
    features: dict[str, nn.Module]  # images -> [N, D], for FID and KID
    lpips: nn.Module  # (images, images) -> [N], LPIPS with AlexNet

    def smile_probabilities(self, images: Tensor) -> Tensor:
        """What each judge says of the attribute, e.g. the probability of a smile: [N, J] in the order of `smile`."""
        return torch.stack([network.smile(images) for network in self.smile.values()], dim=1)


def load_guide(judges_dir: str | Path) -> SmileConvNet:
    """The smile classifier that may guide, label and select; it is never a judge."""
    return load_module(Path(judges_dir) / "guide.safetensors", SmileConvNet)


def load_judge(judges_dir: str | Path) -> SmileResNet:
    """The smile classifier that is only a judge."""
    return load_module(Path(judges_dir) / "judge.safetensors", SmileResNet)


def load_judges(
    assets_dir: str | Path,
    judges_dir: str | Path,
    device: torch.device | str = "cpu",
    reference: AssetsParams | None = None,
    protocol: Protocol = SMILE,
    parser: nn.Module | None = None,
) -> Judges:
    """All judges, frozen, in eval mode, on `device`; with the published `reference` networks whose files are given.

    parser: judge of success for classes without faces, if there is one, with the interface of a smile network
    """
    assets_dir = Path(assets_dir)
    smile: dict[str, nn.Module] = {"judge": load_judge(judges_dir)}
    if protocol.faces:
        smile |= {name: load_network(name, assets_dir) for name in protocol.judges[1:]}
    elif parser is not None:
        smile |= {"parser": parser}
    identity = {protocol.kept_by: load_network(protocol.kept_by, assets_dir)}
    features = {"efflite0": load_network("efflite0", assets_dir)}
    if protocol.faces and reference is not None and reference.ir_se50 is not None:
        identity["ir_se50"] = load_ir_se50(reference.ir_se50, reference.ir_se50_sha256)
    if reference is not None and reference.reference_inception is not None:
        file, digest = reference.reference_inception, reference.reference_inception_sha256
        features["inception"] = load_reference_inception(file, digest)

    lpips = load_network("lpips_alex", assets_dir)
    for network in (*smile.values(), *identity.values(), *features.values(), lpips):
        for_inference(network).to(device)  # in place
    return Judges(smile=smile, identity=identity, features=features, lpips=lpips)
