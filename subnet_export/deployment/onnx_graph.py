"""The deployed network as an ONNX graph of any batch and image size."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from subnet_export.deployment.deployed_network import DeploymentNetwork

if TYPE_CHECKING:
    import onnx

INPUT_NAME = "images"
OUTPUT_NAMES = ("low", "high")
TRACE_SIDE = 64
SIZE_FREE = {"Conv", "ConvTranspose", "Add", "Sub", "Mul", "Div", "Clip", "Relu", "Transpose", "Cast"}
"""Operators that compute the same whatever the size of their input; others could keep the size of the traced one."""


def onnx_graph(network: DeploymentNetwork) -> "onnx.ModelProto":
    """Return ``network`` as an ONNX model with input ``images`` and outputs ``low`` and ``high``.

    Convolutions are named as in the published state dict, after ``network.``. The graph is traced at one size and then
    given symbolic sizes: a fully convolutional one does not depend on them, and to trace it with symbolic sizes takes
    torch five times as long.
    """
    import onnx

    shape = (1, TRACE_SIDE, TRACE_SIDE, 3) if network.takes == "uint8" else (1, 3, TRACE_SIDE, TRACE_SIDE)
    example = torch.zeros(shape, dtype=getattr(torch, network.takes))
    with _quiet():
        program = torch.onnx.export(
            network, (example,), dynamo=True, input_names=[INPUT_NAME], output_names=OUTPUT_NAMES, verbose=False
        )
    assert program is not None
    model = program.model_proto
    graph = model.graph
    assert {node.op_type for node in graph.node} <= SIZE_FREE
    del graph.value_info[:]
    taken = set()
    for node in graph.node:
        del node.metadata_props[:]  # places in source files
        name = node.input[1].removesuffix(".weight") if node.op_type in ("Conv", "ConvTranspose") else ""
        if name and name not in taken:  # layers of equal weights share one tensor, and so the name of the first
            node.name = name
            taken.add(name)
    sizes = ("height", "width")
    spatial = (1, 2) if network.takes == "uint8" else (2, 3)
    _set_sizes(graph.input[0], {0: "batch", **dict(zip(spatial, sizes, strict=True))})
    for output, stride in zip(graph.output, (4, 2), strict=True):
        _set_sizes(output, {0: "batch", 2: f"height/{stride}", 3: f"width/{stride}"})
    model.producer_name, model.doc_string = "litepose-supernet", ""
    onnx.checker.check_model(model, full_check=True)
    return model


def _set_sizes(value: "onnx.ValueInfoProto", names: dict[int, str]) -> None:
    for place, name in names.items():
        value.type.tensor_type.shape.dim[place].dim_param = name


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what torch's exporter says about packages that are not needed and calls of its own."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
