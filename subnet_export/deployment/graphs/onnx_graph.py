"""The deployed network as an ONNX graph that takes any batch and image size."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from subnet_export.deployment.deployed_network import DeploymentNetwork
from supernet.version import PROJECT

if TYPE_CHECKING:
    import onnx

INPUT_NAME = "images"
OUTPUT_NAMES = ("low", "high")
MEAN_NAME = "mean"
"""The buffer of :class:`DeploymentNetwork`."""
TRACE_SIDE = 64
SIZE_FREE = {"Conv", "ConvTranspose", "Add", "Sub", "Mul", "Div", "Clip", "Relu", "Transpose", "CastLike"}
"""Operators whose result does not depend on the size that was traced."""


def onnx_graph(network: DeploymentNetwork) -> "onnx.ModelProto":
    """Return ``network`` as an ONNX model with input ``images`` and outputs ``low`` and ``high``.

    Convolutions have their names in the published state dict with the prefix ``network.``. The graph is traced at one
    size and then given symbolic sizes: the network is fully convolutional, so its graph does not depend on the size,
    and tracing with symbolic sizes takes torch five times as long.
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
    _cast_like_mean(graph)
    assert {node.op_type for node in graph.node} <= SIZE_FREE
    del graph.value_info[:]
    taken = set()
    for node in graph.node:
        del node.metadata_props[:]  # paths of source files
        name = node.input[1].removesuffix(".weight") if node.op_type in ("Conv", "ConvTranspose") else ""
        if name and name not in taken:  # layers with equal weights share one tensor, and with it one name
            node.name = name
            taken.add(name)
    vertical, horizontal = (1, 2) if network.takes == "uint8" else (2, 3)
    _set_sizes(graph.input[0], {0: "batch", vertical: "height", horizontal: "width"})
    for output, stride in zip(graph.output, (4, 2), strict=True):
        _set_sizes(output, {0: "batch", 2: f"height/{stride}", 3: f"width/{stride}"})
    model.producer_name, model.doc_string = PROJECT, ""
    onnx.checker.check_model(model, full_check=True)
    return model


def _cast_like_mean(graph: "onnx.GraphProto") -> None:
    """Turn the Cast of pixels into a CastLike, whose target is the type of the mean that is subtracted next.

    A converter to float16 changes the type of ``mean`` and of all weights, but not the target that a Cast states, so
    that the difference of both would mix two types, which ONNX does not allow. The target is not the type of a weight,
    which may become an integer.
    """
    for node in graph.node:
        if node.op_type == "Cast":
            assert any(tensor.name == MEAN_NAME for tensor in graph.initializer)
            node.op_type = "CastLike"
            node.input.append(MEAN_NAME)
            del node.attribute[:]


def _set_sizes(value: "onnx.ValueInfoProto", names: dict[int, str]) -> None:
    """Give dimensions of ``value`` symbolic names."""
    for dimension, name in names.items():
        value.type.tensor_type.shape.dim[dimension].dim_param = name


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the warnings of torch's exporter about optional packages and about its own deprecated calls."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
