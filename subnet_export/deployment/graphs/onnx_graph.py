"""Networks as ONNX graphs that take any batch and image size, written node by node."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from subnet_export.deployment.deployed_network import DeploymentNetwork, Input
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
from supernet.pose.geometry import IMAGENET_MEAN, IMAGENET_STD
from supernet.version import PROJECT

if TYPE_CHECKING:
    import onnx

INPUT_NAME = "images"
OUTPUT_NAMES = ("low", "high")
OPSET, IR_VERSION = 18, 9
"""Read by ONNX Runtime since 1.14."""
_PREFIX = "network."


def onnx_graph(network: DeploymentNetwork) -> "onnx.ModelProto":
    """Return ``network`` as an ONNX model with input ``images`` and outputs ``low`` and ``high``.

    Convolutions have their names in the published state dict with the prefix ``network.``.
    """
    import onnx
    from onnx import TensorProto, helper

    deployed, state = network.network, network.network.state_dict()
    writer = OnnxWriter(lambda name, _: np.asarray(state[name].numpy()), network.takes, _PREFIX)
    images = writer.input(INPUT_NAME, 3, is_image=network.takes == "uint8")
    num_keypoints = deployed.num_keypoints
    maps = write_layers(writer, deployed.arch, num_keypoints, [images])
    model = writer.model(dict(zip(OUTPUT_NAMES, maps, strict=True)))
    del model.graph.output[:]
    for name, channels, stride in zip(OUTPUT_NAMES, (2 * num_keypoints, num_keypoints), (4, 2), strict=True):
        sizes: list[str | int | None] = ["batch", channels, f"height/{stride}", f"width/{stride}"]
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes))
    model.producer_name = PROJECT
    onnx.checker.check_model(model, full_check=True)
    return model


class OnnxWriter:
    """Collects the parts of a graph; every method that adds a node returns the name of its output.

    Args:
        weights: Returns the weights of layers.
        takes: Kind of input.
        prefix: Comes before the names of layers and of their weights in the graph.
    """

    def __init__(self, weights: Weights, takes: Input = "uint8", prefix: str = "") -> None:
        self._weights, self._takes, self._prefix = weights, takes, prefix
        self._nodes: list[Any] = []
        self._inputs: list[Any] = []
        self._tensors: list[Any] = []
        self._limits: tuple[str, str] | None = None

    def input(self, name: str, channels: int, is_image: bool = False) -> str:
        """Add an input of any batch and size: images (B, H, W, C) uint8, or maps (B, C, H, W) float32."""
        from onnx import TensorProto, helper

        sizes: list[str | int | None] = ["batch", channels, "height", "width"]
        if is_image:
            sizes = ["batch", "height", "width", channels]
        kind = TensorProto.UINT8 if is_image else TensorProto.FLOAT
        self._inputs.append(helper.make_tensor_value_info(name, kind, sizes))
        return name

    def node(self, operator: str, inputs: Sequence[str], name: str = "", **attributes: Any) -> str:
        """Add a node."""
        from onnx import helper

        output = f"value{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [output], name=name, **attributes))
        return output

    def normalised(self, images: str) -> str:
        """Normalise images (B, H, W, 3).

        Pixels become float in a CastLike, whose target is the type of the mean that is subtracted next. A converter to
        float16 changes the type of the mean and of all weights, but not the target that a Cast states, so that the
        difference of both would mix two types, which ONNX does not allow. The target is not the type of a weight,
        which may become an integer.
        """
        if self._takes != "uint8":
            return images
        mean, deviation = (
            self._tensor(name, 255.0 * np.array(numbers, np.float32).reshape(1, 3, 1, 1))
            for name, numbers in (("mean", IMAGENET_MEAN), ("deviation", IMAGENET_STD))
        )
        value = self.node("CastLike", [self.node("Transpose", [images], perm=[0, 3, 1, 2]), mean])
        return self.node("Div", [self.node("Sub", [value, mean]), deviation])

    def conv(self, value: str, layer: Conv) -> str:
        weight, num_biases = layer.weight_shape, layer.outputs if layer.bias else 0
        padding, groups = layer.kernel_size // 2, layer.inputs if layer.is_depthwise else 1
        value = self._convolution("Conv", layer.name, value, weight, num_biases, layer.stride, padding, groups)
        return self._activated(value, layer.activation)

    def deconv(self, name: str, value: str, inputs: int, outputs: int, bias: bool) -> str:
        weight, num_biases = (inputs, outputs, *DECONV_SHAPE), outputs if bias else 0
        return self._convolution("ConvTranspose", name, value, weight, num_biases, DECONV_STRIDE, DECONV_PADDING)

    def add(self, name: str, first: str, second: str, relu: bool = False) -> str:
        return self._activated(self.node("Add", [first, second], self._prefix + name), "relu" if relu else "")

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
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)

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
            self._prefix + name,
            dilations=[1, 1],
            group=groups,
            kernel_shape=list(weight[2:]),
            pads=[padding] * 4,
            strides=[stride] * 2,
        )

    def _activated(self, value: str, activation: Activation) -> str:
        if activation == "relu6":
            if self._limits is None:
                lowest, highest = np.array(0, np.float32), np.array(6, np.float32)
                self._limits = self._tensor("lowest", lowest), self._tensor("highest", highest)
            return self.node("Clip", [value, *self._limits])
        return self.node("Relu", [value]) if activation else value

    def _weight(self, name: str, shape: tuple[int, ...]) -> str:
        return self._tensor(self._prefix + name, self._weights(name, shape))

    def _tensor(self, name: str, values: "Array | onnx.TensorProto") -> str:
        from onnx import numpy_helper

        self._tensors.append(numpy_helper.from_array(values, name) if isinstance(values, np.ndarray) else values)
        return name
