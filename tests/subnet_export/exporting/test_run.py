"""The export command writes a usable model, or reports in one sentence why not."""

import hashlib
import importlib.util
import json
import os
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from subnet_export import __main__ as entry
from subnet_export.exported_model import Calibration, ExportedModel, Measurement
from subnet_export.model import load_model, save_model
from subnet_export.runs import locked
from supernet.arch import Arch
from supernet.checkpoints.supernet_file import TrainedSupernet
from supernet.cli import arguments as command_line
from supernet.cli.hydra_app import dataset_config
from supernet.evaluation.subnet_scorer import SubnetScorer
from supernet.io.metric_values import without_null
from supernet.pose.data.subset import Subset
from supernet.pose.datasets import build
from supernet.pose.evaluation import evaluate
from supernet.space import SearchSpace
from tests.helpers.locks import held_by_another_process


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Call the entry point as from a command line; returns its exit status."""
    monkeypatch.setattr(sys, "argv", ["export", "--device", "cpu", *map(str, arguments)])
    try:
        entry.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.fixture
def runs(tmp_path: Path, supernet_folder: Path, trained: TrainedSupernet) -> Path:
    """A folder of runs with the files that training and search write."""
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "latest").symlink_to(supernet_folder)
    trained.supernet.space.sample(np.random.default_rng(8)).save(tmp_path / "evolve" / "latest" / "arch.json")
    return tmp_path


def test_the_searched_arch_becomes_the_latest_export(
    runs: Path, trained: TrainedSupernet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert run(monkeypatch, "--runs", runs, "--calibration-images", 5, "--batch-size", 3) == 0
    latest = runs / "export" / "latest"
    assert sorted(os.listdir(latest.parent)) == sorted(["latest", os.readlink(latest)])
    names = ["README.md", "example.jpg", "model.json", "pose.py", "summary.json", "weights.pt"]
    assert sorted(os.listdir(latest)) == names
    model = load_model(latest)
    assert model.arch == Arch.load(runs / "evolve" / "latest" / "arch.json")

    train_set, test_set = build(trained.dataset, "train"), build(trained.dataset, "test")
    scorer = SubnetScorer(trained.supernet, train_set, test_set, model.settings, 5, batch_size=3)
    expected = scorer.subnet(model.arch).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.network.state_dict().items())

    summary = json.loads((latest / "summary.json").read_text())
    assert without_null(summary["measurement"]["metrics"]) == model.measurement.metrics
    assert summary["costs"] == model.costs
    assert summary["arch_file"] == str(runs / "evolve" / "latest" / "arch.json")
    shown = capsys.readouterr().out
    for part in ("3 images", "5 images of train", "weights.pt", "model.json", "summary.json"):
        assert part in shown


def test_a_named_folder_is_used_and_latest_left_alone(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = runs / "mine" / "model"
    assert run(monkeypatch, "--runs", runs, "--output", out, "--num-images", 2) == 0
    assert load_model(out).measurement.num_images == 2
    assert os.listdir(out.parent) == ["model"]
    assert not (runs / "export").exists()


def test_further_formats_are_written_from_a_supernet_or_from_an_export(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    first, second = runs / "first", runs / "second"
    assert run(monkeypatch, "--runs", runs, "--output", first, "--format", "safetensors,onnx", "--num-images", 2) == 0
    assert run(monkeypatch, "--output", second, "--model", first, "--format", "onnx", "--input", "float32") == 0
    assert {"model.onnx", "weights.safetensors"} < set(os.listdir(first))
    assert sorted(os.listdir(second)) == [
        *("README.md", "example.jpg", "model.json", "model.onnx", "pose.py", "summary.json", "weights.pt"),
    ]
    model, again = load_model(first), load_model(second, format="onnx")
    state = again.network.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in model.network.state_dict().items())
    assert (model.calibration, model.measurement, model.origin) == (again.calibration, again.measurement, again.origin)
    assert (model.formats["onnx"].takes, again.formats["onnx"].takes) == ("uint8", "float32")
    image = build(model.dataset, "test")[0].image
    np.testing.assert_allclose(again.predict(image).poses, model.predict(image).poses, atol=1e-3)
    assert f"{second / 'model.onnx'} (maps within" in capsys.readouterr().out


def test_an_export_that_starts_in_the_same_second_gets_a_folder_of_its_own(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = runs / "export" / "now"
    monkeypatch.setattr(command_line, "free_folder", lambda _: now)
    with held_by_another_process(locked(now)):
        assert run(monkeypatch, "--runs", runs, "--num-images", 2) == 0
    assert (runs / "export" / "latest").resolve().name == "now_2"


def test_two_exports_never_write_one_folder(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with held_by_another_process(locked(runs / "mine")) as child:
        assert run(monkeypatch, "--runs", runs, "--output", runs / "mine") == 2
    assert f"{runs / 'mine'} is in use by process {child} " in capsys.readouterr().err
    assert run(monkeypatch, "--runs", runs, "--output", runs / "mine", "--num-images", 2) == 0
    assert ".mine.lock" not in os.listdir(runs)


@pytest.mark.parametrize(
    ("option", "message"),
    [("--num-images", r"was measured on 3 images .* leave out --num-images"), ("--calibration-images", "calibrated")],
)
def test_a_measured_model_refuses_another_number_of_images(
    option: str,
    message: str,
    exported: tuple[ExportedModel, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(monkeypatch, "--model", exported[1], "--output", tmp_path / "again", option, 1) == 2
    assert re.search(message, capsys.readouterr().err)
    assert os.listdir(tmp_path) == []


def test_an_imported_model_is_measured_when_formats_are_added(
    exported: tuple[ExportedModel, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(exported[1])
    never = replace(model, measurement=Measurement("test", 0, {}), calibration=Calibration("train", 0, 128))
    save_model(tmp_path / "imported", never)
    options = ("--format", "onnx,openvino_int8", "--num-images", 2, "--max-int8-loss", 1)
    assert run(monkeypatch, "--output", tmp_path / "further", "--model", tmp_path / "imported", *options) == 0
    measurement = load_model(tmp_path / "further", format="openvino_int8").measurement
    assert (measurement.split, measurement.num_images) == ("test", 2)
    assert "AP" in measurement.metrics


@pytest.fixture
def without_images(exported: tuple[ExportedModel, Path], tmp_path: Path) -> Path:
    """The exported model with the description of a data set whose folder nobody knows, as shipped models have."""
    dataset = {"kind": "coco", "root": None, "test": {"annotations": "annotations/test.json", "images": "test"}}
    folder, measurement = tmp_path / "without_images", replace(exported[0].measurement, metrics={"AP": 0.5})
    save_model(folder, replace(exported[0], dataset=dataset, measurement=measurement))
    return folder


@pytest.mark.parametrize(("options", "gives"), [((), "maps"), (("--decode",), "detections")])
def test_a_model_without_its_images_is_compared_by_outputs(
    options: tuple[str, ...], gives: str, without_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "again"
    formats = "onnx" if options else "onnx,safetensors"
    assert run(monkeypatch, "--model", without_images, "--format", formats, "--output", out, *options) == 0
    before, after = load_model(without_images), load_model(out, format="onnx")
    assert after.measurement == before.measurement
    record = after.formats["onnx"]
    assert record.error is not None
    assert 0 < record.error < 1e-4
    assert (record.AP, record.AP_network, record.num_images) == (None, None, 0)
    assert json.loads((out / "model.json").read_text())["formats"]["onnx"]["checked"] == gives
    assert "| not compared |" in (out / "README.md").read_text()


def test_a_format_that_needs_images_is_refused_without_them(
    without_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--model", without_images, "--format", "onnx,onnx_fp16", "--output", tmp_path / "again")
    assert run(monkeypatch, *arguments) == 2
    message = f"error: format onnx_fp16 needs images, and {without_images} comes without any; add --dataset NAME "
    assert capsys.readouterr().err.startswith(message)
    assert not (tmp_path / "again").exists()


def test_no_image_is_read_if_none_are_compared(
    exported: tuple[ExportedModel, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("subnet_export.exporting.existing_model.build")
    arguments = ("--model", exported[1], "--format", "onnx", "--check-images", 0, "--output", tmp_path / "again")
    assert run(monkeypatch, *arguments) == 0
    assert load_model(tmp_path / "again").formats["onnx"].AP is None


@pytest.mark.parametrize(
    "arguments", [("--num-images", 2), ("--check-images", 0, "--dataset", "synthetic"), ("--calibration-images", 4)]
)
def test_options_about_images_are_refused_where_none_are_read(
    arguments: tuple[object, ...],
    exported: tuple[ExportedModel, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    never = replace(exported[0], measurement=Measurement("test", 0, {}), calibration=Calibration("train", 0, 128))
    save_model(tmp_path / "imported", replace(never, dataset={"kind": "coco", "root": None}))
    out = tmp_path / "again"
    assert run(monkeypatch, "--model", tmp_path / "imported", "--format", "onnx", "--output", out, *arguments) == 2
    assert f"no images are read, so {arguments[-2]} has no effect; leave it out" in capsys.readouterr().err
    assert not out.exists()


def test_files_of_a_model_are_compared_on_another_data_set(
    without_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "again"
    other = ["dataset.keypoints=crowdpose", "dataset.width=128", "dataset.test.num_images=5"]
    arguments = ["--model", without_images, "--dataset", "synthetic", *other, "--num-images", 3, "--check-images", 2]
    assert run(monkeypatch, *arguments, "--format", "onnx,openvino_int8", "--max-int8-loss", 1, "--output", out) == 0
    before, after = load_model(without_images), load_model(out)
    assert (after.measurement, after.dataset) == (before.measurement, before.dataset)
    images = Subset(build(dataset_config("synthetic", other), "test"), range(before.measurement.num_images))
    assert after.formats.keys() == {"onnx", "openvino_int8"}
    for (name, record), num_images in zip(sorted(after.formats.items()), (2, 3), strict=True):
        network_ap = evaluate(before.estimator(), images, num_images).metrics["AP"]
        assert record.num_images == num_images, name
        assert record.AP_network == pytest.approx(network_ap, abs=1e-6)
        assert record.images == "built-in people, 128 x 192 px"
    assert f"on 2 images of {after.formats['onnx'].images}" in (out / "README.md").read_text()


def test_another_data_set_must_have_the_keypoints_of_the_model(
    without_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "again"
    arguments = ("--model", without_images, "--dataset", "synthetic", "--format", "onnx", "--output", out)
    assert run(monkeypatch, *arguments) == 2
    assert f"dataset.keypoints is 'coco' but {without_images} was trained on" in capsys.readouterr().err
    assert not out.exists()


def test_calibration_is_recorded(runs: Path, trained: TrainedSupernet, monkeypatch: pytest.MonkeyPatch) -> None:
    out = runs / "model"
    assert run(monkeypatch, "--runs", runs, "--output", out, "--calibration-images", 4, "--num-images", 2) == 0
    value = json.loads((out / "model.json").read_text())
    # Four of eight, from the first to the last, as evenly as whole numbers allow.
    assert value["calibration"]["image_ids"] == [1, 3, 6, 8]
    assert (value["calibration"]["seed"], value["calibration"]["resolution"]) == (trained.dataset["train"]["seed"], 64)
    assert value["calibration"]["AP_after"] == value["measurement"]["metrics"]["AP"]
    assert 0 <= value["calibration"]["AP_before"] <= 1
    assert value["origin"]["space_digest"] == trained.supernet.space.digest()
    assert value["origin"]["supernet_sha256"] == hashlib.sha256(trained.path.read_bytes()).hexdigest()
    card = (out / "README.md").read_text()
    for part in (
        "4 images of the train split (built-in people, 96 x 96 px) at 64 px",
        "load_model",
        f"{value['costs']['macs']:,} multiply-adds",
        value["origin"]["space_digest"],
        value["origin"]["supernet_sha256"],
        "built-in people, 96 x 96 px",
        "Latency: not measured",
    ):
        assert part in card


def test_a_missing_package_is_reported_before_any_work(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else find_spec(name))
    assert run(monkeypatch, "--runs", runs, "--format", "onnx") == 2
    assert capsys.readouterr().err == (
        "error: format onnx needs the package onnxruntime, which is not installed; run pip install "
        "'litepose-supernet[onnx]'\n"
    )
    assert not (runs / "export").exists()


def test_an_arch_outside_the_space_is_refused(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = runs / "large.json"
    SearchSpace.load("nano").largest().save(path)
    assert run(monkeypatch, "--runs", runs, "--arch", path) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert f"arch file {path} does not fit the supernet" in message
    assert "outside the space; allowed: 64" in message
    assert not (runs / "export").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--arch", "nowhere.json"], "cannot read arch file nowhere.json"),
        (["--supernet", "nowhere"], "there is no trained supernet at nowhere"),
        (["--runs", "nowhere"], "there is no nowhere/evolve/latest/arch.json; run python -m search.evolve first"),
        (["--dataset-root", "."], "a data set of kind 'synthetic' has no folder"),
        (["--device", "abacus"], "device 'abacus' is not available"),
        (["--output", "."], ". exists already and is never overwritten"),
        (["--batch-size", "0"], "'0' must be a whole number of at least 1"),
        (["--format", "onxx"], "'onxx' is not a format; choose among litepose, safetensors, onnx"),
        (["--model", "nowhere"], "there is no exported model in nowhere"),
        (["--model", "a", "--arch", "b"], "--model cannot be combined with --arch"),
        (["--max-int8-loss", "2"], "'2' must be a number from 0 to 1"),
        (["--max-side", "512"], "--max-side is for --format executorch"),
        (["--archs", "a.json"], "there is no option --archs, did you mean --arch?"),
        (["--arch"], "--arch needs a value"),
    ],
)
def test_a_mistake_is_reported_in_one_sentence(
    arguments: list[str],
    message: str,
    runs: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(monkeypatch, "--runs", runs, *arguments) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert shown.count("\n") == 1
    assert message in shown
    assert not (runs / "export").exists()


def test_help_needs_no_torch(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    quick = {"supernet", "supernet.errors", "supernet.cli", "supernet.cli.arguments", "supernet.cli.interrupts"}
    for name in [name for name in sys.modules if name.split(".")[0] in ("supernet", "torch") and name not in quick]:
        monkeypatch.setitem(sys.modules, name, None)  # importing it would now raise
    assert run(monkeypatch, "--help") == 0
    assert "--arch" in capsys.readouterr().out
