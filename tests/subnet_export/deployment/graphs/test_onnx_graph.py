"""The ONNX graph has named inputs, outputs and layers, takes any size, and is one that other tools can process."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from subnet_export.deployment.deployed_network import DeploymentNetwork
from subnet_export.deployment.graphs.onnx_graph import onnx_graph
from subnet_export.exported_model import ExportedModel

Exported = tuple[ExportedModel, Path]


def test_the_graph_has_named_inputs_and_outputs_of_any_size(all_formats: Exported) -> None:
    import onnx

    graph = onnx.load(all_formats[1] / "model.onnx").graph
    shapes = {
        value.name: [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }
    assert shapes == {
        "images": ["batch", "height", "width", 3],
        "low": ["batch", 28, "height/4", "width/4"],
        "high": ["batch", 14, "height/2", "width/2"],
    }
    assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert not [node for node in graph.node if node.op_type == "BatchNormalization"]
    names = {node.name for node in graph.node}
    assert {"network.first.0.0", "network.stage.3.0.depth_conv.0", "network.deconv_raw.2"} <= names


@pytest.fixture(scope="module", params=["uint8", "float32"])
def graph_file(request: pytest.FixtureRequest, exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the ONNX graph with either kind of input."""
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    path.write_bytes(onnx_graph(DeploymentNetwork(exported[0].network, request.param)).SerializeToString())
    return path


def run(model: bytes) -> list[Any]:
    """Return the maps that ONNX Runtime computes from an image of noise."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model)
    (argument,) = session.get_inputs()
    noise = np.random.default_rng(0)
    if argument.type == "tensor(uint8)":
        images = noise.integers(0, 256, (2, 64, 96, 3), np.uint8)
    else:
        kind = np.float16 if argument.type == "tensor(float16)" else np.float32
        images = noise.normal(size=(2, 3, 64, 96)).astype(kind)
    return [np.asarray(maps, np.float64) for maps in session.run(None, {argument.name: images})]


def check_near(model: bytes, original: bytes, limit: float) -> None:
    """Compare the maps of two files; the limit is in standard deviations of the original's maps."""
    for maps, expected in zip(run(model), run(original), strict=True):
        assert np.sqrt(np.mean((maps - expected) ** 2)) <= limit * expected.std()


def test_shapes_are_inferred_in_strict_mode(graph_file: Path) -> None:
    import onnx

    inferred = onnx.shape_inference.infer_shapes(onnx.load(graph_file), True, strict_mode=True, data_prop=True)
    types = {value.name: value.type.tensor_type for value in inferred.graph.value_info}
    outputs = {value.name for value in inferred.graph.output}
    for node in inferred.graph.node:
        assert node.output[0] in outputs or len(types[node.output[0]].shape.dim) == 4
    onnx.checker.check_model(inferred, full_check=True)


def test_a_converter_to_float16_changes_every_float(graph_file: Path) -> None:
    """All float tensors become float16 by their declared types, as converters do; each type must follow from these."""
    import onnx

    half = onnx.load(graph_file)
    for tensor in half.graph.initializer:
        assert tensor.data_type == onnx.TensorProto.FLOAT
        values = onnx.numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    for value in (*half.graph.input, *half.graph.output):
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    onnx.checker.check_model(half, full_check=True)
    check_near(half.SerializeToString(), graph_file.read_bytes(), 0.02)


def test_onnxruntime_converts_it_to_float16(graph_file: Path) -> None:
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    half = convert_float_to_float16(onnx.load(graph_file))
    onnx.checker.check_model(half, full_check=True)
    check_near(half.SerializeToString(), graph_file.read_bytes(), 0.02)


@pytest.mark.parametrize("options", [{"auto_merge": True}, {"skip_symbolic_shape": True}])
def test_onnxruntime_prepares_it_for_quantisation(graph_file: Path, options: dict[str, bool], tmp_path: Path) -> None:
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = tmp_path / "prepared.onnx"
    quant_pre_process(graph_file, prepared, **options)
    check_near(prepared.read_bytes(), graph_file.read_bytes(), 1e-5)
