"""An ONNX graph with 16-bit floats inside, and the range of the values that it has to hold."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from subnet_export.deployment.deployed_network import Input
from subnet_export.deployment.runtimes import network_input, onnx_session
from supernet.errors import UserError

if TYPE_CHECKING:
    import onnx

LARGEST = float(np.finfo(np.float16).max)
"""Largest number in 16 bits, 65504."""


def largest_value(graph: "onnx.ModelProto", batches: Sequence[Tensor], takes: Input) -> float:
    """Return the largest magnitude of a value that ``graph`` holds after its normalisation: weights and activations.

    Args:
        graph: In float32.
        batches: Images (B, 3, H, W) uint8.
        takes: Input of the graph.
    """
    import onnx
    from onnx import numpy_helper

    nodes = graph.graph.node
    first = next(index for index, node in enumerate(nodes) if node.op_type == "Conv")
    results = [name for node in nodes[first:] for name in node.output]
    weights = {name for node in nodes[first:] for name in node.input}
    probe = onnx.ModelProto()
    probe.CopyFrom(graph)
    del probe.graph.output[:]
    probe.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in results)
    session = onnx_session(probe.SerializeToString())
    largest = max(
        float(np.abs(numpy_helper.to_array(tensor)).max(initial=0))
        for tensor in graph.graph.initializer
        if tensor.name in weights
    )
    (source,) = session.get_inputs()
    for batch in batches:
        for index in range(len(batch)):
            image = network_input(batch[index : index + 1], takes).contiguous().numpy()
            values = session.run(None, {source.name: image})
            largest = max(largest, *(float(np.abs(value).max()) for value in values))
    return largest


def in_half_precision(graph: "onnx.ModelProto", largest: float) -> "onnx.ModelProto":
    """Return a copy of ``graph`` that computes in 16-bit floats, with the same input and float32 outputs.

    Pixels are normalised in 32 bits: the mean of a channel, 123.675, has an error of 0.02 in 16.

    Args:
        graph: As :func:`subnet_export.deployment.graphs.onnx_graph.onnx_graph` gives it.
        largest: Largest value that it holds (:func:`largest_value`).

    Raises:
        UserError: ``largest`` is beyond what 16 bits hold.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    if not largest <= LARGEST:
        raise UserError(
            f"format onnx_fp16 holds values up to {LARGEST:,.0f}, this network has {largest:,.0f} on its calibration "
            "images; nothing was kept, leave out the format"
        )
    result = onnx.ModelProto()
    result.CopyFrom(graph)
    nodes = list(result.graph.node)
    first = next(index for index, node in enumerate(nodes) if node.op_type == "Conv")
    used = {name for node in nodes[first:] for name in node.input}
    for tensor in result.graph.initializer:
        if tensor.name in used and tensor.data_type == TensorProto.FLOAT:
            half = numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))
    source = nodes[first].input[0]
    assert sum(source in node.input for node in nodes[first:]) == 1
    nodes[first].input[0] = f"{source}_half"
    enter = helper.make_node("Cast", [source], [f"{source}_half"], name="to_half", to=TensorProto.FLOAT16)
    leave = []
    for output in result.graph.output:
        producer = next(node for node in nodes if output.name in node.output)
        producer.output[list(producer.output).index(output.name)] = f"{output.name}_half"
        leave.append(
            helper.make_node(
                "Cast", [f"{output.name}_half"], [output.name], name=f"{output.name}_to_float", to=TensorProto.FLOAT
            )
        )
    del result.graph.node[:]
    result.graph.node.extend([*nodes[:first], enter, *nodes[first:], *leave])
    onnx.checker.check_model(result, full_check=True)
    return result
