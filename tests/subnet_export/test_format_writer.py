"""Every further format is written, runs, and finds the same people; one that does not agree leaves nothing behind."""

import gc
import json
import os
import shutil
import signal
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from subnet_export import format_writer, predict
from subnet_export.deployment import equivalence
from subnet_export.deployment.deployed_network import DeploymentNetwork
from subnet_export.deployment.formats import FORMATS
from subnet_export.deployment.onnx_graph import onnx_graph
from subnet_export.deployment.quantization import SENSITIVE, quantised
from subnet_export.exported_model import ExportedModel, Measurement
from subnet_export.format_writer import FormatWriter
from subnet_export.model import load_model, save_model
from supernet.errors import UserError
from supernet.evaluation.subnet_scorer import calibration_batches
from supernet.litepose import LitePose
from supernet.pose.datasets import build

Exported = tuple[ExportedModel, Path]


def deployment(model: ExportedModel, *names: str, **changes: Any) -> FormatWriter:
    train_set, test_set = build(model.dataset, "train"), build(model.dataset, "test")
    chosen = [FORMATS[name] for name in names]
    made = FormatWriter(chosen, "uint8", test_set, 2, lambda: calibration_batches(train_set, 64, 6, 64), batch_size=2)
    return replace(made, **changes)


@pytest.fixture(scope="module")
def everything(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The model in all formats, and its folder."""
    folder = tmp_path_factory.mktemp("deployed") / "model"
    model = save_model(folder, exported[0], write_formats=deployment(exported[0], *FORMATS).write)
    return model, folder


def test_predict_runs_the_format_asked_for(
    everything: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder = everything
    found = {}
    for name in ("litepose", "onnx", "openvino"):
        out = tmp_path / name
        arguments = ["--model", folder, "--format", name, "--min-score", 0, "--output", out, "--device", "cpu"]
        monkeypatch.setattr(sys, "argv", ["predict", *map(str, arguments)])
        predict.main()
        (line,) = (out / "people.jsonl").read_text().splitlines()
        found[name] = [person["keypoints"] for person in json.loads(line)["people"]]
    assert len(found["litepose"]) > 0
    for name in ("onnx", "openvino"):
        np.testing.assert_allclose(found[name], found["litepose"], atol=0.01)


def test_signals_are_survived_after_every_library_ran(everything: Exported) -> None:
    """OpenVINO's plugins can leave a freed stack for signals behind, on which the next one crashes."""
    _, folder = everything
    for name in ("openvino", "openvino_int8", "onnx"):
        load_model(folder, format=name)
    gc.collect()
    came: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert came == [signal.SIGTERM]


def test_every_file_is_there_and_described(everything: Exported) -> None:
    model, folder = everything
    files = [file for each in FORMATS.values() for file in each.files]
    assert sorted(os.listdir(folder)) == sorted(["README.md", "model.json", *files])
    assert set(model.formats) == set(FORMATS) - {"litepose"}
    for name, record in model.formats.items():
        assert tuple(record.files) == FORMATS[name].files
        limit = 0 if name == "safetensors" else float("inf") if name == "openvino_int8" else 1e-4
        assert record.error <= limit
    assert load_model(folder).formats == model.formats
    assert str(Path.cwd()).encode() not in (folder / "model.onnx").read_bytes()


@pytest.mark.parametrize("name", ["safetensors", "onnx", "openvino"])
def test_each_format_finds_the_same_people(name: str, everything: Exported) -> None:
    model, folder = everything
    for path, given in ((folder, name), (folder / FORMATS[name].files[0], None)):
        loaded = load_model(path, format=given)
        assert (loaded.runtime is None) == (name == "safetensors")
        for index in range(3):
            image = build(model.dataset, "test")[index].image[:, : 96 - 20 * index]
            expected, found = model.predict(image), loaded.predict(image)
            assert len(expected.scores) > 1
            np.testing.assert_allclose(found.poses, expected.poses, atol=1e-3)
            np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)


def test_integers_are_near_and_not_equal(everything: Exported) -> None:
    model, folder = everything
    loaded = load_model(folder, format="openvino_int8")
    assert loaded.runtime is not None
    assert loaded.runtime.precision == "int8/f32"
    found = equivalence.differences(model.network, loaded.runtime, equivalence.made_up_images(64))
    error = max(difference.rms for difference in found)
    assert 1e-3 < error < 0.5
    assert model.formats["openvino_int8"].error == pytest.approx(error, rel=1e-3)


def test_depthwise_convolutions_are_quantised_so_that_integers_are_used(everything: Exported) -> None:
    """OpenVINO runs a depthwise convolution in float if its quantised weights are only reshaped afterwards."""
    import openvino

    graph = openvino.Core().read_model(everything[1] / "model_int8.xml")
    depthwise = [operation for operation in graph.get_ops() if operation.get_type_name() == "GroupConvolution"]
    assert len(depthwise) == 1 + 4 + 4  # stem, blocks, predictions
    assert {operation.input_value(1).get_node().get_type_name() for operation in depthwise} == {"Multiply"}


def test_the_graph_has_named_inputs_and_outputs_of_any_size(everything: Exported) -> None:
    import onnx

    graph = onnx.load(everything[1] / "model.onnx").graph
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


def test_a_torch_export_archive_takes_other_sizes_and_is_not_loaded_here(everything: Exported) -> None:
    model, folder = everything
    program = torch.export.load(folder / "model.pt2").module()
    images = torch.zeros(3, 32, 80, 3, dtype=torch.uint8)
    low, high = program(images)
    assert (low.shape, high.shape) == ((3, 28, 8, 20), (3, 14, 16, 40))
    with zipfile.ZipFile(folder / "model.pt2") as archive:
        assert '"use_pickle": true' not in "".join(
            archive.read(name).decode() for name in archive.namelist() if name.endswith("_config.json")
        )
    with pytest.raises(UserError, match="can run code from it; load litepose"):
        load_model(folder / "model.pt2")
    assert model.formats["torch_export"].error < 1e-4


def test_safetensors_hold_the_published_names(everything: Exported) -> None:
    import safetensors.torch

    state = safetensors.torch.load_file(everything[1] / "weights.safetensors")
    LitePose(everything[0].arch, 14).load_state_dict(state, strict=True)
    assert state.keys() == torch.load(everything[1] / "weights.pt", weights_only=True).keys()


def test_a_precision_that_a_library_does_not_offer_is_refused(everything: Exported) -> None:
    for name in (None, "safetensors", "onnx"):
        with pytest.raises(UserError, match="not in bf16; choose f32 or format openvino"):
            load_model(everything[1], format=name, precision="bf16")


@pytest.mark.parametrize(("file", "name"), [("model.onnx", "onnx"), ("model.bin", "openvino")])
def test_a_changed_byte_is_refused(file: str, name: str, everything: Exported, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(everything[1], tmp_path / "model"))
    content = bytearray((folder / file).read_bytes())
    content[1000] ^= 1
    (folder / file).write_bytes(content)
    with pytest.raises(UserError, match=rf"{file} is damaged \(SHA-256 differs\)"):
        load_model(folder, format=name)
    load_model(folder)


def test_a_format_that_was_not_written_is_told_with_the_command_that_does(exported: Exported) -> None:
    with pytest.raises(
        UserError, match=r"was not exported as onnx; run python -m subnet_export --model .* --format onnx"
    ):
        load_model(exported[1], format="onnx")
    with pytest.raises(UserError, match="there is no format 'onxx'; choose among litepose"):
        load_model(exported[1], format="onxx")


def test_records_of_formats_do_not_outlive_their_files(everything: Exported, tmp_path: Path) -> None:
    """Fine-tuning writes the weights anew; files of the old ones are no longer those of the model."""
    assert save_model(tmp_path / "model", load_model(everything[1])).formats == {}
    assert json.loads((tmp_path / "model" / "model.json").read_text())["formats"] == {}


def wrong_graph(network: DeploymentNetwork) -> Any:
    network.network.get_parameter("final_raw.1.conv.3.weight").mul_(1.01)
    return onnx_graph(network)


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_a_file_with_other_maps_is_not_kept(
    name: str, exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(format_writer, "onnx_graph", wrong_graph)
    with pytest.raises(UserError, match=f"the maps of format {name} differ from the network's"):
        save_model(tmp_path / "model", exported[0], write_formats=deployment(exported[0], name).write)
    assert os.listdir(tmp_path) == []


def pretend_ap(monkeypatch: pytest.MonkeyPatch, aps: Sequence[float]) -> None:
    """Let APs come out as given, one after the other."""
    told = iter(aps)

    def pretended(network: Any, images: Any, split: str, *rest: Any) -> Measurement:
        return Measurement(split, 2, {"AP": next(told)})

    monkeypatch.setattr(format_writer, "measure", pretended)


def test_a_file_with_another_ap_is_not_kept(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = onnx_graph(DeploymentNetwork(exported[0].network))
    monkeypatch.setattr(format_writer, "onnx_graph", lambda _: graph)
    for difference, kept in ((0.0009, True), (-0.0011, False), (0.0011, False)):
        pretend_ap(monkeypatch, [0.5 + difference, 0.5])
        folder, writer = tmp_path / str(difference), deployment(exported[0], "onnx").write
        if kept:
            assert save_model(folder, exported[0], write_formats=writer).formats["onnx"].AP == 0.5009
        else:
            with pytest.raises(UserError, match=r"AP of format onnx is 0\.\d+ where the network has 0\.5"):
                save_model(folder, exported[0], write_formats=writer)
            assert not folder.exists()


def test_integers_that_cost_too_much_are_tried_with_sensitive_layers_in_float(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = replace(exported[0], measurement=Measurement("test", 3, {"AP": 0.5}))
    graph = onnx_graph(DeploymentNetwork(model.network))
    monkeypatch.setattr(format_writer, "onnx_graph", lambda _: graph)
    monkeypatch.setattr(format_writer, "quantised", lambda network, *_: network)
    for aps, limit, in_float in (((0.49,), 0.02, False), ((0.47, 0.485), 0.02, True), ((0.47,), 0.04, False)):
        pretend_ap(monkeypatch, aps)
        writer = deployment(model, "openvino_int8", max_int8_loss=limit).write
        record = save_model(tmp_path / str((*aps, limit)), model, write_formats=writer).formats["openvino_int8"]
        assert (record.AP, record.AP_network, bool(record.in_float)) == (aps[-1], 0.5, in_float)
    pretend_ap(monkeypatch, (0.479, 0.479))
    with pytest.raises(UserError, match=r"8-bit integers cost 0.0210 AP, --max-int8-loss is 0.02; nothing was kept"):
        save_model(tmp_path / "lost", model, write_formats=deployment(model, "openvino_int8").write)
    assert not (tmp_path / "lost").exists()


@pytest.mark.slow
def test_sensitive_layers_stay_in_float(exported: Exported) -> None:
    import openvino

    model = exported[0]
    writer = deployment(model)
    graph = writer._openvino(model)
    assert isinstance(graph, openvino.Model)

    def in_float(patterns: tuple[str, ...]) -> set[str]:
        found = quantised(graph, writer.calibration(), "uint8", patterns)
        return {
            operation.get_friendly_name().removesuffix("/WithoutBiases")
            for operation in found.get_ops()
            if "Convolution" in operation.get_type_name()
            and "FakeQuantize" not in str(operation.input_value(0).get_node().get_type_name())
        }

    kept = in_float(SENSITIVE) - in_float(())
    assert {"network.first.1.0", "network.final_refined.1.conv.3", "network.final_raw.0.conv.0"} <= kept
    assert not {name for name in kept if ".stage." in name}
