"""A quantised file uses integers, stays near the network, and leaves the layers in float that it is asked to."""

import logging
from pathlib import Path

import pytest

from subnet_export.deployment.equivalence import comparison_images, differences
from subnet_export.deployment.quantization import SENSITIVE, quantise
from subnet_export.deployment.writers import WriterInputs, openvino_model
from subnet_export.exported_model import ExportedModel
from subnet_export.model import load_model
from tests.helpers.export_formats import format_writer

Exported = tuple[ExportedModel, Path]


def test_integers_are_near_and_not_equal(all_formats: Exported) -> None:
    model, folder = all_formats
    loaded = load_model(folder, format="openvino_int8")
    assert loaded.runtime is not None
    assert loaded.runtime.precision == "int8/f32"
    errors = differences(model.network, loaded.runtime, comparison_images(64))
    error = max(difference.rms for difference in errors)
    assert 1e-3 < error < 0.5
    assert model.formats["openvino_int8"].error == pytest.approx(error, rel=1e-3)


def test_depthwise_convolutions_are_quantised_so_that_integers_are_used(all_formats: Exported) -> None:
    """OpenVINO runs a depthwise convolution in float if its quantised weights are only reshaped afterwards."""
    import openvino

    graph = openvino.Core().read_model(all_formats[1] / "model_int8.xml")
    depthwise = [operation for operation in graph.get_ops() if operation.get_type_name() == "GroupConvolution"]
    assert len(depthwise) == 1 + 4 + 4  # stem, blocks, predictions
    assert {operation.input_value(1).get_node().get_type_name() for operation in depthwise} == {"Multiply"}


def test_handlers_on_the_librarys_logger_keep_their_level(exported: Exported) -> None:
    """Such as pytest's, which it attaches to every logger that does not propagate."""
    pytest.importorskip("nncf")
    inputs = WriterInputs(exported[0].network, "uint8", format_writer(exported[0]).calibration)
    handler, logger = logging.NullHandler(), logging.getLogger("nncf")
    logger.addHandler(handler)
    try:
        quantise(openvino_model(inputs.graph), inputs.calibration_images, "uint8")
    finally:
        logger.removeHandler(handler)
    assert handler.level == logging.NOTSET


@pytest.mark.slow
def test_sensitive_layers_stay_in_float(exported: Exported) -> None:
    import openvino

    writer = format_writer(exported[0])
    inputs = WriterInputs(exported[0].network, "uint8", writer.calibration)
    model = openvino_model(inputs.graph)
    assert isinstance(model, openvino.Model)

    def in_float(patterns: tuple[str, ...]) -> set[str]:
        quantised = quantise(model, inputs.calibration_images, "uint8", patterns)
        return {
            operation.get_friendly_name().removesuffix("/WithoutBiases")
            for operation in quantised.get_ops()
            if "Convolution" in operation.get_type_name()
            and "FakeQuantize" not in str(operation.input_value(0).get_node().get_type_name())
        }

    left_in_float = in_float(SENSITIVE) - in_float(())
    assert {"network.first.1.0", "network.final_refined.1.conv.3", "network.final_raw.0.conv.0"} <= left_in_float
    assert not {name for name in left_in_float if ".stage." in name}
