"""Blocks and whole networks as ncnn's description of a graph (``.param``), with the layers that pnnx makes of exports.

They are written line by line, because pnnx takes seconds for each. A test compares the layers of a network with those
of the exported one, and its outputs. A description holds no weights; their values do not affect the latency, and ncnn
takes zeros for them.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from search.lut.workloads import NoOp, Workload, write_network
from supernet.arch import DECONV_KERNEL_SIZE, HEAD_KERNEL_SIZE, STEM_CHANNELS, Arch, make_divisible
from supernet.costs.latency_blocks import Block, Bottleneck, Deconv, Stem

MAGIC = 7767517
"""First line of every such file."""
RELU, RELU6 = "9=1", "-23310=2,0.0,6.0 9=3"
"""Parameters of a layer with an activation inside."""


def param_of(workload: Workload, num_keypoints: int) -> str:
    """Return the ``.param`` file of a workload; inputs are ``in0``, ``in1``, outputs ``out0``, ``out1``."""
    writer = _Writer()
    if isinstance(workload, NoOp):
        return writer.text([writer.layer("ReLU", "relu", [writer.input()])])
    if isinstance(workload, Arch):
        return writer.text(write_network(workload, num_keypoints, writer.input(), partial(_block, writer)))
    inputs = [writer.input() for _ in range(1 if isinstance(workload, Stem | Bottleneck) else 2)]
    return writer.text([_block(writer, "block", workload, inputs)])


def _block(writer: "_Writer", name: str, block: Block, inputs: Sequence[str]) -> str:
    """Write the layers of a block and return the name of its output. Layers have their names in the state dict."""
    if isinstance(block, Stem):
        value = writer.conv(f"{name}.0.0", inputs[0], 3, STEM_CHANNELS, 3, 2, RELU6)
        value = writer.depthwise(f"{name}.1.0", value, STEM_CHANNELS, 3, 1, RELU6)
        return writer.conv(f"{name}.2", value, STEM_CHANNELS, block.width, 1)
    if isinstance(block, Bottleneck):
        hidden = make_divisible(block.in_width * block.expand_ratio)
        value = writer.conv(f"{name}.inv.0", inputs[0], block.in_width, hidden, 1, activation=RELU6)
        value = writer.depthwise(f"{name}.depth_conv.0", value, hidden, block.kernel_size, block.stride, RELU6)
        value = writer.conv(f"{name}.point_conv.0", value, hidden, block.width, 1)
        is_residual = block.stride == 1 and block.in_width == block.width
        return writer.add(f"{name}.sum", inputs[0], value) if is_residual else value
    if isinstance(block, Deconv):
        refined = writer.deconv(f"deconv_refined.{name}", inputs[0], block.in_width, block.width, bias=True)
        raw = writer.deconv(f"deconv_raw.{name}", inputs[1], block.skip_width, block.width, bias=False)
        return writer.layer("ReLU", f"relu.{name}", [writer.add(f"deconv_sum.{name}", refined, raw)])
    summands = []
    for part, value, width in zip(("refined", "raw"), inputs, (block.in_width, block.skip_width), strict=True):
        prefix = f"final_{part}.{name}.conv"
        value = writer.depthwise(f"{prefix}.0", value, width, HEAD_KERNEL_SIZE, 1, RELU)
        summands.append(writer.conv(f"{prefix}.3", value, width, block.outputs, 1, bias=False))
    return writer.add(f"final_sum.{name}", *summands)


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

    def add(self, name: str, first: str, second: str) -> str:
        return self.layer("BinaryOp", name, [first, second], "0=0")

    def conv(
        self,
        name: str,
        value: str,
        inputs: int,
        outputs: int,
        kernel_size: int,
        stride: int = 1,
        activation: str = "",
        bias: bool = True,
    ) -> str:
        shape = _shape(outputs, kernel_size, stride, kernel_size // 2, bias)
        num_weights = inputs * outputs * kernel_size**2
        return self.layer("Convolution", name, [value], f"{shape} 6={num_weights} {activation}".rstrip())

    def depthwise(self, name: str, value: str, channels: int, kernel_size: int, stride: int, activation: str) -> str:
        shape = _shape(channels, kernel_size, stride, kernel_size // 2, bias=True)
        parameters = f"{shape} 6={channels * kernel_size**2} 7={channels} {activation}"
        return self.layer("ConvolutionDepthWise", name, [value], parameters)

    def deconv(self, name: str, value: str, inputs: int, outputs: int, bias: bool) -> str:
        shape = _shape(outputs, DECONV_KERNEL_SIZE, 2, 1, bias)
        parameters = f"{shape} 6={inputs * outputs * DECONV_KERNEL_SIZE**2} 18=0 19=0"
        return self.layer("Deconvolution", name, [value], parameters)

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
