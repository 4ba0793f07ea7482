"""Blocks and whole networks as ONNX graphs like those of exports, normalisation included.

A test checks that the graph of a network computes the same as the exported one.
"""

from typing import TYPE_CHECKING

from search.lut.graphs.inputs import input_shapes, is_image
from search.lut.workloads import NoOp, Workload
from subnet_export.deployment.deployed_network import Input
from subnet_export.deployment.graphs.layers import Weights, write_layers
from subnet_export.deployment.graphs.onnx_graph import INPUT_NAME, OUTPUT_NAMES, OnnxWriter
from supernet.arch import Arch

if TYPE_CHECKING:
    import onnx


def graph_of(workload: Workload, num_keypoints: int, weights: Weights, takes: Input = "uint8") -> "onnx.ModelProto":
    """Return the ONNX model of a workload, with dynamic batch and size like exports; see ``input_shapes``.

    The graph of ``NoOp`` does almost nothing: its time is the cost of a call of the library.
    """
    writer = OnnxWriter(weights, takes)
    is_network = isinstance(workload, Arch)
    names = []
    for i, shape in enumerate(input_shapes(workload, 1, takes)):
        channels = shape[3] if is_image(shape) else shape[1]
        names.append(writer.input(INPUT_NAME if is_network else f"input{i}", channels, is_image(shape)))
    if isinstance(workload, NoOp):
        return writer.model({"output": writer.node("Relu", names)})
    outputs = write_layers(writer, workload, num_keypoints, names)
    return writer.model(dict(zip(OUTPUT_NAMES if is_network else ("output",), outputs, strict=True)))
