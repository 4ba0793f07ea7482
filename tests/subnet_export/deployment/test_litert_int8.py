"""A quantised LiteRT file has the network's weights in integers and its input and outputs, and stays near its maps."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from subnet_export.deployment.deployed_network import DeploymentNetwork
from subnet_export.deployment.equivalence import comparison_images, differences
from subnet_export.deployment.formats import LITERT, LITERT_INT8
from subnet_export.deployment.library_runtimes import open_runtime
from subnet_export.deployment.quantization import SENSITIVE
from subnet_export.deployment.writers import WriterInputs, write_format
from supernet.litepose import LitePose
from tests.helpers.export_formats import require_environment
from tests.subnet_export.deployment.test_edge_runtimes import SIDE, lively

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
ALL_INTEGERS, WITH_FLOATS = "all", "some"


@pytest.fixture(scope="module")
def network() -> LitePose:
    """A network in which a branch gives zeros only, as the first of a prediction can after training."""
    network = lively("nano", 0)
    with torch.no_grad():
        for part in ("0.conv.0.weight", "0.conv.1.weight", "0.conv.1.bias"):
            network.get_parameter(f"final_raw.{part}").zero_()
    return network


@pytest.fixture(scope="module")
def written(network: LitePose, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the file in float, and one file in integers in each of two folders."""
    require_environment(LITERT_INT8.name)
    folder = tmp_path_factory.mktemp("litert")
    inputs = WriterInputs(network, "uint8", lambda: comparison_images(SIDE))
    write_format(LITERT, inputs, folder)
    for name, in_float in ((ALL_INTEGERS, ()), (WITH_FLOATS, SENSITIVE)):
        (folder / name).mkdir()
        write_format(LITERT_INT8, inputs, folder / name, in_float)
    return folder


def opened(path: Path) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(model_path=str(path))


def stored_weights(path: Path) -> list[tuple[Any, Any, int]]:
    """Return values, scales and the axis of the scales of each tensor of integers that the file holds."""
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model(path)
    found = []
    for tensor in model.subgraphs[0].tensors:
        data, scales = model.buffers[tensor.buffer].data, tensor.quantization and tensor.quantization.scale
        if data is not None and len(data) and scales is not None and len(tensor.shape) == 4:
            values = np.frombuffer(bytes(data), np.int8).reshape(tensor.shape)
            found.append((values, np.asarray(scales), tensor.quantization.quantizedDimension))
    return found


def layers(network: LitePose) -> dict[str, Any]:
    """Return the weights of each layer that can be in integers: depthwise kernels of 7 x 7 are faster in float."""
    named = {name: weight.numpy() for name, weight in DeploymentNetwork(network).named_parameters()}
    return {name: weight for name, weight in named.items() if weight.ndim == 4 and weight.shape[2] < 7}


def test_layers_have_integers_with_a_scale_per_channel(network: LitePose, written: Path) -> None:
    """Each weight is an integer times its channel's scale, to half a scale."""
    stored = stored_weights(written / ALL_INTEGERS / LITERT_INT8.files[0])
    expected = layers(network)
    assert len(stored) == len(expected)
    for name, weight in expected.items():
        fitting = []
        for values, scales, axis in stored:
            assert len(scales) == values.shape[axis]
            wide = scales.reshape([-1 if number == axis else 1 for number in range(4)])
            for order in ((0, 2, 3, 1), (1, 2, 3, 0)):
                turned = weight.transpose(order)
                if turned.shape == values.shape:
                    fitting.append(bool((np.abs(turned - values * wide) <= wide * 0.501).all()))
        assert any(fitting), name


def test_the_file_is_less_than_half_of_that_in_float_and_has_its_input_and_outputs(written: Path) -> None:
    paths = written / LITERT.files[0], written / ALL_INTEGERS / LITERT_INT8.files[0]
    assert paths[1].stat().st_size < 0.5 * paths[0].stat().st_size
    details = []
    for path in paths:
        runner = opened(path).get_signature_runner()
        both = (runner.get_input_details(), runner.get_output_details())
        details.append(
            [{name: (entry["dtype"], tuple(entry["shape"])) for name, entry in kind.items()} for kind in both]
        )
    assert details[0] == details[1]
    assert {kind for kind, _ in details[1][1].values()} == {np.float32}


def test_maps_are_near_and_not_equal_at_any_size(network: LitePose, written: Path) -> None:
    runtime = open_runtime(written / ALL_INTEGERS, LITERT_INT8)
    assert runtime.precision == "int8/f32"
    assert open_runtime(written, LITERT).precision == "f32"
    errors = [difference.rms for difference in differences(network, runtime, comparison_images(SIDE))]
    assert len(errors) == 3
    assert all(1e-3 < error < 0.5 for error in errors)


def test_sensitive_layers_stay_in_float(network: LitePose, written: Path) -> None:
    """Their weights, and the maps that they give, are in float, so that the maps are nearer."""
    path = written / WITH_FLOATS / LITERT_INT8.files[0]
    names = [name for name in layers(network) if not name.startswith(("network.first.", "network.final_"))]
    assert len(stored_weights(path)) == len(names) < len(layers(network))
    images = comparison_images(SIDE)
    error, of_integers = (
        max(difference.rms for difference in differences(network, open_runtime(written / name, LITERT_INT8), images))
        for name in (WITH_FLOATS, ALL_INTEGERS)
    )
    assert error < of_integers


def test_images_that_were_normalised_outside_stay_in_float(network: LitePose, tmp_path: Path) -> None:
    """The input keeps its type, and so do transposing and padding it."""
    require_environment(LITERT_INT8.name)
    write_format(LITERT_INT8, WriterInputs(network, "float32", lambda: comparison_images(SIDE)), tmp_path)
    (source,) = opened(tmp_path / LITERT_INT8.files[0]).get_input_details()
    assert source["dtype"] == np.float32
    runtime = open_runtime(tmp_path, LITERT_INT8)
    assert max(difference.rms for difference in differences(network, runtime, comparison_images(SIDE))) < 0.5
