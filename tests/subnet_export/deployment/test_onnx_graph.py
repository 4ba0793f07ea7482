"""The ONNX graph has named inputs, outputs and layers, and takes any size."""

from pathlib import Path

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
