"""Networks as LiteRT files, written operator by operator in seconds and without another library than LiteRT's.

The operators, their options and their shapes are those that Google's converter (litert-torch 0.10) makes of the same
network, which needs 740 MB of packages for it. Maps are (B, H, W, C) inside.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from subnet_export.deployment.deployed_network import DeploymentNetwork, Input
from subnet_export.deployment.graphs.layers import DECONV_SHAPE, DECONV_STRIDE, Conv, Weights, write_layers
from supernet.arch import Arch
from supernet.pose.geometry import IMAGENET_MEAN, IMAGENET_STD

INPUT, OUTPUTS = "images", ("low", "high")
_SCHEMA_VERSION = 3
_IDENTIFIER = b"TFL3"
_BIASED_DECONV_VERSION = 3
"""Version of the transposed convolution that has a bias."""


def litert_file(network: DeploymentNetwork) -> bytes:
    """Return the ``.tflite`` file of a network with either input; its own resolution is the first size of the file."""
    deployed, state = network.network, network.network.state_dict()
    return network_file(
        deployed.arch, deployed.num_keypoints, lambda name, _: np.asarray(state[name].numpy()), network.takes
    )


def network_file(arch: Arch, num_keypoints: int, weights: Weights, takes: Input, batch: int = 1) -> bytes:
    """Return the ``.tflite`` file of a network with these weights.

    Its first input is ``batch`` square images of the arch's resolution, (B, H, W, 3) uint8 or (B, 3, H, W) float32.
    """
    writer, side = LiteRtWriter(weights, takes), arch.resolution
    shape = (batch, side, side, 3) if takes == "uint8" else (batch, 3, side, side)
    maps = write_layers(writer, arch, num_keypoints, [writer.input(INPUT, shape, takes.upper())])
    return writer.file(
        {name: writer.transposed(value, (0, 3, 1, 2)) for name, value in zip(OUTPUTS, maps, strict=True)}
    )


class LiteRtWriter:
    """Collects tensors and operators; every method that adds an operator returns the name of its output.

    Maps are (B, H, W, C).
    """

    def __init__(self, weights: Weights, takes: Input = "uint8") -> None:
        from ai_edge_litert import schema_py_generated as schema

        self._schema, self._weights, self._takes = schema, weights, takes
        self._graph = schema.SubGraphT()
        self._graph.tensors, self._graph.operators, self._graph.inputs = [], [], []
        self._buffers = [schema.BufferT()]  # the first one is empty by convention
        self._codes: dict[tuple[str, int], int] = {}
        self._places: dict[str, int] = {}

    def input(self, name: str, shape: Sequence[int], kind: str) -> str:
        self._graph.inputs.append(self._tensor(name, shape, kind))
        return name

    def operator(
        self, kind: str, inputs: Sequence[str], shape: Sequence[int], options: Any = None, version: int = 1
    ) -> str:
        """Add an operator whose output has the given shape."""
        name = f"value{len(self._graph.operators)}"
        operator = self._schema.OperatorT()
        operator.opcodeIndex = self._codes.setdefault((kind, version), len(self._codes))
        operator.inputs = [self._places[value] for value in inputs]
        operator.outputs = [self._tensor(name, shape)]
        if options is not None:
            operator.builtinOptions = options
            operator.builtinOptionsType = getattr(self._schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        self._graph.operators.append(operator)
        return name

    def normalised(self, images: str) -> str:
        """Normalise images (B, H, W, 3), or bring those that are normalised already, (B, 3, H, W), into that order."""
        if self._takes == "float32":
            return self.transposed(images, (0, 2, 3, 1))
        shape = self._shape(images)
        value = self.operator("CAST", [images], shape, self._schema.CastOptionsT())
        means, deviations = (255.0 * np.array(numbers, np.float32) for numbers in (IMAGENET_MEAN, IMAGENET_STD))
        mean = self._constant("mean", means.reshape(1, 1, 1, 3))
        value = self.operator("SUB", [value, mean], shape, self._schema.SubOptionsT())
        factor = self._constant("factor", (1 / deviations).reshape(1, 1, 1, 3))
        return self.operator("MUL", [value, factor], shape, self._schema.MulOptionsT())

    def conv(self, value: str, layer: Conv) -> str:
        """Add a convolution; one with a stride is padded by an operator of its own, as LiteRT pads by other rules."""
        batch, height, width, inputs = self._shape(value)
        kinds, pad = self._schema.ActivationFunctionType, layer.kernel_size // 2
        options = self._schema.DepthwiseConv2DOptionsT() if layer.is_depthwise else self._schema.Conv2DOptionsT()
        if layer.is_depthwise:
            options.depthMultiplier = 1
        options.strideH = options.strideW = layer.stride
        options.dilationHFactor = options.dilationWFactor = 1
        options.fusedActivationFunction = {"": kinds.NONE, "relu": kinds.RELU, "relu6": kinds.RELU6}[layer.activation]
        is_padded_here = layer.stride == 1 and pad > 0
        options.padding = self._schema.Padding.SAME if is_padded_here else self._schema.Padding.VALID
        if layer.stride > 1:
            sides = self._constant(f"{value}.pad", np.array([(0, 0), (pad, pad), (pad, pad), (0, 0)], np.int32))
            padded = (batch, height + 2 * pad, width + 2 * pad, inputs)
            value = self.operator("PAD", [value, sides], padded, self._schema.PadOptionsT())
        weight = self._weight(layer.name, layer.weight_shape, (1, 2, 3, 0) if layer.is_depthwise else (0, 2, 3, 1))
        shape = (batch, height // layer.stride, width // layer.stride, layer.outputs)
        kind = "DEPTHWISE_CONV_2D" if layer.is_depthwise else "CONV_2D"
        return self.operator(kind, [value, weight, self._bias(layer.name, layer.outputs, layer.bias)], shape, options)

    def deconv(self, name: str, value: str, inputs: int, outputs: int, bias: bool) -> str:
        weight = self._weight(name, (inputs, outputs, *DECONV_SHAPE), (1, 2, 3, 0))
        batch, height, width, _ = self._shape(value)
        shape = (batch, DECONV_STRIDE * height, DECONV_STRIDE * width, outputs)
        options = self._schema.TransposeConvOptionsT()
        options.strideH = options.strideW = DECONV_STRIDE
        options.padding = self._schema.Padding.SAME
        operands = [self._constant(f"{name}.shape", np.array(shape, np.int32)), weight, value]
        operands.append(self._bias(name, outputs, bias))
        return self.operator("TRANSPOSE_CONV", operands, shape, options, _BIASED_DECONV_VERSION)

    def add(self, name: str, first: str, second: str, relu: bool = False) -> str:
        options = self._schema.AddOptionsT()
        kinds = self._schema.ActivationFunctionType
        options.fusedActivationFunction = kinds.RELU if relu else kinds.NONE
        return self.operator("ADD", [first, second], self._shape(first), options)

    def transposed(self, value: str, order: Sequence[int]) -> str:
        """Bring the axes of a value into another order."""
        shape = self._shape(value)
        axes = self._constant(f"{value}.order", np.array(order, np.int32))
        options = self._schema.TransposeOptionsT()
        return self.operator("TRANSPOSE", [value, axes], [shape[axis] for axis in order], options)

    def file(self, outputs: Mapping[str, str]) -> bytes:
        """Return the file; ``outputs`` maps the names of its outputs to names of values."""
        import flatbuffers

        schema = self._schema
        self._graph.outputs = [self._places[value] for value in outputs.values()]
        model = schema.ModelT()
        model.version, model.subgraphs, model.buffers = _SCHEMA_VERSION, [self._graph], self._buffers
        model.operatorCodes, model.signatureDefs = [], [schema.SignatureDefT()]
        for kind, version in self._codes:
            code = schema.OperatorCodeT()
            code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, kind)
            code.version = version
            model.operatorCodes.append(code)
        signature = model.signatureDefs[0]
        signature.signatureKey = b"serving_default"
        inputs = {name: place for name, place in self._places.items() if place in self._graph.inputs}
        signature.inputs = [self._named(name, place) for name, place in inputs.items()]
        signature.outputs = [self._named(name, self._places[value]) for name, value in outputs.items()]
        builder = flatbuffers.Builder()
        builder.Finish(model.Pack(builder), _IDENTIFIER)
        return bytes(builder.Output())

    def _weight(self, name: str, shape: tuple[int, ...], order: tuple[int, ...]) -> str:
        """Add a weight whose axes in LiteRT are those of PyTorch in the given order."""
        values = np.asarray(self._weights(f"{name}.weight", shape))
        return self._constant(f"{name}.weight", np.ascontiguousarray(values.transpose(order)))

    def _bias(self, name: str, num: int, bias: bool) -> str:
        values = np.asarray(self._weights(f"{name}.bias", (num,))) if bias else np.zeros(num, np.float32)
        return self._constant(f"{name}.bias", values)

    def _constant(self, name: str, values: npt.NDArray[Any]) -> str:
        buffer = self._schema.BufferT()
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
        self._buffers.append(buffer)
        kind = "INT32" if values.dtype == np.int32 else "FLOAT32"
        self._tensor(name, values.shape, kind, len(self._buffers) - 1)
        return name

    def _tensor(self, name: str, shape: Sequence[int], kind: str = "FLOAT32", buffer: int = 0) -> int:
        tensor = self._schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer = name.encode(), list(shape), buffer
        tensor.type = getattr(self._schema.TensorType, kind)
        tensor.quantization = self._schema.QuantizationParametersT()
        self._places[name] = len(self._graph.tensors)
        self._graph.tensors.append(tensor)
        return self._places[name]

    def _shape(self, value: str) -> tuple[int, ...]:
        return tuple(self._graph.tensors[self._places[value]].shape)

    def _named(self, name: str, place: int) -> Any:
        entry = self._schema.TensorMapT()
        entry.name, entry.tensorIndex = name.encode(), place
        return entry
