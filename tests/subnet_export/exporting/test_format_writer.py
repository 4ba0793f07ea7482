"""Every format is written, runs and finds the same people; a file that does not agree leaves nothing behind."""

import gc
import json
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from subnet_export import predict
from subnet_export.deployment import writers
from subnet_export.deployment.deployed_network import DeploymentNetwork
from subnet_export.deployment.formats import EXECUTORCH, FORMATS, LOADABLE
from subnet_export.deployment.graphs.onnx_graph import onnx_graph
from subnet_export.deployment.runtimes import TorchRuntime
from subnet_export.exported_model import ExportedModel, Measurement
from subnet_export.exporting import format_writer as format_writer_module
from subnet_export.exporting.format_options import FormatOptions, check_options, max_side_of
from subnet_export.model import load_model, save_model
from subnet_export.model_json import describe
from subnet_export.publish.model_card import model_card
from supernet.errors import UserError
from supernet.pose.data.pose_dataset import PoseDataset, PoseSample
from supernet.pose.data.subset import Subset
from supernet.pose.datasets import build
from tests.helpers.export_formats import QUICK, format_writer

Exported = tuple[ExportedModel, Path]


def test_predict_runs_the_format_asked_for(
    all_formats: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder = all_formats
    keypoints = {}
    for name in ("litepose", "onnx", "openvino"):
        out = tmp_path / name
        arguments = ["--model", folder, "--format", name, "--min-score", 0, "--output", out, "--device", "cpu"]
        monkeypatch.setattr(sys, "argv", ["predict", *map(str, arguments)])
        predict.main()
        (line,) = (out / "people.jsonl").read_text().splitlines()
        keypoints[name] = [person["keypoints"] for person in json.loads(line)["people"]]
    assert len(keypoints["litepose"]) > 0
    for name in ("onnx", "openvino"):
        np.testing.assert_allclose(keypoints[name], keypoints["litepose"], atol=0.01)


def test_signals_are_survived_after_every_library_ran(all_formats: Exported) -> None:
    """OpenVINO's plugins can leave a freed signal stack behind, on which the next signal crashes the process."""
    _, folder = all_formats
    for name in set(QUICK) - {"litepose", "safetensors", "torch_export"}:
        load_model(folder, format=name)
    gc.collect()
    received: list[int] = []
    previous = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert received == [signal.SIGTERM]


def test_every_file_is_there_and_described(all_formats: Exported) -> None:
    model, folder = all_formats
    files = {Path(file).parts[0] for name in QUICK for file in FORMATS[name].files}
    assert sorted(os.listdir(folder)) == sorted(["README.md", "model.json", "pose.py", *files])
    assert set(model.formats) == set(QUICK) - {"litepose"}
    for name, record in model.formats.items():
        assert tuple(record.files) == FORMATS[name].files
        limit = {"safetensors": 0.0, "openvino_int8": float("inf"), "onnx_fp16": 3e-2}.get(name, 1e-4)
        assert record.error is not None
        assert record.error <= limit
        assert (record.takes == "float32") == (name in ("ncnn", "mnn", "executorch"))
        assert record.max_side == (4 * model.arch.resolution if name == "executorch" else None)
    assert load_model(folder).formats == model.formats
    assert str(Path.cwd()).encode() not in (folder / "model.onnx").read_bytes()


@pytest.mark.parametrize("name", ["safetensors", "onnx", "openvino", "ncnn", "mnn", "executorch", "web"])
def test_each_format_finds_the_same_people(name: str, all_formats: Exported) -> None:
    model, folder = all_formats
    if name not in model.formats:
        pytest.skip(f"the packages of {name} are not installed")
    for path, format_name in ((folder, name), (folder / FORMATS[name].files[0], None)):
        loaded = load_model(path, format=format_name)
        assert (loaded.runtime is None) == (name == "safetensors")
        for index in range(3):
            image = build(model.dataset, "test")[index].image[:, : 96 - 20 * index]
            expected, people = model.predict(image), loaded.predict(image)
            assert len(expected.scores) > 1
            np.testing.assert_allclose(people.poses, expected.poses, atol=1e-3)
            np.testing.assert_allclose(people.scores, expected.scores, atol=1e-4)


def test_a_precision_that_a_library_does_not_offer_is_refused(all_formats: Exported) -> None:
    for name in (None, *(name for name in all_formats[0].formats if name in LOADABLE and "openvino" not in name)):
        with pytest.raises(UserError, match="bf16"):
            load_model(all_formats[1], format=name, precision="bf16")


@pytest.mark.parametrize(("file", "name"), [("model.onnx", "onnx"), ("model.bin", "openvino")])
def test_a_changed_byte_is_refused(file: str, name: str, all_formats: Exported, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(all_formats[1], tmp_path / "model"))
    content = bytearray((folder / file).read_bytes())
    content[1000] ^= 1
    (folder / file).write_bytes(content)
    with pytest.raises(UserError, match=rf"{file} is damaged.*SHA-256"):
        load_model(folder, format=name)
    load_model(folder)


def test_a_format_that_was_not_written_is_reported_with_the_command_that_writes_it(exported: Exported) -> None:
    with pytest.raises(UserError, match=r"onnx.*python -m subnet_export --model .* --format onnx"):
        load_model(exported[1], format="onnx")
    with pytest.raises(UserError, match=r"'onxx'.*litepose"):
        load_model(exported[1], format="onxx")


def test_a_file_that_nothing_here_runs_says_so(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def write(_: writers.WriterInputs, folder: Path) -> None:
        for name in FORMATS["coreml"].files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(b"a package")

    monkeypatch.setitem(writers.WRITERS, "coreml", write)
    folder = tmp_path / "model"
    model = save_model(folder, exported[0], write_formats=format_writer(exported[0], "coreml").write)
    assert "coreml was not run here" in caplog.text
    entry = json.loads((folder / "model.json").read_text())["formats"]["coreml"]
    assert (entry["checked"], entry["error"], entry["AP"], entry["takes"]) == ("description", None, None, "float32")
    assert "not run here" in (folder / "README.md").read_text()
    assert load_model(folder).formats == model.formats
    with pytest.raises(UserError, match="coreml does not run here"):
        load_model(folder, format="coreml")


def test_records_of_formats_do_not_outlive_their_files(all_formats: Exported, tmp_path: Path) -> None:
    """Fine-tuning writes new weights, and files of the old weights no longer belong to the model."""
    assert save_model(tmp_path / "model", load_model(all_formats[1])).formats == {}
    assert json.loads((tmp_path / "model" / "model.json").read_text())["formats"] == {}


def wrong_graph(network: DeploymentNetwork) -> Any:
    network.network.get_parameter("final_raw.1.conv.3.weight").mul_(1.01)
    return onnx_graph(network)


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_a_file_with_other_maps_is_not_kept(
    name: str, exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "onnx_graph", wrong_graph)
    with pytest.raises(UserError, match=f"maps of format {name} differ"):
        save_model(tmp_path / "model", exported[0], write_formats=format_writer(exported[0], name).write)
    assert os.listdir(tmp_path) == []


def pretend_ap(monkeypatch: pytest.MonkeyPatch, aps: Sequence[float]) -> None:
    """Replace the measurement by one that returns ``aps`` in turn."""
    values = iter(aps)

    def measure(estimator: Any, images: Any, split: str, *rest: Any) -> Measurement:
        return Measurement(split, 2, {"AP": next(values)})

    monkeypatch.setattr("subnet_export.exporting.format_writer.measure", measure)


def test_a_file_with_another_ap_is_not_kept(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = onnx_graph(DeploymentNetwork(exported[0].network))
    monkeypatch.setattr(writers, "onnx_graph", lambda _: graph)
    for difference, is_kept in ((0.0009, True), (-0.0011, False), (0.0011, False)):
        pretend_ap(monkeypatch, [0.5 + difference, 0.5])
        folder, writer = tmp_path / str(difference), format_writer(exported[0], "onnx").write
        if is_kept:
            assert save_model(folder, exported[0], write_formats=writer).formats["onnx"].AP == 0.5009
        else:
            with pytest.raises(UserError, match=r"AP of format onnx is 0\.\d+, that of the network is 0\.5"):
                save_model(folder, exported[0], write_formats=writer)
            assert not folder.exists()


def test_integers_that_cost_too_much_are_tried_with_sensitive_layers_in_float(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = replace(exported[0], measurement=Measurement("test", 3, {"AP": 0.5}))
    graph = onnx_graph(DeploymentNetwork(model.network))
    monkeypatch.setattr(writers, "onnx_graph", lambda _: graph)
    monkeypatch.setattr(writers, "quantise", lambda network, *_: network)
    for aps, limit, in_float in (((0.49,), 0.02, False), ((0.47, 0.485), 0.02, True), ((0.47,), 0.04, False)):
        pretend_ap(monkeypatch, aps)
        writer = format_writer(model, "openvino_int8", max_int8_loss=limit).write
        record = save_model(tmp_path / str((*aps, limit)), model, write_formats=writer).formats["openvino_int8"]
        assert (record.AP, record.AP_network, bool(record.in_float)) == (aps[-1], 0.5, in_float)
    pretend_ap(monkeypatch, (0.479, 0.479))
    with pytest.raises(UserError, match=r"openvino_int8 loses 0\.0210 AP, --max-int8-loss is 0\.02;"):
        save_model(tmp_path / "lost", model, write_formats=format_writer(model, "openvino_int8").write)
    assert not (tmp_path / "lost").exists()


def test_files_that_would_not_take_square_images_are_refused(exported: Exported, tmp_path: Path) -> None:
    model = exported[0]
    side = model.arch.resolution
    enlarging = replace(model.settings, scales=(0.5, 1.0, 1.5))
    check_options(FormatOptions([EXECUTORCH], max_side=side), model.settings, side)
    check_options(FormatOptions([EXECUTORCH]), enlarging, side)
    for settings, max_side in ((model.settings, side - 1), (enlarging, round(1.5 * side) - 1)):
        with pytest.raises(UserError, match=rf"--max-side is {max_side} px, images are at least {max_side + 1} px"):
            check_options(FormatOptions([EXECUTORCH], max_side=max_side), settings, side)
    writer = format_writer(model, "executorch", max_side=side - 1)
    with pytest.raises(UserError, match="--max-side"):
        save_model(tmp_path / "model", model, write_formats=writer.write)
    assert os.listdir(tmp_path) == []


class Narrowed(Subset):
    """All images of a data set, the ``narrow`` ones cropped to half their width."""

    def __init__(self, dataset: PoseDataset, narrow: Sequence[int]) -> None:
        super().__init__(dataset, range(len(dataset)))
        self._narrow = narrow

    def __getitem__(self, index: int) -> PoseSample:
        sample = super().__getitem__(index)
        width = sample.image.shape[1]
        return replace(sample, image=sample.image[:, : width // 2]) if index in self._narrow else sample

    def ground_truth(self) -> dict[str, Any]:
        truth = super().ground_truth()
        images = [dict(image) for image in truth["images"]]
        for index in self._narrow:
            images[index]["width"] //= 2
        return {**truth, "images": images}


def test_ap_is_measured_on_images_that_a_file_takes(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, side = exported[0], exported[0].arch.resolution

    class LimitedRuntime(TorchRuntime):
        def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
            assert max(images.shape[2:]) <= side
            return super().__call__(images)

    monkeypatch.setattr(
        format_writer_module, "write_format", lambda _, inputs, folder: (folder / "model.pte").write_bytes(b"")
    )
    monkeypatch.setattr(format_writer_module, "open_runtime", lambda *_: LimitedRuntime(model.network))
    test_set = build(model.dataset, "test")
    writer = format_writer(model, "executorch", max_side=side, num_check_images=100)
    writer = replace(writer, test_set=Narrowed(test_set, [1]))
    record = save_model(tmp_path / "model", model, write_formats=writer.write).formats["executorch"]
    assert (record.max_side, record.num_images) == (side, len(test_set) - 1)
    assert record.AP_network == record.AP
    assert load_model(tmp_path / "model").formats["executorch"].max_side == side
    assert max_side_of(load_model(tmp_path / "model")) == side

    narrow = replace(writer, test_set=Narrowed(test_set, range(len(test_set))))
    with pytest.raises(UserError, match=rf"every test image is longer than --max-side, {side} px.*raise it to \d+ px"):
        save_model(tmp_path / "none", model, write_formats=narrow.write)
    assert os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize(("ap", "difference"), [(0.5, 0.0), (0.02, 0.0), (0.0199, None), (0.0, None)])
def test_where_the_network_finds_nobody_equal_ap_is_no_agreement(
    ap: float, difference: float | None, all_formats: Exported
) -> None:
    model = all_formats[0]
    formats = {name: replace(record, AP=ap, AP_network=ap) for name, record in model.formats.items()}
    changed = replace(model, formats=formats)
    description = describe(changed, b"")["formats"]
    assert {record["AP_difference"] for record in description.values()} == {difference}
    assert ("+0.0000" in model_card(changed)) == (difference is not None)


def test_the_export_says_that_ap_shows_nothing(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    graph = onnx_graph(DeploymentNetwork(exported[0].network))
    monkeypatch.setattr(writers, "onnx_graph", lambda _: graph)
    monkeypatch.setattr(writers, "quantise", lambda network, *_: network)
    for ap, is_warned in ((0.5, False), (0.001, True)):
        caplog.clear()
        model = replace(exported[0], measurement=Measurement("test", 3, {"AP": ap}))
        pretend_ap(monkeypatch, [ap])
        folder = tmp_path / str(ap)
        save_model(folder, model, write_formats=format_writer(model, "openvino_int8").write)
        assert ("openvino_int8" in caplog.text) == is_warned
        assert load_model(folder).formats["openvino_int8"].AP_network == ap
