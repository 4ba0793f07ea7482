"""Blocks and whole networks as ONNX graphs like those of exports: batch norms folded, normalisation included.

They are written node by node, because tracing thousands of blocks would take hours. One function writes the nodes of a
block, for the block alone and for every position in a network, so that the measured blocks are those of the network. A
test checks that the graph of a network computes the same as the exported one.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from search.lut.workloads import NoOp, Workload, write_network
from subnet_export.deployment.deployed_network import Input
from supernet.arch import DECONV_KERNEL_SIZE, HEAD_KERNEL_SIZE, STEM_CHANNELS, Arch, make_divisible
from supernet.costs.latency_blocks import Block, Bottleneck, Deconv, Stem
from supernet.pose.geometry import IMAGENET_MEAN, IMAGENET_STD

if TYPE_CHECKING:
    import onnx

OPSET = 18
Array: TypeAlias = npt.NDArray[np.float32]
Weights = Callable[[str, tuple[int, ...]], "Array | onnx.TensorProto"]
"""Returns the tensor of a name and shape. Names are those of the published state dict, with ``.bias`` for the bias of a
folded batch norm; those of a single block begin with "block"."""


def random_weights() -> Weights:
    """Return small random weights; their values do not affect the latency."""
    pool = weight_pool(1 << 18)

    def weights(name: str, shape: tuple[int, ...]) -> Array:
        return np.resize(pool, shape)

    return weights


def weight_pool(num: int) -> Array:
    """Return the random numbers (num,) that all weights are made of."""
    return np.random.default_rng(0).normal(0, 0.05, num).astype(np.float32)


def input_shapes(workload: Workload, batch: int, takes: Input = "uint8") -> list[tuple[int, ...]]:
    """Return the shapes of a workload's inputs: maps are (B, C, H, W) float32, images as a network ``takes`` them."""
    if isinstance(workload, NoOp):
        return [(batch, 8, 1, 1)]
    if isinstance(workload, Arch | Stem):
        size = workload.resolution if isinstance(workload, Arch) else workload.input_size
        return [(batch, size, size, 3) if takes == "uint8" else (batch, 3, size, size)]
    size = workload.input_size
    if isinstance(workload, Bottleneck):
        return [(batch, workload.in_width, size, size)]
    return [(batch, workload.in_width, size, size), (batch, workload.skip_width, size, size)]


def is_image(shape: Sequence[int]) -> bool:
    """Return whether a shape is that of square images (B, H, W, 3), not of square maps (B, C, H, W)."""
    return shape[2] != shape[3]


def graph_of(workload: Workload, num_keypoints: int, weights: Weights, takes: Input = "uint8") -> "onnx.ModelProto":
    """Return the ONNX model of a workload, with dynamic batch and size like exports; see ``input_shapes``.

    The graph of ``NoOp`` does almost nothing: its time is the cost of a call of the library.
    """
    writer = _Writer(weights, takes)
    if isinstance(workload, Arch):
        return _network(writer, workload, num_keypoints)
    names = [writer.declare(f"input{i}", shape) for i, shape in enumerate(input_shapes(workload, 1, takes))]
    if isinstance(workload, NoOp):
        return writer.model({"output": writer.node("Relu", names)})
    return writer.model({"output": _block(writer, "block", workload, names)})


def _network(writer: "_Writer", arch: Arch, num_keypoints: int) -> "onnx.ModelProto":
    image = writer.declare("images", input_shapes(arch, 1, writer.takes)[0])
    outputs = write_network(arch, num_keypoints, image, partial(_block, writer))
    return writer.model(dict(zip(("low", "high"), outputs, strict=True)))


def _block(writer: "_Writer", name: str, block: Block, inputs: Sequence[str]) -> str:
    """Write the nodes of a block and return the name of its output."""
    if isinstance(block, Stem):
        value = writer.normalised(inputs[0]) if writer.takes == "uint8" else inputs[0]
        value = writer.relu6(writer.conv(f"{name}.0.0", value, 3, STEM_CHANNELS, 3, stride=2))
        value = writer.relu6(writer.conv(f"{name}.1.0", value, STEM_CHANNELS, STEM_CHANNELS, 3, groups=STEM_CHANNELS))
        return writer.conv(f"{name}.2", value, STEM_CHANNELS, block.width, 1)
    if isinstance(block, Bottleneck):
        hidden = make_divisible(block.in_width * block.expand_ratio)
        value = writer.relu6(writer.conv(f"{name}.inv.0", inputs[0], block.in_width, hidden, 1))
        depthwise = (hidden, hidden, block.kernel_size, block.stride, hidden)
        value = writer.relu6(writer.conv(f"{name}.depth_conv.0", value, *depthwise))
        value = writer.conv(f"{name}.point_conv.0", value, hidden, block.width, 1)
        is_residual = block.stride == 1 and block.in_width == block.width
        return writer.node("Add", [inputs[0], value]) if is_residual else value
    if isinstance(block, Deconv):
        refined = writer.deconv(f"deconv_refined.{name}", inputs[0], block.in_width, block.width, bias=True)
        raw = writer.deconv(f"deconv_raw.{name}", inputs[1], block.skip_width, block.width, bias=False)
        return writer.node("Relu", [writer.node("Add", [refined, raw])])
    summands = []
    for part, value, width in zip(("refined", "raw"), inputs, (block.in_width, block.skip_width), strict=True):
        prefix = f"final_{part}.{name}.conv"
        value = writer.node("Relu", [writer.conv(f"{prefix}.0", value, width, width, HEAD_KERNEL_SIZE, groups=width)])
        summands.append(writer.conv(f"{prefix}.3", value, width, block.outputs, 1, bias=False))
    return writer.node("Add", summands)


class _Writer:
    """Collects the parts of a graph; every method that adds a node returns the name of its output."""

    def __init__(self, weights: Weights, takes: Input) -> None:
        self._weights, self.takes = weights, takes
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

    def normalised(self, value: str) -> str:
        value = self.node("Transpose", [value], perm=[0, 3, 1, 2])
        value = self.node("Cast", [value], to=1)  # FLOAT
        for operator, numbers in (("Sub", IMAGENET_MEAN), ("Div", IMAGENET_STD)):
            constant = self.constant(255.0 * np.array(numbers, np.float32).reshape(1, 3, 1, 1))
            value = self.node(operator, [value, constant])
        return value

    def conv(
        self,
        name: str,
        value: str,
        inputs: int,
        outputs: int,
        kernel_size: int,
        stride: int = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> str:
        weight = (outputs, inputs // groups, kernel_size, kernel_size)
        return self._convolution("Conv", name, value, weight, outputs if bias else 0, stride, kernel_size // 2, groups)

    def deconv(self, name: str, value: str, inputs: int, outputs: int, bias: bool) -> str:
        weight = (inputs, outputs, DECONV_KERNEL_SIZE, DECONV_KERNEL_SIZE)
        return self._convolution("ConvTranspose", name, value, weight, outputs if bias else 0, 2, 1, 1)

    def relu6(self, value: str) -> str:
        if self._limits is None:
            self._limits = self.constant(np.array(0, np.float32)), self.constant(np.array(6, np.float32))
        return self.node("Clip", [value, *self._limits])

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
        groups: int,
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

    def _weight(self, name: str, shape: tuple[int, ...]) -> str:
        from onnx import numpy_helper

        values = self._weights(name, shape)
        self._tensors.append(numpy_helper.from_array(values, name) if isinstance(values, np.ndarray) else values)
        return name
