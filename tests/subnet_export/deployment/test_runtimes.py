"""Runtimes blame a file only for its own errors, and OpenVINO transposes no maps after the last layer."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from subnet_export.deployment.formats import FORMATS, ONNX, OPENVINO
from subnet_export.deployment.library_runtimes import open_runtime
from subnet_export.deployment.runtimes import openvino_core, openvino_request
from subnet_export.deployment.writers import WriterInputs, write_format
from supernet.litepose import LitePose
from supernet.space import SearchSpace


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network as ONNX and OpenVINO files."""
    folder = tmp_path_factory.mktemp("formats")
    torch.manual_seed(0)
    inputs = WriterInputs(LitePose(SearchSpace.load("nano").smallest(), 14).eval(), "uint8", list)
    for chosen in (ONNX, OPENVINO):
        write_format(chosen, inputs, folder)
    return folder


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_images_of_a_wrong_shape_are_not_reported_as_a_damaged_file(name: str, folder: Path) -> None:
    runtime = open_runtime(folder, FORMATS[name])
    with pytest.raises(RuntimeError, match="permute"):
        runtime(torch.zeros(3, 64, 64, dtype=torch.uint8))


def runtime_info(node: Any, key: str) -> str:
    """Return an entry of a compiled node's runtime information."""
    return str(node.get_rt_info()[key].astype(str))


def test_openvino_transposes_no_maps_after_the_last_layer_of_a_network_of_one_size(
    folder: Path, request: pytest.FixtureRequest
) -> None:
    core = openvino_core()
    core.set_property("CPU", {"PERF_COUNT": True})
    request.addfinalizer(lambda: core.set_property("CPU", {"PERF_COUNT": False}))
    model = core.read_model(folder / OPENVINO.files[0])
    model.reshape([1, 64, 64, 3])
    infer = openvino_request(model)
    infer.infer([np.zeros((1, 64, 64, 3), np.uint8)])
    moved, last = [], []
    for result in infer.get_compiled_model().get_runtime_model().get_results():
        node = result.input_value(0).get_node()
        while runtime_info(node, "layerType") in ("Reorder", "Transpose"):
            moved.append((node.get_friendly_name(), runtime_info(node, "execTimeMcs")))
            node = node.input_value(0).get_node()
        last.append(node)
    assert [runtime_info(node, "execTimeMcs").isdecimal() for node in last] == [True, True]
    if {runtime_info(node, "outputLayouts") for node in last} != {"acdb"}:
        pytest.skip("this processor does not compute in channels-last order")
    assert [name for name, microseconds in moved if microseconds != "not_executed"] == []
