"""NVIDIA's PyTorch files: the `.pkl` of stylegan2-ada-pytorch and its successor's StyleGAN2, and `torch.save` of G.

A `.pkl` holds {"G", "D", "G_ema", "augment_pipe", "training_set_kwargs"}. Every module is pickled as a call of
`_reconstruct_persistent_obj` with the module's state and its source code. The source is not executed. Names and
shapes of the tensors are those of `editgan.generator`.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from editgan.generator.discriminator import Discriminator
from editgan.generator.foreign.networks import (
    FILTER,
    Described,
    Networks,
    built,
    group_size,
    limit,
    only,
    without_filters,
)
from editgan.generator.foreign.plain import PERSISTENT, Instance, Refused
from editgan.generator.generator import Generator

LR_MULTIPLIER = 0.01  # of the mapping network
# Attributes of modules, where a file has them, and the value that our networks implement.
FIXED = {"use_noise": True, "num_channels": 1}
LINEAR = {"affine", "skip", "out"}  # layers without an activation
DEEPEST = 8  # levels of modules in modules; there are four


def networks_of(content: Any) -> Networks:
    """The networks of a file's content. Raises Refused: what our networks cannot represent."""
    if _is_module(content):
        _, name, _ = _parts(content, "the file")
        if name != "Generator":
            raise Refused(f"contains a module of class {name!r}, not a Generator")
        return Networks(built(Generator, generator(content)), None, "torch.save of a stylegan2-ada-pytorch Generator")
    if not isinstance(content, dict) or not _is_module(content.get("G_ema")):
        found = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise Refused(f"has no network G_ema (found: {found[:120]})")
    G = built(Generator, generator(content["G_ema"]))
    D = built(Discriminator, discriminator(content["D"])) if content.get("D") is not None else None
    return Networks(G, D, "stylegan2-ada-pytorch .pkl")


def generator(module: Any) -> Described:
    """A Generator module."""
    state, _, given = _parts(module, "G")
    sizes = {"z_dim", "c_dim", "w_dim", "img_resolution", "img_channels", "mapping_kwargs", "synthesis_kwargs"}
    flat = {key: value for key, value in given.items() if key not in sizes}  # in stylegan3's StyleGAN2
    synthesis = flat or given.get("synthesis_kwargs") or {}
    mapping = given.get("mapping_kwargs") or {}
    tensors = dict(_tensors(state))
    if any(name.startswith(("synthesis.L", "synthesis.input")) for name in tensors):
        raise Refused("is a StyleGAN3 generator; only StyleGAN2 can be edited here")
    only("G: c_dim (class labels)", given.get("c_dim", 0) or 0, 0)
    only("G: img_channels", given.get("img_channels", 3), 3)
    only("G: architecture", synthesis.get("architecture", "skip"), "skip")
    only("G: use_noise", synthesis.get("use_noise", True), True)
    only("G: resample_filter", list(synthesis.get("resample_filter") or [1, 3, 3, 1]), [1, 3, 3, 1])
    only("G: activation", synthesis.get("activation", "lrelu"), "lrelu")
    only("G: mapping activation", mapping.get("activation", "lrelu"), "lrelu")
    only("G: mapping layer_features", mapping.get("layer_features") or given["w_dim"], given["w_dim"])
    only("G: mapping lr_multiplier", mapping.get("lr_multiplier", LR_MULTIPLIER), LR_MULTIPLIER)
    _check_modules(state, "G", architecture="skip")
    if "mapping.w_avg" not in tensors:
        raise Refused("G lacks mapping.w_avg (w_avg_beta is None)")
    config = dict(
        z_dim=given["z_dim"],
        w_dim=given["w_dim"],
        img_resolution=given["img_resolution"],
        channel_base=synthesis.get("channel_base", 32768),
        channel_max=synthesis.get("channel_max", 512),
        num_mapping_layers=mapping.get("num_layers", 8),
    )
    clamp = _clamp(state, synthesis.get("conv_clamp", 256 if flat else None), "G")
    return Described(config | clamp, without_filters(tensors, FILTER))


def discriminator(module: Any) -> Described:
    """A Discriminator module."""
    state, _, given = _parts(module, "D")
    block, epilogue = given.get("block_kwargs") or {}, given.get("epilogue_kwargs") or {}
    only("D: c_dim (class labels)", given.get("c_dim", 0) or 0, 0)
    only("D: img_channels", given.get("img_channels", 3), 3)
    only("D: architecture", given.get("architecture", "resnet"), "resnet")
    only("D: resample_filter", list(block.get("resample_filter") or [1, 3, 3, 1]), [1, 3, 3, 1])
    only("D: activation", block.get("activation", "lrelu"), "lrelu")
    only("D: mbstd_num_channels", epilogue.get("mbstd_num_channels", 1), 1)
    group = group_size(epilogue.get("mbstd_group_size", 4))
    _check_modules(state, "D", architecture="resnet", group_size=group)
    config = dict(
        img_resolution=given["img_resolution"],
        channel_base=given.get("channel_base", 32768),
        channel_max=given.get("channel_max", 512),
        mbstd_group=group,
    )
    clamp = _clamp(state, given.get("conv_clamp"), "D")
    return Described(config | clamp, without_filters(dict(_tensors(state)), FILTER))


def _is_module(value: Any) -> bool:
    return isinstance(value, Instance) and value.kind == PERSISTENT


def _parts(module: Any, letter: str) -> tuple[dict, str, dict]:
    """State, class name and constructor arguments of a module."""
    meta = module.args[0] if _is_module(module) and module.args else None
    state = meta.get("state") if isinstance(meta, dict) else None
    if not isinstance(state, dict) or not isinstance(state.get("_init_kwargs"), dict):
        raise Refused(f"{letter} is not a module of stylegan2-ada-pytorch")
    given = state["_init_kwargs"]
    missing = {"img_resolution", *(("z_dim", "w_dim") if letter == "G" else ())} - given.keys()
    if missing:
        raise Refused(f"{letter} lacks its sizes {', '.join(sorted(missing))}")
    return state, str(meta.get("class_name")), given


def _children(state: dict, prefix: str) -> Iterator[tuple[str, dict]]:
    if prefix.count(".") > DEEPEST:
        raise Refused(f"{prefix[:80]}: too many modules in modules")
    for name, child in (state.get("_modules") or {}).items():
        meta = child.args[0] if _is_module(child) and child.args else None
        if child is None:
            continue
        if not isinstance(meta, dict) or not isinstance(meta.get("state"), dict):
            raise Refused(f"{name} is not a module of stylegan2-ada-pytorch")
        yield name, meta["state"]


def _tensors(state: dict, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers by name; layers that a training froze (freeze-D) have their weights in `_buffers`."""
    for kind in ("_parameters", "_buffers"):
        for name, tensor in (state.get(kind) or {}).items():
            if isinstance(tensor, torch.Tensor):
                yield f"{prefix}{name}", tensor
            elif tensor is not None:
                raise Refused(f"{prefix}{name} is not a tensor")
    for name, child in _children(state, prefix):
        yield from _tensors(child, f"{prefix}{name}.")


def _modules(state: dict, prefix: str) -> Iterator[tuple[str, dict]]:
    yield prefix, state
    for name, child in _children(state, prefix):
        yield from _modules(child, f"{prefix}.{name}")


def _check_modules(state: dict, letter: str, **known: Any) -> None:
    """Check what the modules themselves say, which covers defaults of another version of the code."""
    for name, one in _modules(state, letter):
        activation = "linear" if name.rpartition(".")[2] in LINEAR else "lrelu"
        for key, allowed in {**FIXED, **known, "activation": activation}.items():
            if key in one:
                only(f"{name}.{key}", one[key], allowed)


def _clamp(state: dict, given: Any, letter: str) -> dict[str, float]:
    """`conv_clamp`, if there is one: that of the layers, else that of the arguments."""
    layers = [one["conv_clamp"] for _, one in _modules(state, letter) if "conv_clamp" in one and _convolves(one)]
    if any(clamp != layers[0] for clamp in layers):
        raise Refused(f"{letter} has layers with different conv_clamp: {', '.join(map(str, layers))}")
    return limit(layers[0] if layers else given, letter)


def _convolves(state: dict) -> bool:
    """Whether a layer has an activation that conv_clamp limits; D's shortcuts have neither bias nor limit."""
    tensors = {**(state.get("_parameters") or {}), **(state.get("_buffers") or {})}
    return tensors.get("bias") is not None
