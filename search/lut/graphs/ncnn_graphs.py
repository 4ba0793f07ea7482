"""Blocks and whole networks as ncnn's description of a graph (``.param``), with the layers that pnnx makes of exports.

A test compares the layers of a network with those of the exported one, and its outputs. A description holds no weights;
their values do not affect the latency, and ncnn takes zeros for them.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from search.lut.graphs.inputs import input_shapes
from search.lut.workloads import NoOp, Workload
from subnet_export.deployment.graphs.layers import DECONV_PADDING, DECONV_SHAPE, DECONV_STRIDE, Conv, write_layers

MAGIC = 7767517
"""First line of every such file."""
_ACTIVATIONS = {"": "", "relu": " 9=1", "relu6": " -23310=2,0.0,6.0 9=3"}
"""Parameters of a layer with an activation inside."""


def param_of(workload: Workload, num_keypoints: int) -> str:
    """Return the ``.param`` file of a workload; inputs are ``in0``, ``in1``, outputs ``out0``, ``out1``."""
    writer = _Writer()
    inputs = [writer.input() for _ in input_shapes(workload, 1)]
    if isinstance(workload, NoOp):
        return writer.text([writer.layer("ReLU", "relu", inputs)])
    return writer.text(write_layers(writer, workload, num_keypoints, inputs))


@dataclass
class _Layer:
    kind: str
    name: str
    inputs: list[str]
    outputs: list[str]
    parameters: str = ""

    def line(self) -> str:
        counts = f"{len(self.inputs)} {len(self.outputs)}"
        return " ".join([self.kind, self.name, counts, *self.inputs, *self.outputs, self.parameters]).rstrip()


@dataclass
class _Writer:
    """Collects layers; every method that adds one returns the name of its output."""

    layers: list[_Layer] = field(default_factory=list)

    def input(self) -> str:
        name = f"in{len(self.layers)}"  # inputs come before all other layers
        self.layers.append(_Layer("Input", name, [], [name]))
        return name

    def layer(self, kind: str, name: str, inputs: Sequence[str], parameters: str = "") -> str:
        output = f"value{len(self.layers)}"
        self.layers.append(_Layer(kind, name, list(inputs), [output], parameters))
        return output

    def normalised(self, images: str) -> str:
        return images  # as exports for ncnn expect them

    def conv(self, value: str, layer: Conv) -> str:
        shape = _shape(layer.outputs, layer.kernel_size, layer.stride, layer.kernel_size // 2, layer.bias)
        groups = f" 7={layer.inputs}" if layer.is_depthwise else ""
        parameters = f"{shape} 6={math.prod(layer.weight_shape)}{groups}{_ACTIVATIONS[layer.activation]}"
        return self.layer("ConvolutionDepthWise" if groups else "Convolution", layer.name, [value], parameters)

    def deconv(self, name: str, value: str, inputs: int, outputs: int, bias: bool) -> str:
        shape = _shape(outputs, DECONV_SHAPE[0], DECONV_STRIDE, DECONV_PADDING, bias)
        parameters = f"{shape} 6={inputs * outputs * math.prod(DECONV_SHAPE)} 18=0 19=0"
        return self.layer("Deconvolution", name, [value], parameters)

    def add(self, name: str, first: str, second: str, relu: bool = False) -> str:
        value = self.layer("BinaryOp", name, [first, second], "0=0")
        return self.layer("ReLU", f"{name}.relu", [value]) if relu else value

    def text(self, outputs: Sequence[str]) -> str:
        """Return the file, in which ``out0``, ``out1`` are the values ``outputs``.

        A value that several layers take is split first, as ncnn wants every value to be taken once.
        """
        names = {value: f"out{i}" for i, value in enumerate(outputs)}
        uses = Counter(value for layer in self.layers for value in layer.inputs)
        copies: dict[str, list[str]] = {}
        lines = []
        for layer in self.layers:
            inputs = [copies[value].pop(0) if value in copies else value for value in layer.inputs]
            (value,) = layer.outputs
            renamed = names.get(value, value)
            lines.append(_Layer(layer.kind, layer.name, inputs, [renamed], layer.parameters))
            if uses[value] > 1:
                copies[value] = [f"{value}_{i}" for i in range(uses[value])]
                lines.append(_Layer("Split", f"split_{value}", [value], list(copies[value])))
        num_values = sum(len(layer.outputs) for layer in lines)
        return "\n".join([str(MAGIC), f"{len(lines)} {num_values}", *(layer.line() for layer in lines), ""])


def _shape(outputs: int, kernel_size: int, stride: int, padding: int, bias: bool) -> str:
    """Return the parameters that all convolutions have: horizontal ones, the same vertical ones, and the bias."""
    horizontal = f"0={outputs} 1={kernel_size} 2=1 3={stride} 4={padding}"
    return f"{horizontal} 11={kernel_size} 12=1 13={stride} 14={padding} 5={int(bias)}"
