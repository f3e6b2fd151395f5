"""Files in the layout of rosinality's stylegan2-pytorch, and the programs that keep its names.

| file | keys |
|---|---|
| training, converted from TensorFlow, EditGAN's release | `g_ema`, perhaps `latent_avg`, `d`, `g`, `args` |
| pSp, e4e and their descendants | `state_dict` with `decoder.*`, `latent_avg` [n, 512] |
| bare state dict of a generator | the names themselves |

No weight is flipped or scaled: the learning rate multiplier, blur gain and paddings agree with ours.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from editgan.generator.discriminator import Discriminator
from editgan.generator.foreign.networks import Described, Networks, built, channels_from, resolutions, without_filters
from editgan.generator.foreign.plain import Refused
from editgan.generator.generator import Generator
from editgan.generator.losses import mean_w
from editgan.training import generator_for

KERNEL, GAIN = "kernel", 4.0  # filters of G are stored with the gain of upsampling
GENERATORS = ("g_ema", "params_ema", "g", "generator", "G")
STYLEGAN1 = ("g_mapping.", "g_synthesis.", "progression.", "generator.progression.")
ENCODER = (
    "contains an encoder, not a generator; EditGAN's encoder is another network (ResNet-50 with batch norm, 277 M"
    " parameters), which cannot be used here: train stage encoder for this generator"
)


def networks_of(content: Any) -> Networks:
    """The networks of a file's content. Raises Refused: what our networks cannot represent."""
    if not isinstance(content, Mapping):
        raise Refused(f"contains {type(content).__name__}, not the weights of a generator")
    weights, latent_avg, kind = _found(content)
    described = generator(weights)
    notes = []
    known = isinstance(latent_avg, Tensor)
    w_avg = latent_avg if known else torch.zeros(described.config["w_dim"])
    described.tensors["mapping.w_avg"] = w_avg.reshape(-1, w_avg.shape[-1])[0] if w_avg.ndim else w_avg
    G = built(Generator, described)
    if not known:
        G.w_avg.copy_(mean_w(G, seed=0))
        notes.append("w_avg is not in the file; it is the mean of 10,000 samples")
    if "noises.noise_0" not in weights:
        notes.append("noise maps are not in the file; they are drawn with seed 0")
    D = content.get("d")
    if D is not None and not isinstance(D, Mapping):
        raise Refused(f"D is {type(D).__name__}, not the weights of a network")
    return Networks(G, built(Discriminator, discriminator(D)) if D is not None else None, kind, notes)


def _found(content: Mapping) -> tuple[Mapping[str, Tensor], Any, str]:
    """Weights of the generator by rosinality's names, mean latent if there is one, and the kind of file."""
    for key in GENERATORS:
        if isinstance(content.get(key), Mapping):
            _check_release(content[key])
            return content[key], content.get("latent_avg"), f"rosinality .pt ({key})"
    state = content.get("state_dict", content.get("model_state_dict", content))
    if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
        raise Refused(f"holds no weights (found: {', '.join(map(str, content))[:120]})")
    for prefix, kind in (
        ("decoder.", "pSp or e4e (decoder.)"),
        ("module.", "state dict (module.)"),
        ("", "state dict"),
    ):
        names = {name.removeprefix(prefix): one for name, one in state.items() if name.startswith(prefix)}
        if "input.input" in names:
            inside = names.pop("latent_avg", None)
            return names, content.get("latent_avg", inside), f"rosinality .pt, {kind}"
    if any(name.endswith("running_mean") for name in state):
        if any("layers.0." in name for name in state):
            raise Refused("contains a classifier of EditGAN; `editgan import classifiers FOLDER` reads all ten")
        raise Refused(ENCODER)
    _check_release(state)
    if any(name.startswith("synthesis.b4.") for name in state):
        raise Refused("is a bare state dict with NVIDIA's names and no sizes; give the .pkl itself")
    raise Refused(f"has no generator with rosinality's names (found: {', '.join(sorted(map(str, state)))[:120]})")


def _check_release(names: Mapping[Any, Any]) -> None:
    """Raise Refused for the names of StyleGAN1."""
    if any(str(name).startswith(STYLEGAN1) for name in names):
        raise Refused("contains a StyleGAN1 generator; only StyleGAN2 can be edited here")


def generator(weights: Mapping[str, Tensor]) -> Described:
    """A generator by rosinality's names; all sizes follow from the shapes."""
    weights = without_filters(_tensors(weights, "G"), KERNEL, gain=GAIN)
    layers = _numbers(weights, r"style\.(\d+)\.weight")
    convolutions = _numbers(weights, r"convs\.(\d+)\.conv\.weight")
    if not layers or not convolutions or len(convolutions) % 2 or "to_rgb1.bias" not in weights:
        raise Refused("G lacks its mapping layers, its convolutions or its layers to RGB")
    sides = resolutions(4 * 2 ** (len(convolutions) // 2), "G")
    only_rgb = weights["to_rgb1.bias"].numel()
    if only_rgb != 3:
        raise Refused(f"G makes images of {only_rgb} channels; only 3 are supported")
    tensors = {"synthesis.b4.const": _taken(weights, "input.input", ones=1)}
    for index, layer in enumerate(layers):
        for name in ("weight", "bias"):
            tensors[f"mapping.fc{index}.{name}"] = _taken(weights, f"style.{layer}.{name}")
    places = [("b4.conv1", "conv1", 4)]
    for k, side in enumerate(sides[1:]):
        places += [(f"b{side}.conv{i}", f"convs.{2 * k + i}", side) for i in (0, 1)]
    noises = "noises.noise_0" in weights
    for index, (ours, theirs, side) in enumerate(places):
        ours = f"synthesis.{ours}"
        tensors |= _modulated(weights, ours, theirs)
        tensors[f"{ours}.bias"] = _taken(weights, f"{theirs}.activate.bias")
        tensors[f"{ours}.noise_strength"] = _taken(weights, f"{theirs}.noise.weight").reshape(())
        drawn = torch.randn(side, side, generator=generator_for(0, "foreign", "noise", index))
        tensors[f"{ours}.noise_const"] = _taken(weights, f"noises.noise_{index}", ones=2) if noises else drawn
    for k, side in enumerate(sides):
        ours, theirs = f"synthesis.b{side}.torgb", f"to_rgbs.{k - 1}" if k else "to_rgb1"
        tensors |= _modulated(weights, ours, theirs)
        tensors[f"{ours}.bias"] = _taken(weights, f"{theirs}.bias").flatten()
    if weights:
        raise Refused(f"G has the unknown weights {', '.join(sorted(weights)[:3])}")
    widths = {side: len(tensors[f"synthesis.b{side}.conv1.weight"]) for side in sides}
    first = tensors["mapping.fc0.weight"]
    config = dict(z_dim=first.shape[-1], w_dim=len(first), img_resolution=sides[-1], num_mapping_layers=len(layers))
    return Described(config | channels_from(widths, "G"), tensors)


def discriminator(weights: Mapping[str, Tensor]) -> Described:
    """A discriminator by rosinality's names. Its groups have four images."""
    weights = without_filters(_tensors(weights, "D"), KERNEL)
    count = max(_numbers(weights, r"convs\.(\d+)\..*"), default=0)
    sides = resolutions(4 * 2**count, "D")[::-1]
    layers = {f"b{sides[0]}.fromrgb": ("convs.0.0.weight", "convs.0.1.bias")}
    for j, side in enumerate(sides[:-1], 1):
        layers[f"b{side}.conv0"] = (f"convs.{j}.conv1.0.weight", f"convs.{j}.conv1.1.bias")
        layers[f"b{side}.conv1"] = (f"convs.{j}.conv2.1.weight", f"convs.{j}.conv2.2.bias")
        layers[f"b{side}.skip"] = (f"convs.{j}.skip.1.weight", None)
    layers["b4.conv"] = ("final_conv.0.weight", "final_conv.1.bias")
    layers["b4.fc"] = ("final_linear.0.weight", "final_linear.0.bias")
    layers["b4.out"] = ("final_linear.1.weight", "final_linear.1.bias")
    tensors = {}
    for ours, (weight, bias) in layers.items():
        tensors[f"{ours}.weight"] = _taken(weights, weight)
        if bias is not None:
            tensors[f"{ours}.bias"] = _taken(weights, bias)
    if weights:
        raise Refused(f"D has the unknown weights {', '.join(sorted(weights)[:3])}")
    widths = {side: len(tensors[f"b{side}.conv0.weight"]) for side in sides[:-1]} | {4: len(tensors["b4.conv.weight"])}
    config = dict(img_resolution=sides[0], mbstd_group=4)
    return Described(config | channels_from(widths, "D"), tensors)


def _modulated(weights: dict[str, Tensor], ours: str, theirs: str) -> dict[str, Tensor]:
    """Kernel and modulation of a convolution."""
    return {
        f"{ours}.weight": _taken(weights, f"{theirs}.conv.weight", ones=1),
        f"{ours}.affine.weight": _taken(weights, f"{theirs}.conv.modulation.weight"),
        f"{ours}.affine.bias": _taken(weights, f"{theirs}.conv.modulation.bias"),
    }


def _tensors(weights: Mapping[str, Any], letter: str) -> dict[str, Tensor]:
    for name, value in weights.items():
        if not isinstance(name, str):
            raise Refused(f"{letter} has a weight named {name!r}, which is not text")
        if not isinstance(value, Tensor):
            raise Refused(f"{letter}: {name} is {type(value).__name__}, not a tensor")
    return dict(weights)


def _numbers(weights: Mapping[str, Tensor], pattern: str) -> list[int]:
    """Numbers of layers, in order."""
    return sorted({int(found[1]) for name in weights if (found := re.fullmatch(pattern, name))})


def _taken(weights: dict[str, Tensor], name: str, *, ones: int = 0) -> Tensor:
    """Remove a tensor from `weights` and return it without its first dimensions, which must be 1.

    Raises:
        Refused: there is none, it is empty, or one of these dimensions is not 1.
    """
    if name not in weights:
        raise Refused(f"lacks the weights {name}")
    tensor = weights.pop(name)
    if tensor.numel() == 0:
        raise Refused(f"{name} is empty")
    if tuple(tensor.shape[:ones]) != (1,) * ones:
        raise Refused(f"{name} has the shape {list(tensor.shape)}")
    return tensor[(0,) * ones]
