"""Files of StyleGAN2 as other programs write them: random weights in their layouts. Uses nothing of `editgan`."""

import argparse
import collections
import math
import pickle
import sys
import types
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from foreign_arithmetic import TAPS
from torch import Tensor, nn


def widths(side: int, base: int, most: int) -> dict[int, int]:
    return {r: min(base // r, most) for r in (2**k for k in range(2, side.bit_length()))}


# --- NVIDIA, PyTorch --------------------------------------------------------------------------------------------------


@contextmanager
def foreign_modules():
    """The modules that such a file names, for as long as it is written."""
    names = ("torch_utils", "torch_utils.persistence", "dnnlib", "dnnlib.util", "dnnlib.tflib", "dnnlib.tflib.network")
    modules = {name: types.ModuleType(name) for name in names}

    def _reconstruct_persistent_obj(meta):
        raise AssertionError("the reader must not call what the file names")

    def __setstate__(self, state):
        raise AssertionError("the reader must not build the classes of the file")

    persistent = modules["torch_utils.persistence"]
    persistent._reconstruct_persistent_obj = _reconstruct_persistent_obj
    _reconstruct_persistent_obj.__module__ = "torch_utils.persistence"
    _reconstruct_persistent_obj.__qualname__ = "_reconstruct_persistent_obj"
    modules["dnnlib.util"].EasyDict = type("EasyDict", (dict,), {"__module__": "dnnlib.util"})
    methods = {
        "__module__": "dnnlib.tflib.network",
        "__getstate__": lambda self: self.saved,
        "__setstate__": __setstate__,
    }
    modules["dnnlib.tflib.network"].Network = type("Network", (), methods)
    sys.modules.update(modules)
    try:
        yield modules
    finally:
        for name in names:
            del sys.modules[name]


SOURCE = "raise SystemExit('the source in the file was executed')\n"


class Persistent(nn.Module):
    """A module that is pickled as NVIDIA's are: a call with class name, source and state."""

    def __init__(self, name: str, children: dict | None = None, weights: dict | None = None, **attributes) -> None:
        super().__init__()
        self.kind = name
        for key, value in (weights or {}).items():
            if key in ("resample_filter", "noise_const", "w_avg") or key.startswith("frozen_"):
                self.register_buffer(key.removeprefix("frozen_"), value)
            else:
                self.register_parameter(key, nn.Parameter(value))
        for key, child in (children or {}).items():
            setattr(self, key, child)
        self.__dict__.update(attributes)

    def __reduce__(self):
        state = {key: value for key, value in self.__dict__.items() if key != "kind"}
        meta = dict(type="class", version=6, module_src=SOURCE, class_name=self.kind, state=state)
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (meta,)

    __reduce_ex__ = lambda self, protocol: self.__reduce__()  # noqa: E731


def random(*shape: int, scale: float = 1.0) -> Tensor:
    return torch.randn(shape) * scale


def nvidia_generator(
    side: int = 64, w: int = 16, base: int = 512, most: int = 16, layers: int = 3, clamp: float | None = None,
    settings: dict | None = None, mapping: dict | None = None, taps: Tensor = TAPS, flat: bool = False, **given,
) -> Persistent:  # fmt: skip
    """A Generator of stylegan2-ada-pytorch; `flat`: with the arguments of stylegan3's StyleGAN2."""
    channels = widths(side, base, most)

    def layer(inside: int, out: int, r: int, up: int) -> Persistent:
        affine = Persistent("FullyConnectedLayer", weights=dict(weight=random(inside, w), bias=1 + random(inside)))
        weights = dict(weight=random(out, inside, 3, 3), bias=random(out), resample_filter=taps.clone())
        weights |= dict(noise_const=random(r, r), noise_strength=random())
        extra = dict(conv_clamp=clamp, use_noise=True, activation="lrelu", up=up)
        return Persistent("SynthesisLayer", {"affine": affine}, weights, **extra)

    blocks, before = {}, 0
    for r, width in channels.items():
        affine = Persistent("FullyConnectedLayer", weights=dict(weight=random(width, w), bias=1 + random(width)))
        rgb = dict(weight=random(3, width, 1, 1), bias=random(3))
        children = {} if r == 4 else {"conv0": layer(before, width, r, 2)}
        children |= {"conv1": layer(width, width, r, 1)}
        children["torgb"] = Persistent("ToRGBLayer", {"affine": affine}, rgb, conv_clamp=clamp)
        weights = dict(resample_filter=taps.clone()) | ({"const": random(width, 4, 4)} if r == 4 else {})
        blocks[f"b{r}"] = Persistent("SynthesisBlock", children, weights, architecture="skip", use_fp16=r > 8)
        before = width
    dense = {
        f"fc{i}": Persistent("FullyConnectedLayer", weights=dict(weight=random(w, w, scale=100), bias=random(w)))
        for i in range(layers)
    }
    maps = Persistent("MappingNetwork", dense, {"w_avg": random(w)}, num_layers=layers)
    synthesis = Persistent("SynthesisNetwork", blocks, img_resolution=side)
    easy = sys.modules["dnnlib.util"].EasyDict
    inner = easy(channel_base=base, channel_max=most, **({} if clamp is None else {"conv_clamp": clamp}))
    inner.update(settings or {})
    kwargs = easy(z_dim=w, c_dim=0, w_dim=w, img_resolution=side, img_channels=3)
    kwargs["mapping_kwargs"] = easy(num_layers=layers, **(mapping or {}))
    kwargs.update(inner if flat else {"synthesis_kwargs": inner})
    kwargs.update(given)
    return Persistent("Generator", {"synthesis": synthesis, "mapping": maps}, _init_args=(), _init_kwargs=kwargs)


def nvidia_discriminator(
    side: int = 64, base: int = 512, most: int = 16, clamp: float | None = None, group: int | None = 4,
    frozen: bool = False, epilogue: dict | None = None, **given,
) -> Persistent:  # fmt: skip
    """A Discriminator; `frozen`: the first layer's weights are buffers, as freeze-D saves them."""
    channels = widths(side, base, most)

    def conv(inside: int, out: int, size: int, bias: bool = True, hold: bool = False) -> Persistent:
        prefix = "frozen_" if hold else ""
        weights = {f"{prefix}weight": random(out, inside, size, size), "resample_filter": TAPS.clone()}
        weights |= {f"{prefix}bias": random(out)} if bias else {}
        extra = dict(conv_clamp=clamp if bias else None, activation="lrelu" if bias else "linear")
        return Persistent("Conv2dLayer", weights=weights, **extra)

    blocks = {}
    for r in sorted(channels, reverse=True)[:-1]:
        inside, out = channels[r], channels[r // 2]
        children = {"fromrgb": conv(3, inside, 1, hold=frozen)} if r == side else {}
        children |= {"conv0": conv(inside, inside, 3), "conv1": conv(inside, out, 3)}
        children["skip"] = conv(inside, out, 1, bias=False)
        filters = {"resample_filter": TAPS.clone()}
        blocks[f"b{r}"] = Persistent("DiscriminatorBlock", children, filters, architecture="resnet")
    last = channels[4]
    children = {"mbstd": Persistent("MinibatchStdLayer", group_size=group, num_channels=1)}
    children["conv"] = conv(last + 1, last, 3)
    children["fc"] = Persistent("FullyConnectedLayer", weights=dict(weight=random(last, 16 * last), bias=random(last)))
    children["out"] = Persistent("FullyConnectedLayer", weights=dict(weight=random(1, last), bias=random(1)))
    blocks["b4"] = Persistent("DiscriminatorEpilogue", children, architecture="resnet")
    easy = sys.modules["dnnlib.util"].EasyDict
    kwargs = easy(c_dim=0, img_resolution=side, img_channels=3, channel_base=base, channel_max=most, conv_clamp=clamp)
    kwargs["epilogue_kwargs"] = easy(mbstd_group_size=group, **(epilogue or {}))
    kwargs.update(given)
    return Persistent("Discriminator", blocks, _init_args=(), _init_kwargs=kwargs)


def nvidia_access(module: nn.Module) -> Callable[[str, str], Tensor]:
    """Weights of either network by place and name."""
    state = {name: tensor.detach() for name, tensor in module.state_dict().items()}
    renamed = {"mod_weight": "affine.weight", "mod_bias": "affine.bias"}

    def get(place: str, name: str) -> Tensor:
        name = renamed.get(name, name)
        prefix = "" if module.kind == "Discriminator" else "synthesis." if place.startswith("b") else "mapping."
        return state[f"{prefix}{name}" if place == "mapping" else f"{prefix}{place}.{name}"]

    return get


def write_nvidia(path: Path, G: Persistent, D: Persistent | None, protocol: int = 4) -> None:
    """The .pkl of a training."""
    easy = sys.modules["dnnlib.util"].EasyDict
    pipe = Persistent("AugmentPipe", weights={"frozen_p": torch.tensor(0.3), "frozen_Hz_geom": torch.ones(12)})
    folder = easy(class_name="training.dataset.ImageFolderDataset", path="x.zip", use_labels=False, max_size=9)
    content = dict(training_set_kwargs=folder, G=G, D=D, G_ema=G, augment_pipe=pipe, seen=np.float64(3.5), some={1, 2})
    path.write_bytes(pickle.dumps(content, protocol=protocol))


# --- NVIDIA, TensorFlow -----------------------------------------------------------------------------------------------


def tensorflow_network(settings: dict, arrays: dict[str, np.ndarray], name: str, parts: tuple[str, ...] = ()):
    """A Network whose variables are those arrays; the ones of a component begin with its name."""
    made = sys.modules["dnnlib.tflib.network"].Network()
    own = [(key, value) for key, value in arrays.items() if key.split("/")[0] not in parts]
    inner = {}
    for part in parts:
        below = {key.removeprefix(f"{part}/"): value for key, value in arrays.items() if key.startswith(f"{part}/")}
        inner[part] = tensorflow_network({}, below, f"G_{part}")
    made.saved = dict(version=4, name=name, static_kwargs=settings, components=inner, build_module_src=SOURCE)
    made.saved |= dict(build_func_name=name, variables=own)
    return made


def array(*shape: int, scale: float = 1.0) -> np.ndarray:
    return (random(*shape) * scale).numpy() if shape else np.float32(random().item())


def tensorflow_generator(side: int = 64, w: int = 16, base: int = 256, most: int = 16, layers: int = 3) -> dict:
    """Variables of Gs; `base` is fmap_base."""
    arrays = {"dlatent_avg": array(w), "lod": np.float32(0)}
    for index in range(layers):
        arrays[f"mapping/Dense{index}/weight"] = array(w, w, scale=100)
        arrays[f"mapping/Dense{index}/bias"] = array(w)
    before, noise = 0, 0
    for r, width in widths(side, 2 * base, most).items():
        place = f"synthesis/{r}x{r}"
        if r == 4:
            arrays[f"{place}/Const/const"] = array(1, width, 4, 4)
        for name in ("Conv",) if r == 4 else ("Conv0_up", "Conv1"):
            inside = before if name == "Conv0_up" else width
            arrays[f"synthesis/noise{noise}"] = array(1, 1, r, r)
            arrays |= {
                f"{place}/{name}/weight": array(3, 3, inside, width), f"{place}/{name}/bias": array(width),
                f"{place}/{name}/mod_weight": array(w, inside), f"{place}/{name}/mod_bias": array(inside),
                f"{place}/{name}/noise_strength": array(),
            }  # fmt: skip
            noise += 1
        arrays |= {
            f"{place}/ToRGB/weight": array(1, 1, width, 3), f"{place}/ToRGB/bias": array(3),
            f"{place}/ToRGB/mod_weight": array(w, width), f"{place}/ToRGB/mod_bias": array(width),
        }  # fmt: skip
        before = width
    return arrays


def tensorflow_access(arrays: dict[str, np.ndarray]) -> Callable[[str, str], Tensor]:
    """Weights of a generator. The kernel before the filter of Conv0_up is used flipped, as TensorFlow does."""

    def get(place: str, name: str) -> Tensor:
        if place == "mapping":
            return torch.as_tensor(arrays["dlatent_avg"])
        if place.startswith("fc"):
            found = torch.as_tensor(arrays[f"mapping/Dense{place[2:]}/{name}"])
            return found.T if name == "weight" else found
        block, _, layer = place.partition(".")
        r = int(block[1:])
        if name == "const":
            return torch.as_tensor(arrays["synthesis/4x4/Const/const"][0])
        theirs = {"conv0": "Conv0_up", "conv1": "Conv" if r == 4 else "Conv1", "torgb": "ToRGB"}[layer]
        if name == "noise_const":
            step = {"conv0": 5, "conv1": 4}[layer]
            return torch.as_tensor(arrays[f"synthesis/noise{2 * int(math.log2(r)) - step}"][0, 0])
        found = torch.as_tensor(arrays[f"synthesis/{r}x{r}/{theirs}/{name}"])
        if name == "weight":
            found = torch.einsum("hwio->oihw", found)
            return found.flip(2, 3) if layer == "conv0" else found
        return found.T if name == "mod_weight" else found + 1 if name == "mod_bias" else found

    return get


def tensorflow_discriminator(side: int = 64, base: int = 256, most: int = 16) -> dict[str, np.ndarray]:
    channels = widths(side, 2 * base, most)
    arrays = {f"{side}x{side}/FromRGB/weight": array(1, 1, 3, channels[side])}
    arrays[f"{side}x{side}/FromRGB/bias"] = array(channels[side])
    for r in sorted(channels)[1:]:
        inside, out = channels[r], channels[r // 2]
        arrays |= {
            f"{r}x{r}/Conv0/weight": array(3, 3, inside, inside), f"{r}x{r}/Conv0/bias": array(inside),
            f"{r}x{r}/Conv1_down/weight": array(3, 3, inside, out), f"{r}x{r}/Conv1_down/bias": array(out),
            f"{r}x{r}/Skip/weight": array(1, 1, inside, out),
        }  # fmt: skip
    last = channels[4]
    return arrays | {
        "4x4/Conv/weight": array(3, 3, last + 1, last), "4x4/Conv/bias": array(last),
        "4x4/Dense0/weight": array(16 * last, last), "4x4/Dense0/bias": array(last),
        "Output/weight": array(last, 1), "Output/bias": array(1),
    }  # fmt: skip


def tensorflow_d_access(arrays: dict[str, np.ndarray]) -> Callable[[str, str], Tensor]:
    names = {"fromrgb": "FromRGB", "conv0": "Conv0", "conv1": "Conv1_down", "skip": "Skip"}
    fixed = {"b4.conv": "4x4/Conv", "b4.fc": "4x4/Dense0", "b4.out": "Output"}

    def get(place: str, name: str) -> Tensor:
        block, _, layer = place.partition(".")
        theirs = fixed.get(place) or f"{block[1:]}x{block[1:]}/{names[layer]}"
        found = torch.as_tensor(arrays[f"{theirs}/{name}"])
        return found if name == "bias" else found.T if found.ndim == 2 else torch.einsum("hwio->oihw", found)

    return get


# --- rosinality -------------------------------------------------------------------------------------------------------


def rosinality_generator(side: int = 64, w: int = 16, base: int = 512, most: int = 16, layers: int = 3) -> dict:
    """State dict of the generator."""
    state = {}

    def modulation(place: str, kernel: Tensor) -> None:
        inside = kernel.shape[2]
        state[f"{place}.conv.weight"] = kernel
        state[f"{place}.conv.modulation.weight"] = random(inside, w)
        state[f"{place}.conv.modulation.bias"] = 1 + random(inside)

    def styled(place: str, inside: int, out: int, up: bool) -> None:
        modulation(place, random(1, out, inside, 3, 3))
        if up:
            state[f"{place}.conv.blur.kernel"] = 4 * TAPS
        state[f"{place}.noise.weight"] = random(1)
        state[f"{place}.activate.bias"] = random(out)

    for index in range(layers):
        state[f"style.{index + 1}.weight"] = random(w, w, scale=100)
        state[f"style.{index + 1}.bias"] = random(w)
    channels = widths(side, base, most)
    state["input.input"] = random(1, channels[4], 4, 4)
    styled("conv1", channels[4], channels[4], up=False)
    modulation("to_rgb1", random(1, 3, channels[4], 1, 1))
    state["to_rgb1.bias"] = random(1, 3, 1, 1)
    for k, r in enumerate(sorted(channels)[1:]):
        styled(f"convs.{2 * k}", channels[r // 2], channels[r], up=True)
        styled(f"convs.{2 * k + 1}", channels[r], channels[r], up=False)
        modulation(f"to_rgbs.{k}", random(1, 3, channels[r], 1, 1))
        state[f"to_rgbs.{k}.bias"] = random(1, 3, 1, 1)
        state[f"to_rgbs.{k}.upsample.kernel"] = 4 * TAPS
    for index in range(2 * len(channels) - 1):
        r = 2 ** ((index + 5) // 2)
        state[f"noises.noise_{index}"] = random(1, 1, r, r)
    return state


def rosinality_access(state: dict[str, Tensor], average: Tensor) -> Callable[[str, str], Tensor]:
    """Here the layers are numbered from the coarsest on."""

    def get(place: str, name: str) -> Tensor:
        if place == "mapping":
            return average
        if place.startswith("fc"):
            return state[f"style.{int(place[2:]) + 1}.{name}"]
        if name == "const":
            return state["input.input"][0]
        block, _, layer = place.partition(".")
        k = int(math.log2(int(block[1:]))) - 3  # 8 px: 0
        if layer == "torgb":
            theirs, bias = (f"to_rgbs.{k}", f"to_rgbs.{k}.bias") if k >= 0 else ("to_rgb1", "to_rgb1.bias")
            index = None
        else:
            index = 0 if k < 0 else 2 * k + 1 + (layer == "conv1")
            theirs = "conv1" if k < 0 else f"convs.{index - 1}"
            bias = f"{theirs}.activate.bias"
        return {
            "weight": lambda: state[f"{theirs}.conv.weight"][0],
            "mod_weight": lambda: state[f"{theirs}.conv.modulation.weight"],
            "mod_bias": lambda: state[f"{theirs}.conv.modulation.bias"],
            "bias": lambda: state[bias].flatten(),
            "noise_strength": lambda: state[f"{theirs}.noise.weight"],
            "noise_const": lambda: state[f"noises.noise_{index}"][0, 0],
        }[name]()

    return get


def rosinality_discriminator(side: int = 64, base: int = 512, most: int = 16) -> dict[str, Tensor]:
    channels, state = widths(side, base, most), {}
    state["convs.0.0.weight"], state["convs.0.1.bias"] = random(channels[side], 3, 1, 1), random(channels[side])
    for j, r in enumerate(sorted(channels, reverse=True)[:-1], 1):
        inside, out, place = channels[r], channels[r // 2], f"convs.{j}"
        state |= {
            f"{place}.conv1.0.weight": random(inside, inside, 3, 3), f"{place}.conv1.1.bias": random(inside),
            f"{place}.conv2.0.kernel": TAPS, f"{place}.conv2.1.weight": random(out, inside, 3, 3),
            f"{place}.conv2.2.bias": random(out),
            f"{place}.skip.0.kernel": TAPS, f"{place}.skip.1.weight": random(out, inside, 1, 1),
        }  # fmt: skip
    last = channels[4]
    return state | {
        "final_conv.0.weight": random(last, last + 1, 3, 3), "final_conv.1.bias": random(last),
        "final_linear.0.weight": random(last, 16 * last), "final_linear.0.bias": random(last),
        "final_linear.1.weight": random(1, last), "final_linear.1.bias": random(1),
    }  # fmt: skip


def rosinality_d_access(state: dict[str, Tensor], side: int = 64) -> Callable[[str, str], Tensor]:
    names = {
        "conv0": ("conv1.0.weight", "conv1.1.bias"), "conv1": ("conv2.1.weight", "conv2.2.bias"),
        "skip": ("skip.1.weight", ""),
    }  # fmt: skip
    fixed = {f"b{side}.fromrgb": "convs.0.{}", "b4.conv": "final_conv.{}"}
    dense = {"b4.fc": "final_linear.0", "b4.out": "final_linear.1"}

    def get(place: str, name: str) -> Tensor:
        if place in fixed:
            return state[fixed[place].format("1.bias" if name == "bias" else "0.weight")]
        if place in dense:
            return state[f"{dense[place]}.{name}"]
        block, _, layer = place.partition(".")
        j = int(math.log2(side // int(block[1:]))) + 1
        return state[f"convs.{j}.{names[layer][name == 'bias']}"]

    return get


def training_file(G: dict, D: dict, average: Tensor | None = None) -> dict:
    """What rosinality's training saves; converters add latent_avg."""
    named = collections.OrderedDict(G)
    options = argparse.Namespace(path="x", iter=10, size=64)
    content = {"g": named, "d": D, "g_ema": named, "g_optim": {"state": {0: {"step": 3}}, "param_groups": []}}
    return content | {"args": options, "ada_aug_p": 0.1} | ({} if average is None else {"latent_avg": average})
