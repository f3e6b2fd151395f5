"""NVIDIA's TensorFlow files: the `.pkl` of stylegan2 and stylegan2-ada, a tuple (G, D, Gs) of `dnnlib.tflib` networks.

The networks are read as plain arrays. TensorFlow stores dense weights as [in, out] and kernels as [h, w, in, out].
Modulation biases are stored without the 1 that is added when they are used. The kernel of an upsampling convolution
is flipped, because TensorFlow's transposed convolution is written as a correlation there.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from editgan.generator.discriminator import Discriminator
from editgan.generator.foreign.networks import Described, Networks, built, group_size, limit, only, resolutions
from editgan.generator.foreign.plain import Array, Instance, Refused
from editgan.generator.generator import Generator

NETWORK = "dnnlib.tflib.network.Network"
VERSION = 4  # of the oldest file with StyleGAN2
# Settings that are read or checked below, or do not change the network: any other is refused.
SHARED = {"label_size", "resolution", "num_channels", "fmap_base", "fmap_max", "num_fp16_res", "conv_clamp",
          "architecture", "resample_kernel", "nonlinearity", "mapping_layers", "mapping_fmaps", "mapping_lrmul",
          "structure"}  # fmt: skip
G_SETTINGS = SHARED | {"latent_size", "dlatent_size", "label_fmaps", "mapping_nonlinearity", "w_avg_beta",
                       "dlatent_avg_beta", "use_noise", "truncation_psi", "truncation_cutoff", "style_mixing_prob",
                       "randomize_noise"}  # fmt: skip
D_SETTINGS = SHARED | {"mbstd_group_size", "mbstd_num_features", "freeze_layers"}
OLD_D, OLD_GROUP = "D_stylegan2", 4  # the discriminator of 2019 and its default; later None, the whole batch


def networks_of(content: Any) -> Networks:
    """The networks Gs and D of a file's content. Raises Refused: what our networks cannot represent."""
    if is_network(content):
        return Networks(built(Generator, generator(content)), None, "TensorFlow .pkl of one network")
    _, D, Gs = content
    G = built(Generator, generator(Gs))
    return Networks(G, built(Discriminator, discriminator(D)), "TensorFlow .pkl (G, D, Gs)")


def is_network(value: Any) -> bool:
    return isinstance(value, Instance) and value.kind == NETWORK


def holds_networks(content: Any) -> bool:
    """Whether a pickle's content is a network, or (G, D, Gs)."""
    return is_network(content) or (
        isinstance(content, tuple | list) and len(content) == 3 and all(map(is_network, content))
    )


def generator(network: Instance) -> Described:
    """A generator of either release."""
    settings, arrays = _parts(network, "G", G_SETTINGS)
    if any(name.startswith("ToRGB_lod") for name in arrays):
        raise Refused("G has the architecture 'orig' (ToRGB_lod)")
    only("G: label_size (class labels)", settings.get("label_size", 0), 0)
    only("G: num_channels", settings.get("num_channels", 3), 3)
    only("G: architecture", settings.get("architecture", "skip"), "skip")
    only("G: use_noise", settings.get("use_noise", True), True)
    only("G: resample_kernel", list(settings.get("resample_kernel") or [1, 3, 3, 1]), [1, 3, 3, 1])
    for name in ("nonlinearity", "mapping_nonlinearity"):
        only(f"G: {name}", settings.get(name, "lrelu"), "lrelu")
    only("G: mapping_lrmul", settings.get("mapping_lrmul", 0.01), 0.01)
    w_dim = settings.get("dlatent_size", 512)
    only("G: mapping_fmaps", settings.get("mapping_fmaps") or w_dim, w_dim)
    layers, resolution = settings.get("mapping_layers", 8), settings.get("resolution", 1024)
    config = dict(
        z_dim=settings.get("latent_size", 512),
        w_dim=w_dim,
        img_resolution=resolution,
        channel_base=2 * settings.get("fmap_base", 16384),
        channel_max=settings.get("fmap_max", 512),
        num_mapping_layers=layers,
    )
    tensors = {"mapping.w_avg": _tensor(arrays, "dlatent_avg")}
    for index in range(layers):
        tensors[f"mapping.fc{index}.weight"] = _tensor(arrays, f"mapping/Dense{index}/weight", "dense")
        tensors[f"mapping.fc{index}.bias"] = _tensor(arrays, f"mapping/Dense{index}/bias")
    tensors["synthesis.b4.const"] = _tensor(arrays, "synthesis/4x4/Const/const", ones=1)
    noise = 0
    for side in resolutions(resolution, "G"):
        ours, theirs = f"synthesis.b{side}", f"synthesis/{side}x{side}"
        for layer, name in (("conv1", "Conv"),) if side == 4 else (("conv0", "Conv0_up"), ("conv1", "Conv1")):
            tensors |= _modulated(arrays, f"{ours}.{layer}", f"{theirs}/{name}", flipped=layer == "conv0")
            tensors[f"{ours}.{layer}.noise_strength"] = _tensor(arrays, f"{theirs}/{name}/noise_strength").reshape(())
            tensors[f"{ours}.{layer}.noise_const"] = _tensor(arrays, f"synthesis/noise{noise}", ones=2)
            noise += 1
        tensors |= _modulated(arrays, f"{ours}.torgb", f"{theirs}/ToRGB")
    _check_empty(arrays, "G")
    return Described(config | limit(settings.get("conv_clamp"), "G"), tensors)


def discriminator(network: Instance) -> Described:
    """A discriminator of either release."""
    settings, arrays = _parts(network, "D", D_SETTINGS)
    if any(name.startswith("FromRGB_lod") for name in arrays):
        raise Refused("D has the architecture 'orig' (FromRGB_lod)")
    only("D: label_size (class labels)", settings.get("label_size", 0), 0)
    only("D: num_channels", settings.get("num_channels", 3), 3)
    only("D: architecture", settings.get("architecture", "resnet"), "resnet")
    only("D: resample_kernel", list(settings.get("resample_kernel") or [1, 3, 3, 1]), [1, 3, 3, 1])
    only("D: nonlinearity", settings.get("nonlinearity", "lrelu"), "lrelu")
    only("D: mbstd_num_features", settings.get("mbstd_num_features", 1), 1)
    resolution = settings.get("resolution", 1024)
    default_group = OLD_GROUP if network.state.get("build_func_name") == OLD_D else None
    config = dict(
        img_resolution=resolution,
        channel_base=2 * settings.get("fmap_base", 16384),
        channel_max=settings.get("fmap_max", 512),
        mbstd_group=group_size(settings.get("mbstd_group_size", default_group)),
    )
    layers = {f"b{resolution}.fromrgb": f"{resolution}x{resolution}/FromRGB", "b4.conv": "4x4/Conv"}
    for side in resolutions(resolution, "D")[1:]:
        layers |= {f"b{side}.conv0": f"{side}x{side}/Conv0", f"b{side}.conv1": f"{side}x{side}/Conv1_down"}
        layers[f"b{side}.skip"] = f"{side}x{side}/Skip"
    tensors = {}
    for ours, theirs in layers.items():
        tensors[f"{ours}.weight"] = _tensor(arrays, f"{theirs}/weight", "kernel")
        if not ours.endswith("skip"):
            tensors[f"{ours}.bias"] = _tensor(arrays, f"{theirs}/bias")
    for ours, theirs in (("b4.fc", "4x4/Dense0"), ("b4.out", "Output")):
        tensors[f"{ours}.weight"] = _tensor(arrays, f"{theirs}/weight", "dense")
        tensors[f"{ours}.bias"] = _tensor(arrays, f"{theirs}/bias")
    _check_empty(arrays, "D")
    return Described(config | limit(settings.get("conv_clamp"), "D"), tensors)


def _modulated(arrays: dict[str, np.ndarray], ours: str, theirs: str, flipped: bool = False) -> dict[str, Tensor]:
    """Kernel, bias and modulation of a convolution."""
    weight = _tensor(arrays, f"{theirs}/weight", "kernel")  # [out, in, h, w]
    return {
        f"{ours}.weight": weight.flip(2, 3) if flipped else weight,
        f"{ours}.bias": _tensor(arrays, f"{theirs}/bias"),
        f"{ours}.affine.weight": _tensor(arrays, f"{theirs}/mod_weight", "dense"),
        f"{ours}.affine.bias": _tensor(arrays, f"{theirs}/mod_bias") + 1,
    }


def _check_empty(arrays: dict[str, np.ndarray], letter: str) -> None:
    """Raise Refused for variables that no layer took; `lod` is a leftover of progressive growing."""
    if left := sorted(name for name in arrays if name.rpartition("/")[2] != "lod"):
        raise Refused(f"{letter} has the unknown variables {', '.join(left[:3])}")


def _tensor(arrays: dict[str, np.ndarray], name: str, kind: str = "", *, ones: int = 0) -> Tensor:
    """Remove an array from `arrays`, and return it in PyTorch's order without its first dimensions, which must be 1.

    Raises:
        Refused: there is none, or it has another number of dimensions.
    """
    order = {"dense": (1, 0), "kernel": (3, 2, 0, 1)}.get(kind)
    if name not in arrays:
        raise Refused(f"lacks the variable {name}")
    array = arrays.pop(name)
    if (order and array.ndim != len(order)) or array.shape[:ones] != (1,) * ones:
        raise Refused(f"the variable {name} has the shape {list(array.shape)}")
    array = array.transpose(order) if order else array[(0,) * ones]
    return torch.from_numpy(np.array(array, np.float32, order="C"))


def _parts(network: Instance, letter: str, known: set[str]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Settings and variables by name; those of a component begin with its name."""
    state = network.state
    if not isinstance(state, dict) or not isinstance(state.get("static_kwargs"), dict):
        raise Refused(f"{letter} is not a network of dnnlib.tflib")
    if not isinstance(state.get("version"), int) or state["version"] < VERSION:
        raise Refused(f"{letter} was saved by version {state.get('version')} of its code; StyleGAN2 has {VERSION} on")
    arrays = _variables(state)
    if letter == "G" and not any(name.endswith("mod_weight") for name in arrays):
        raise Refused("G is not a StyleGAN2 generator (no modulated convolution); StyleGAN1 cannot be edited here")
    if unknown := sorted(map(str, state["static_kwargs"].keys() - known)):
        raise Refused(f"{letter} has the unknown setting {unknown[0]} = {state['static_kwargs'].get(unknown[0])!r}")
    return state["static_kwargs"], arrays


def _variables(state: dict[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    found = {}
    for name, value in state.get("variables") or []:
        if not isinstance(value, Array | int | float):
            raise Refused(f"the variable {prefix}{name} is not an array")
        found[f"{prefix}{name}"] = value.value if isinstance(value, Array) else np.array(value)
    for name, part in (state.get("components") or {}).items():
        if not is_network(part) or not isinstance(part.state, dict):
            raise Refused(f"the component {name} is not a network")
        found |= _variables(part.state, f"{prefix}{name}/")
    return found
