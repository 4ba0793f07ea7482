"""Runtimes tell a defect of a file as its own, and no other."""

from pathlib import Path

import pytest
import torch

from subnet_export.deploying import openvino_model, write_openvino
from subnet_export.deployment_network import DeploymentNetwork
from subnet_export.formats import FORMATS, ONNX, OPENVINO
from subnet_export.onnx_graph import onnx_graph
from subnet_export.runtimes import open_runtime
from supernet.litepose import LitePose
from supernet.space import SearchSpace


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network as ONNX and OpenVINO files."""
    folder = tmp_path_factory.mktemp("formats")
    torch.manual_seed(0)
    graph = onnx_graph(DeploymentNetwork(LitePose(SearchSpace.load("nano").smallest(), 14).eval(), "uint8"))
    (folder / ONNX.files[0]).write_bytes(graph.SerializeToString())
    write_openvino(openvino_model(graph), folder, OPENVINO)
    return folder


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_pictures_of_a_wrong_shape_are_not_told_as_a_damaged_file(name: str, folder: Path) -> None:
    runtime = open_runtime(folder, FORMATS[name])
    with pytest.raises(RuntimeError, match="permute"):
        runtime(torch.zeros(3, 64, 64, dtype=torch.uint8))
