"""The layers of blocks and whole networks, for writers of graphs in the formats of several libraries.

The layers are those of deployed networks: batch norms are folded. The same function writes a block alone, for latency
tables, and at every position in a network, so that the measured blocks are those of the network.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from supernet.arch import DECONV_KERNEL_SIZE, HEAD, HEAD_KERNEL_SIZE, STEM_CHANNELS, Arch, make_divisible
from supernet.costs.latency_blocks import Block, Bottleneck, Deconv, Stem, blocks_of

if TYPE_CHECKING:
    import onnx

Activation = Literal["", "relu", "relu6"]
Array: TypeAlias = npt.NDArray[np.float32]
Weights = Callable[[str, tuple[int, ...]], "Array | onnx.TensorProto"]
"""Returns the tensor of a name and shape. Names are those of the published state dict, with ``.bias`` for the bias of a
folded batch norm; those of a single block begin with "block"."""
DECONV_SHAPE = (DECONV_KERNEL_SIZE, DECONV_KERNEL_SIZE)
DECONV_STRIDE, DECONV_PADDING = 2, 1


@dataclass(frozen=True)
class Conv:
    """A convolution padded by half its kernel.

    Attributes:
        name: See :class:`GraphWriter`.
        inputs: Channels of its input.
        outputs: Channels of its output.
        kernel_size: Side of its square kernel.
        stride: Its stride in both directions.
        activation: What follows.
        bias: Whether it has one.
        is_depthwise: Whether each channel has a kernel of its own.
    """

    name: str
    inputs: int
    outputs: int
    kernel_size: int = 1
    stride: int = 1
    activation: Activation = ""
    bias: bool = True
    is_depthwise: bool = False

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """The weight's shape, in PyTorch's order."""
        return self.outputs, 1 if self.is_depthwise else self.inputs, self.kernel_size, self.kernel_size


def depthwise(name: str, channels: int, kernel_size: int, stride: int, activation: Activation) -> Conv:
    """Return a depthwise convolution."""
    return Conv(name, channels, channels, kernel_size, stride, activation, is_depthwise=True)


class GraphWriter(Protocol):
    """Collects the layers of a graph; every method adds some and returns the name of their output.

    Names of layers with weights are those of the state dict, without ``.weight``.
    """

    def normalised(self, images: str) -> str:
        """Normalise images, if the graph takes unnormalised ones."""
        ...

    def conv(self, value: str, layer: Conv) -> str:
        """Add a convolution."""
        ...

    def deconv(self, name: str, value: str, inputs: int, outputs: int, bias: bool) -> str:
        """Add a transposed convolution that doubles the size."""
        ...

    def add(self, name: str, first: str, second: str, relu: bool = False) -> str:
        """Add the sum of two maps, with its negative values set to 0 if ``relu``."""
        ...


def write_layers(writer: GraphWriter, of: Block | Arch, num_keypoints: int, inputs: Sequence[str]) -> list[str]:
    """Write a block, or all blocks of a network in forward order, and return the names of the outputs.

    Args:
        writer: Collects the layers.
        of: The block or the network's arch; a network has the outputs ``low`` and ``high``.
        num_keypoints: K.
        inputs: Names of the inputs: one, or the refined and the raw maps of a block of the head.
    """
    if not isinstance(of, Arch):
        return [_write_block(writer, "block", of, inputs)]
    blocks = iter(blocks_of(of, num_keypoints))
    features = [_write_block(writer, "first", next(blocks), inputs)]
    for i, stage in enumerate(of.stages):
        value = features[-1]
        for j in range(stage.depth):
            value = _write_block(writer, f"stage.{i}.{j}", next(blocks), [value])
        features.append(value)
    value, outputs = features[-1], []
    for level in HEAD:
        value = _write_block(writer, str(level.index), next(blocks), [value, features[level.skip]])
        if (last := level.prediction) is not None:
            outputs.append(_write_block(writer, str(last.index), next(blocks), [value, features[last.skip]]))
    assert next(blocks, None) is None
    return outputs


def _write_block(writer: GraphWriter, name: str, block: Block, inputs: Sequence[str]) -> str:
    """Write the layers of a block and return the name of its output."""
    if isinstance(block, Stem):
        value = writer.conv(writer.normalised(inputs[0]), Conv(f"{name}.0.0", 3, STEM_CHANNELS, 3, 2, "relu6"))
        value = writer.conv(value, depthwise(f"{name}.1.0", STEM_CHANNELS, 3, 1, "relu6"))
        return writer.conv(value, Conv(f"{name}.2", STEM_CHANNELS, block.width))
    if isinstance(block, Bottleneck):
        hidden = make_divisible(block.in_width * block.expand_ratio)
        value = writer.conv(inputs[0], Conv(f"{name}.inv.0", block.in_width, hidden, activation="relu6"))
        value = writer.conv(value, depthwise(f"{name}.depth_conv.0", hidden, block.kernel_size, block.stride, "relu6"))
        value = writer.conv(value, Conv(f"{name}.point_conv.0", hidden, block.width))
        is_residual = block.stride == 1 and block.in_width == block.width
        return writer.add(f"{name}.sum", inputs[0], value) if is_residual else value
    if isinstance(block, Deconv):
        refined = writer.deconv(f"deconv_refined.{name}", inputs[0], block.in_width, block.width, bias=True)
        raw = writer.deconv(f"deconv_raw.{name}", inputs[1], block.skip_width, block.width, bias=False)
        return writer.add(f"deconv_sum.{name}", refined, raw, relu=True)
    parts = []
    for part, value, width in zip(("refined", "raw"), inputs, (block.in_width, block.skip_width), strict=True):
        prefix = f"final_{part}.{name}.conv"
        value = writer.conv(value, depthwise(f"{prefix}.0", width, HEAD_KERNEL_SIZE, 1, "relu"))
        parts.append(writer.conv(value, Conv(f"{prefix}.3", width, block.outputs, bias=False)))
    refined, raw = parts
    return writer.add(f"final_sum.{name}", refined, raw)
