"""Blocks and whole networks as ONNX graphs like those of exports, normalisation included.

A test checks that the graph of a network computes the same as the exported one.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from search.lut.graphs.inputs import input_shapes, is_image
from search.lut.workloads import NoOp, Workload
from subnet_export.deployment.deployed_network import Input
from subnet_export.deployment.graphs.layers import (
    DECONV_PADDING,
    DECONV_SHAPE,
    DECONV_STRIDE,
    Activation,
    Array,
    Conv,
    Weights,
    write_layers,
)
from supernet.arch import Arch
from supernet.pose.geometry import IMAGENET_MEAN, IMAGENET_STD

if TYPE_CHECKING:
    import onnx

OPSET = 18


def graph_of(workload: Workload, num_keypoints: int, weights: Weights, takes: Input = "uint8") -> "onnx.ModelProto":
    """Return the ONNX model of a workload, with dynamic batch and size like exports; see ``input_shapes``.

    The graph of ``NoOp`` does almost nothing: its time is the cost of a call of the library.
    """
    writer = _Writer(weights, takes)
    shapes = input_shapes(workload, 1, takes)
    is_network = isinstance(workload, Arch)
    names = [writer.declare("images" if is_network else f"input{i}", shape) for i, shape in enumerate(shapes)]
    if isinstance(workload, NoOp):
        return writer.model({"output": writer.node("Relu", names)})
    outputs = write_layers(writer, workload, num_keypoints, names)
    return writer.model(dict(zip(("low", "high") if is_network else ("output",), outputs, strict=True)))


class _Writer:
    """Collects the parts of a graph; every method that adds a node returns the name of its output."""

    def __init__(self, weights: Weights, takes: Input) -> None:
        self._weights, self._takes = weights, takes
        self._nodes: list[Any] = []
        self._inputs: list[Any] = []
        self._tensors: list[Any] = []
        self._limits: tuple[str, str] | None = None

    def declare(self, name: str, shape: Sequence[int]) -> str:
        from onnx import TensorProto, helper

        sizes: list[str | int | None] = ["batch", shape[1], "height", "width"]
        if is_image(shape):
            sizes = ["batch", "height", "width", shape[3]]
        kind = TensorProto.UINT8 if is_image(shape) else TensorProto.FLOAT
        self._inputs.append(helper.make_tensor_value_info(name, kind, sizes))
        return name

    def node(self, operator: str, inputs: Sequence[str], name: str = "", **attributes: Any) -> str:
        from onnx import helper

        output = f"value{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [output], name=name, **attributes))
        return output

    def constant(self, values: Array) -> str:
        from onnx import numpy_helper

        name = f"constant{len(self._tensors)}"
        self._tensors.append(numpy_helper.from_array(values, name))
        return name

    def normalised(self, images: str) -> str:
        if self._takes != "uint8":
            return images
        value = self.node("Transpose", [images], perm=[0, 3, 1, 2])
        value = self.node("Cast", [value], to=1)  # FLOAT
        for operator, numbers in (("Sub", IMAGENET_MEAN), ("Div", IMAGENET_STD)):
            constant = self.constant(255.0 * np.array(numbers, np.float32).reshape(1, 3, 1, 1))
            value = self.node(operator, [value, constant])
        return value

    def conv(self, value: str, layer: Conv) -> str:
        weight, num_biases = layer.weight_shape, layer.outputs if layer.bias else 0
        padding, groups = layer.kernel_size // 2, layer.inputs if layer.is_depthwise else 1
        value = self._convolution("Conv", layer.name, value, weight, num_biases, layer.stride, padding, groups)
        return self._activated(value, layer.activation)

    def deconv(self, name: str, value: str, inputs: int, outputs: int, bias: bool) -> str:
        weight, num_biases = (inputs, outputs, *DECONV_SHAPE), outputs if bias else 0
        return self._convolution("ConvTranspose", name, value, weight, num_biases, DECONV_STRIDE, DECONV_PADDING)

    def add(self, name: str, first: str, second: str, relu: bool = False) -> str:
        return self._activated(self.node("Add", [first, second]), "relu" if relu else "")

    def model(self, outputs: Mapping[str, str]) -> "onnx.ModelProto":
        """Return the model; ``outputs`` maps the names of its outputs to names of values."""
        from onnx import TensorProto, helper

        names = {value: name for name, value in outputs.items()}
        for node in self._nodes:
            for place, value in enumerate(node.output):
                node.output[place] = names.get(value, value)
            for place, value in enumerate(node.input):
                node.input[place] = names.get(value, value)
        results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(self._nodes, "graph", self._inputs, results, self._tensors)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)

    def _convolution(
        self,
        operator: str,
        name: str,
        value: str,
        weight: tuple[int, ...],
        num_biases: int,
        stride: int,
        padding: int,
        groups: int = 1,
    ) -> str:
        inputs = [value, self._weight(f"{name}.weight", weight)]
        if num_biases:
            inputs.append(self._weight(f"{name}.bias", (num_biases,)))
        return self.node(
            operator,
            inputs,
            name,
            dilations=[1, 1],
            group=groups,
            kernel_shape=list(weight[2:]),
            pads=[padding] * 4,
            strides=[stride] * 2,
        )

    def _activated(self, value: str, activation: Activation) -> str:
        if activation == "relu6":
            if self._limits is None:
                self._limits = self.constant(np.array(0, np.float32)), self.constant(np.array(6, np.float32))
            return self.node("Clip", [value, *self._limits])
        return self.node("Relu", [value]) if activation else value

    def _weight(self, name: str, shape: tuple[int, ...]) -> str:
        from onnx import numpy_helper

        values = self._weights(name, shape)
        self._tensors.append(numpy_helper.from_array(values, name) if isinstance(values, np.ndarray) else values)
        return name
