"""Blocks and whole networks as LiteRT files, written as exports are."""

from dataclasses import replace

from search.lut.graphs.inputs import channels_last, input_shapes, is_image
from search.lut.workloads import NoOp, Workload
from subnet_export.deployment.graphs.layers import Weights, write_layers
from subnet_export.deployment.graphs.litert import LiteRtWriter, network_file
from supernet.arch import Arch
from supernet.costs.latency_blocks import Deconv

NOMINAL_SIZE = 16
"""Input size in the files of blocks that work at any size."""


def model_of(workload: Workload, num_keypoints: int, batch: int, weights: Weights) -> bytes:
    """Return the ``.tflite`` file of a workload; images are uint8, inputs in the order of ``input_shapes``.

    Files of blocks have the nominal size, so that one file serves blocks that differ only in their size: the library
    takes another one as for exports. Transposed convolutions have the size of their output as a constant, so files that
    hold them are of one size.
    """
    if isinstance(workload, Arch):
        return network_file(workload, num_keypoints, weights, "uint8", batch)
    if not isinstance(workload, NoOp | Deconv):
        workload = replace(workload, input_size=NOMINAL_SIZE)
    writer, names = LiteRtWriter(weights), []
    for i, shape in enumerate(shapes := input_shapes(workload, batch)):
        names.append(writer.input(f"input{i}", channels_last(shape), "UINT8" if is_image(shape) else "FLOAT32"))
    if isinstance(workload, NoOp):
        return writer.file({"output": writer.operator("RELU", names, channels_last(shapes[0]))})
    return writer.file({"output": write_layers(writer, workload, num_keypoints, names)[0]})
