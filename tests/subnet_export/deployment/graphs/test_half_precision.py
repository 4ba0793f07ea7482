"""A graph with 16-bit floats keeps its input and the type of its maps, and is refused where 16 bits overflow."""

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper
from torch import Tensor, nn

from subnet_export.deployment.deployed_network import DeploymentNetwork, Input
from subnet_export.deployment.equivalence import comparison_images
from subnet_export.deployment.graphs.half_precision import in_half_precision, largest_value
from subnet_export.deployment.graphs.onnx_graph import onnx_graph
from supernet.errors import UserError
from supernet.litepose import LitePose
from supernet.pose.geometry import normalise
from supernet.space import SearchSpace

INPUTS: tuple[Input, ...] = ("uint8", "float32")


@pytest.fixture(scope="module")
def network() -> LitePose:
    torch.manual_seed(0)
    return LitePose(SearchSpace.load("nano").smallest(), 14).eval()


def largest_by_hooks(network: nn.Module, images: list[Tensor]) -> float:
    """Return the largest magnitude of a weight, and of an output of a module or of a sum, seen while PyTorch runs."""
    largest = max(float(weight.abs().max()) for weight in network.parameters())

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal largest
            result = function(*args, **(kwargs or {}))
            if isinstance(result, Tensor) and result.dtype == torch.float32:
                # Every value counts that a layer gives, not what is only compared or measured.
                name = getattr(function, "__name__", "")
                if name in ("conv2d", "conv_transpose2d", "relu", "relu_", "hardtanh", "add", "hardtanh_", "relu6"):
                    largest = max(largest, float(result.abs().max()))
            return result

    with torch.inference_mode(), Watch():
        for batch in images:
            network(batch)
    return largest


@pytest.mark.parametrize("takes", INPUTS)
def test_the_range_is_that_of_every_layer_in_pytorch(takes: Input, network: LitePose) -> None:
    images = comparison_images(64)
    deployed = DeploymentNetwork(network, takes)
    found = largest_value(onnx_graph(deployed), images, takes)
    expected = largest_by_hooks(DeploymentNetwork(network, "float32").network, [normalise(batch) for batch in images])
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("takes", INPUTS)
def test_all_weights_but_those_of_the_normalisation_become_16_bits(takes: Input, network: LitePose) -> None:
    graph = onnx_graph(DeploymentNetwork(network, takes))
    half = in_half_precision(graph, 1.0)
    names = {tensor.name: tensor for tensor in half.graph.initializer}
    kept = {name for name, tensor in names.items() if tensor.data_type == TensorProto.FLOAT}
    assert kept <= {"mean", "deviation"}
    for tensor in graph.graph.initializer:
        if tensor.name not in kept and tensor.data_type == TensorProto.FLOAT:
            expected = numpy_helper.to_array(tensor).astype(np.float16)
            np.testing.assert_array_equal(numpy_helper.to_array(names[tensor.name]), expected)
    assert half.graph.input == graph.graph.input
    assert half.graph.output == graph.graph.output
    onnx.checker.check_model(half, full_check=True)


@pytest.mark.parametrize(("largest", "is_kept"), [(65504.0, True), (65505.0, False), (float("nan"), False)])
def test_values_beyond_16_bits_are_refused(largest: float, is_kept: bool, network: LitePose) -> None:
    graph = onnx_graph(DeploymentNetwork(network))
    if is_kept:
        in_half_precision(graph, largest)
    else:
        with pytest.raises(UserError, match=r"onnx_fp16.*65,504"):
            in_half_precision(graph, largest)
