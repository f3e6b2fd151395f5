"""Read the weights of a TensorFlow Lite file in the order in which its graph uses them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import tflite

DTYPES = {tflite.TensorType.FLOAT32: np.float32, tflite.TensorType.FLOAT16: np.float16}
KINDS = {
    tflite.BuiltinOperator.CONV_2D: "conv",
    tflite.BuiltinOperator.DEPTHWISE_CONV_2D: "depthwise_conv",
    tflite.BuiltinOperator.MUL: "mul",
    tflite.BuiltinOperator.DEQUANTIZE: "dequantize",
}


@dataclass(frozen=True)
class Operation:
    """One operation of the graph, with its constant inputs as float32."""

    kind: str
    constants: list[np.ndarray]


def read_operations(data: bytes) -> Iterator[Operation]:
    """The convolutions and multiplications of a graph, in order.

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
        code = model.OperatorCodes(operator.OpcodeIndex())
        # old files store the code in the first field; in newer files it is the larger of both fields
        kind = KINDS.get(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()))
        inputs = operator.InputsAsNumpy()
        if kind == "dequantize":  # half-precision weights pass through a separate dequantize operation
            constants[operator.Outputs(0)] = constants[inputs[0]]
        elif kind is not None:
            yield Operation(kind, [constants[place] for place in inputs if place in constants])
