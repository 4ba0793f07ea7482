"""Graphs that decode are run, compared with the network, and refused where they cannot be what was asked for."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from subnet_export import __main__ as export_command
from subnet_export.decoding import graph as decoding_graph
from subnet_export.decoding.detections import DetectionEstimator
from subnet_export.deployment import detectors, writers
from subnet_export.deployment.formats import FORMATS
from subnet_export.deployment.library_runtimes import open_runtime
from subnet_export.exported_model import ExportedModel
from subnet_export.exporting.format_options import check_decode, decodes
from subnet_export.model import load_model, save_model
from subnet_export.publish.model_card import model_card
from supernet.errors import UserError
from supernet.pose.datasets import build
from supernet.pose.inference import InferenceSettings
from tests.helpers.export_formats import format_writer

Exported = tuple[ExportedModel, Path]


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_a_decoding_graph_finds_the_people_of_the_network(name: str, decoding_formats: Exported) -> None:
    """The scores are equal; only keypoints that are filled in may lie elsewhere."""
    model, folder = decoding_formats
    loaded = load_model(folder / FORMATS[name].files[0])
    assert loaded.runtime is None
    assert isinstance(loaded.estimator(), DetectionEstimator)
    without = replace(model, settings=replace(model.settings, refine=False))
    for index in range(3):
        image = build(model.dataset, "test")[index].image[:, : 96 - 20 * index]
        expected = without.predict(image)
        found = replace(loaded, settings=without.settings).predict(image)
        np.testing.assert_allclose(found.poses, expected.poses, atol=1e-3)
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
        np.testing.assert_allclose(loaded.predict(image).scores, expected.scores, atol=1e-5)


def test_the_record_and_the_card_say_what_the_graph_gives(decoding_formats: Exported, all_formats: Exported) -> None:
    model, folder = decoding_formats
    assert {record.gives for record in model.formats.values()} == {"detections"}
    assert load_model(folder).formats == model.formats
    assert decodes(model)
    assert "detections" in model_card(model)
    assert not decodes(all_formats[0])
    assert "detections" not in model_card(all_formats[0])


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_maps_and_detections_are_not_taken_for_each_other(
    name: str, decoding_formats: Exported, all_formats: Exported
) -> None:
    runtime = open_runtime(decoding_formats[1], FORMATS[name])
    with pytest.raises(UserError, match=f"{FORMATS[name].files[0]}.*--decode"):
        runtime(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    with pytest.raises(UserError, match=f"{FORMATS[name].files[0]}.*detections"):
        detectors.DetectorRuntime(all_formats[1], FORMATS[name], 14, all_formats[0].settings)


def other_graph(change: Callable[[Any], None]) -> Callable[..., None]:
    complete = decoding_graph.complete

    def changed(graph: Any, *rest: Any) -> None:
        complete(graph, *rest)
        change(graph)

    return changed


def with_higher_values(graph: Any) -> None:
    from onnx import helper, numpy_helper

    graph.graph.node[-1].output[0] = "right"
    factor = np.array([1, 1, 1.01, 1], np.float32)
    graph.graph.initializer.append(numpy_helper.from_array(factor, "factor"))
    graph.graph.node.append(helper.make_node("Mul", ["right", "factor"], ["detections"]))


def with_other_places(graph: Any) -> None:
    from onnx import helper, numpy_helper

    graph.graph.node[-1].output[0] = "right"
    step = np.array([1, 0, 0, 0], np.float32)
    graph.graph.initializer.append(numpy_helper.from_array(step, "step"))
    graph.graph.node.append(helper.make_node("Add", ["right", "step"], ["detections"]))


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        (with_higher_values, "detections of format onnx differ"),
        (with_other_places, "detections of format onnx are not where"),
    ],
)
def test_a_file_with_other_detections_is_not_kept(
    change: Callable[[Any], None], wrong: str, exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "complete", other_graph(change))
    writer = format_writer(exported[0], "onnx", decode=True)
    with pytest.raises(UserError, match=wrong):
        save_model(tmp_path / "model", exported[0], write_formats=writer.write)
    assert os.listdir(tmp_path) == []


def test_formats_and_settings_that_cannot_decode_are_refused_before_any_work() -> None:
    settings = InferenceSettings()
    check_decode([FORMATS[name] for name in ("litepose", "safetensors", "onnx", "openvino")], settings)
    for names, wrong in (
        (("litepose", "onnx", "torch_export"), "torch_export"),
        (("onnx", "openvino_int8"), "openvino_int8"),
        (("litepose", "safetensors"), "--format"),
    ):
        with pytest.raises(UserError, match=wrong):
            check_decode([FORMATS[name] for name in names], settings)
    with pytest.raises(UserError, match="flip_test"):
        check_decode([FORMATS["onnx"]], replace(settings, flip_test=True))


def test_the_writer_refuses_them_too(exported: Exported, tmp_path: Path) -> None:
    writer = format_writer(exported[0], "onnx", "torch_export", decode=True)
    with pytest.raises(UserError, match="torch_export"):
        save_model(tmp_path / "model", exported[0], write_formats=writer.write)
    assert os.listdir(tmp_path) == []


def test_the_command_exports_a_graph_that_decodes(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [
        "--model",
        exported[1],
        "--format",
        "onnx",
        "--decode",
        "--output",
        tmp_path / "model",
        "--check-images",
        2,
    ]
    monkeypatch.setattr("sys.argv", ["subnet_export", "--device", "cpu", *map(str, arguments)])
    export_command.main()
    assert load_model(tmp_path / "model", format="onnx").detector is not None


def test_the_command_refuses_a_format_that_cannot_decode(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("torch_export", "safetensors"):
        arguments = ["--model", exported[1], "--format", name, "--decode", "--output", tmp_path / "model"]
        monkeypatch.setattr("sys.argv", ["subnet_export", "--device", "cpu", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            export_command.main()
        assert stopped.value.code == 2
        assert "--decode" in capsys.readouterr().err
        assert os.listdir(tmp_path) == []
