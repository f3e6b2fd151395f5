"""Convert downloaded files to tensors of our networks; `CONVERTERS` names the function for each."""

import io
import json
import pickle
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import tflite
import torch
from tflite import BuiltinOperator
from torch import Tensor, nn

from editgan.assets.load import build
from editgan.assets.networks.efflite import EPS

Files = dict[str, bytes]  # file name without folders -> content
Tensors = dict[str, Tensor]
DTYPES = {tflite.TensorType.FLOAT32: np.float32, tflite.TensorType.FLOAT16: np.float16}


def as_tensor(array: np.ndarray) -> Tensor:
    """A float32 copy."""
    return torch.from_numpy(np.array(array, dtype=np.float32, order="C"))


def in_order(network: nn.Module, arrays: list[np.ndarray]) -> Tensors:
    """Assign arrays to a network's tensors, both in order of execution; every shape must match."""
    state = network.state_dict()
    if [tuple(tensor.shape) for tensor in state.values()] != [array.shape for array in arrays]:
        raise ValueError(f"not a {type(network).__name__}: the number or the shapes of the file's tensors differ")
    return {name: as_tensor(array) for name, array in zip(state, arrays, strict=True)}


# --- TensorFlow Lite --------------------------------------------------------------------------------------------------


def from_tflite(network: str, files: Files) -> Tensors:
    """The graph's weights in order."""
    (data,) = files.values()
    return in_order(build(network), list(tflite_weights(data)))


def tflite_weights(data: bytes) -> Iterator[np.ndarray]:
    """Kernels [out, in, h, w], biases and slopes in the order in which the graph uses them, float32.

    Raises:
        ValueError: not a TensorFlow Lite file.
    """
    if not tflite.Model.ModelBufferHasIdentifier(data, 0):
        raise ValueError("not a TensorFlow Lite file")
    model = tflite.Model.GetRootAs(data)
    graph = model.Subgraphs(0)
    constants = {}
    for index in range(graph.TensorsLength()):
        tensor = graph.Tensors(index)
        buffer = model.Buffers(tensor.Buffer())
        if buffer.DataLength() and tensor.Type() in DTYPES:
            values = buffer.DataAsNumpy().view(DTYPES[tensor.Type()])
            constants[index] = values.reshape(tensor.ShapeAsNumpy()).astype(np.float32)
    for index in range(graph.OperatorsLength()):
        operator = graph.Operators(index)
        inputs = operator.InputsAsNumpy()
        code = model.OperatorCodes(operator.OpcodeIndex())
        # old files store the code in the first field; in newer files it is the larger of both fields
        match max(code.BuiltinCode(), code.DeprecatedBuiltinCode()):
            case BuiltinOperator.DEQUANTIZE:  # half-precision weights pass through a separate operation
                constants[operator.Outputs(0)] = constants[inputs[0]]
            case BuiltinOperator.MUL:  # a PReLU is written as relu(x) + a (x - |x|): its slope is 2 a
                yield from (2 * constants[place] for place in inputs if place in constants)
            case BuiltinOperator.CONV_2D | BuiltinOperator.DEPTHWISE_CONV_2D as kind:
                weight, bias = (constants[place] for place in inputs if place in constants)
                # from [out, h, w, in], depthwise [1, h, w, channels]
                yield weight.transpose((0, 3, 1, 2) if kind == BuiltinOperator.CONV_2D else (3, 0, 1, 2))
                yield bias


# --- TensorFlow.js, HDF5 ----------------------------------------------------------------------------------------------


def face_api_weights(files: Files) -> dict[str, np.ndarray]:
    """Weights in the format of TensorFlow.js: one binary file; a JSON manifest describes layout and quantisation."""
    manifest = next(content for name, content in files.items() if name.endswith("-weights_manifest.json"))
    data = next(content for name, content in files.items() if name.endswith(".bin"))
    weights, offset = {}, 0
    for entry in (weight for group in json.loads(manifest) for weight in group["weights"]):
        quantization = entry.get("quantization")
        dtype = np.dtype(quantization["dtype"] if quantization else entry["dtype"])
        count = int(np.prod(entry["shape"]))
        values = np.frombuffer(data, dtype, count, offset).astype(np.float32)
        offset += count * dtype.itemsize
        if quantization:
            values = values * np.float32(quantization["scale"]) + np.float32(quantization["min"])
        weights[entry["name"]] = values.reshape(entry["shape"])
    return weights


def face_api_expression(files: Files) -> Tensors:
    """Keep the file's names, with `dense0/conv1/depthwise_filter` becoming `dense0.conv1.depthwise.weight`."""
    kinds = {
        "filters": ("weight", (3, 2, 0, 1)),
        "depthwise_filter": ("depthwise.weight", (2, 3, 0, 1)),
        "pointwise_filter": ("pointwise.weight", (3, 2, 0, 1)),
        "weights": ("weight", (1, 0)),
        "bias": ("bias", (0,)),
    }
    tensors = {}
    for name, array in face_api_weights(files).items():
        place, kind = name.rsplit("/", 1)
        place = place.replace("/", ".")
        ours, order = kinds[kind]
        if kind == "bias" and "dense" in place and place != "dense0.conv0":
            ours = "pointwise.bias"
        tensors[f"{place}.{ours}"] = as_tensor(array.transpose(order))
    return tensors


def dlib_resnet(files: Files) -> Tensors:
    """Fold the channel-wise scale and shift after every convolution into it."""
    weights = face_api_weights(files)
    tensors = {"fc.weight": as_tensor(weights["fc"].T)}
    for name in weights:
        if name.endswith("/conv/filters"):
            place = name.removesuffix("/conv/filters")
            scale, shift = weights[f"{place}/scale/weights"], weights[f"{place}/scale/biases"]
            target = place.replace("/", ".")
            tensors[f"{target}.weight"] = as_tensor((weights[name] * scale).transpose(3, 2, 0, 1))
            tensors[f"{target}.bias"] = as_tensor(weights[f"{place}/conv/bias"] * scale + shift)
    return tensors


def fer(files: Files) -> Tensors:
    """Keras' HDF5: layers are numbered in order of construction, a block's shortcut before its body."""
    import h5py  # only this file needs it

    (data,) = files.values()
    arrays = {}

    def collect(path: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            layer, *_, weight = path.split("/")  # conv2d_1/conv2d_1_1/kernel:0
            arrays[f"{layer}.{weight.split(':')[0]}"] = np.array(item)

    with h5py.File(io.BytesIO(data)) as file:
        file["model_weights"].visititems(collect)

    def kernel(ours: str, theirs: str, order: tuple[int, ...] = (3, 2, 0, 1)) -> Tensors:
        return {f"{ours}.weight": as_tensor(arrays[theirs].transpose(order))}

    def norm(ours: str, number: int) -> Tensors:
        names = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
        return {f"{ours}.{a}": as_tensor(arrays[f"batch_normalization_{number}.{b}"]) for a, b in names.items()}

    def separable(ours: str, number: int) -> Tensors:
        layer = f"separable_conv2d_{number}"
        depthwise = kernel(f"{ours}.depthwise", f"{layer}.depthwise_kernel", (2, 3, 0, 1))
        return depthwise | kernel(f"{ours}.pointwise", f"{layer}.pointwise_kernel")

    tensors = kernel("stem1", "conv2d_1.kernel") | norm("stem1_norm", 1)
    tensors |= kernel("stem2", "conv2d_2.kernel") | norm("stem2_norm", 2)
    for k in range(1, 5):
        tensors |= kernel(f"block{k}.shortcut", f"conv2d_{k + 2}.kernel") | norm(f"block{k}.shortcut_norm", 3 * k)
        tensors |= separable(f"block{k}.conv1", 2 * k - 1) | norm(f"block{k}.conv1.norm", 3 * k + 1)
        tensors |= separable(f"block{k}.conv2", 2 * k) | norm(f"block{k}.conv2.norm", 3 * k + 2)
    return tensors | kernel("head", "conv2d_7.kernel") | {"head.bias": as_tensor(arrays["conv2d_7.bias"])}


# --- pickles ----------------------------------------------------------------------------------------------------------


def efflite0(files: Files) -> Tensors:
    """A PyTorch state dict; only tensors are unpickled."""
    (data,) = files.values()
    state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}


# EfficientNet: which batch norm follows which convolution.
NORM_AFTER = {"_conv_stem": "_bn0", "_expand_conv": "_bn0", "_depthwise_conv": "_bn1", "_project_conv": "_bn2"}


def efflite1(files: Files) -> Tensors:
    """The convolutions with their batch norms folded in, without the classifier."""
    state = efflite0(files)
    tensors = {}
    for name, kernel in state.items():
        layer = name.removesuffix(".weight")
        place, _, conv = layer.rpartition(".")
        if conv in NORM_AFTER:
            norm = f"{place}.{NORM_AFTER[conv]}" if place else NORM_AFTER[conv]
            gain = state[f"{norm}.weight"] * torch.rsqrt(state[f"{norm}.running_var"] + EPS)
            tensors[name] = kernel * gain[:, None, None, None]
            tensors[f"{layer}.bias"] = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * gain
    return tensors


class ArrayUnpickler(pickle.Unpickler):
    """Unpickles NumPy arrays and plain containers; refuses any other class or function in the file."""

    def find_class(self, module: str, name: str) -> Callable:
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return np._core.multiarray._reconstruct
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a file of weights")


def lpips_trunk(files: Files) -> Tensors:
    """The convolutions of a Flax trunk; its linear layers are not used, since package lpips provides them."""
    (data,) = files.values()
    layers = ArrayUnpickler(io.BytesIO(data)).load()
    trunk = next(layers[name] for name in layers if name.startswith(("Alex", "VGG")))
    network = build("lpips_alex" if len(trunk) == 5 else "lpips_vgg").model.net
    ordered = [trunk[f"Conv_{index}"] for index in range(len(trunk))]
    arrays = [array for layer in ordered for array in (layer["kernel"].transpose(3, 2, 0, 1), layer["bias"])]
    return in_order(network, arrays)


CONVERTERS = {
    "lpips_vgg": lpips_trunk,
    "lpips_alex": lpips_trunk,
    "mobilefacenet": partial(from_tflite, "mobilefacenet"),
    "dlib_resnet": dlib_resnet,
    "face_api_expression": face_api_expression,
    "fer": fer,
    "efflite0": efflite0,
    "efflite1": efflite1,
    "blazeface": partial(from_tflite, "blazeface"),
}
