"""The command that benchmarks subnets measures every runtime and reports what it measured."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from subnet_export import benchmark as entry
from subnet_export.benchmarking import run as run_module
from subnet_export.benchmarking.throughput import STEPS
from subnet_export.exported_model import ExportedModel
from subnet_export.model import load_model, save_model
from supernet.compute.machine import processor
from supernet.costs.analytic import params_and_macs
from supernet.costs.latency_blocks import blocks_of_space
from supernet.costs.latency_file import Entry
from supernet.costs.latency_table import LatencyTable, MeasurementSettings, Overhead
from supernet.space import SearchSpace
from tests.helpers.spaces import SHALLOW

Exported = tuple[ExportedModel, Path]


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Call the entry point as from a command line; returns its exit status."""
    monkeypatch.setattr(sys, "argv", ["benchmark", "--device", "cpu", *map(str, arguments)])
    try:
        entry.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_a_model_is_measured_and_recorded(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "150")
    folder, runs = Path(shutil.copytree(exported[1], tmp_path / "model")), tmp_path / "runs"
    arguments = ("--runs", runs, "--model", folder, "--runtimes", "torch,onnxruntime,openvino_f32")
    assert run(monkeypatch, *arguments, "--repeats", 10, "--images", 2, "--record") == 0
    summary = json.loads((runs / "benchmark" / "latest" / "summary.json").read_text())
    (subnet,) = summary["subnets"]
    assert (subnet["weights"], subnet["resolution"]) == ("of the model", 64)
    assert subnet["costs"] == exported[0].costs
    assert list(subnet["latency"]) == ["torch", "onnxruntime", "openvino_f32"]
    for figures in subnet["latency"].values():
        assert 0 < figures["least_ms"] <= figures["p50_ms"] <= figures["p90_ms"]
        assert (figures["precision"], figures["threads"]) == ("f32", torch.get_num_threads())
    for throughput in subnet["pipeline"]["runtimes"].values():
        assert tuple(throughput["median_ms"]) == STEPS
        assert (throughput["num_images"], throughput["size"]) == (2, [640, 480])
    num_people = {throughput["num_people"] for throughput in subnet["pipeline"]["runtimes"].values()}
    assert len(num_people) == 1  # the same in every library
    model = load_model(folder)
    assert [latency.p50_ms for latency in model.latencies] == [
        latency["p50_ms"] for latency in subnet["latency"].values()
    ]
    card = (folder / "README.md").read_text()
    latency = model.latencies[1]
    row = [latency.library, processor(), "f32", summary["threads"], f"{latency.p50_ms:.2f}"]
    assert f"| {' | '.join(map(str, row))} |" in card
    output = capsys.readouterr().out
    assert "onnxruntime" in output
    assert f"{folder}: 64 px" in output  # never wrapped


def test_images_a_second_of_a_model_of_several_passes_are_of_one(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, settings = tmp_path / "model", replace(exported[0].settings, flip_test=True)
    save_model(folder, replace(exported[0], settings=settings))
    options = ("--runtimes", "torch", "--repeats", 10, "--images", 1, "--output", tmp_path / "out")
    assert run(monkeypatch, "--model", folder, *options) == 0
    assert "with one pass of the network per image; the model's settings take 2" in capsys.readouterr().out
    (subnet,) = json.loads((tmp_path / "out" / "summary.json").read_text())["subnets"]
    assert (subnet["pipeline"]["passes_timed"], subnet["pipeline"]["passes_of_the_settings"]) == (1, 2)


def test_archs_are_measured_with_random_weights(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arch = exported[0].arch
    arch.save(tmp_path / "one.json")
    arch.save(tmp_path / "other.json")
    files = (tmp_path / "one.json", tmp_path / "other.json")
    options = ("--keypoints", "crowdpose", "--runtimes", "torch", "--repeats", 10, "--images", 3)
    assert run(monkeypatch, "--arch", *files, *options, "--output", tmp_path / "out") == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [subnet["name"] for subnet in summary["subnets"]] == [str(file) for file in files]
    for subnet in summary["subnets"]:
        assert (subnet["weights"], subnet["pipeline"]["grouped_maps"]) == ("random", "true")
        assert subnet["costs"] == params_and_macs(arch, 14)
        assert subnet["pipeline"]["runtimes"]["torch"]["num_people"] >= 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--runtimes", "tensorrt"], "'tensorrt'"),
        (["--arch", "a.json", "--record"], "--record"),
        (["--arch", "nowhere.json"], "arch file nowhere.json"),
        (["--model", "nowhere"], "exported model in nowhere"),
        (["--repeats", "5"], "'5'"),
    ],
)
def test_a_user_error_is_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(monkeypatch, "--runs", tmp_path, *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def table_file(exported: Exported, tmp_path: Path) -> Path:
    """A latency table with invented times for the exported model and the installed ONNX Runtime."""
    return write_table(tmp_path / "table.json", exported[0].arch.resolution)


def write_table(path: Path, resolution: int) -> Path:
    import onnxruntime

    space = SearchSpace.from_dict({**SHALLOW, "resolutions": [resolution]})
    settings = MeasurementSettings(
        "onnxruntime", onnxruntime.__version__, processor(), "", torch.get_num_threads(), "f32", 1
    )
    entries = {block: Entry(0.5, 0.6, 10) for block in blocks_of_space(space, 14)}
    table = LatencyTable(settings, space, 14, Overhead(0.1, 2.0, 1.0, 0.5), (), entries)
    path.write_text(json.dumps(table.to_dict()))
    return path


def test_predictions_of_a_latency_table_are_shown_beside_measurements(
    exported: Exported,
    table_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", "150")
    options = ("--runtimes", "torch_export,onnxruntime", "--repeats", 10, "--images", 0, "--output", tmp_path / "out")
    assert run(monkeypatch, "--model", exported[1], "--latency-table", table_file, *options) == 0
    (subnet,) = json.loads((tmp_path / "out" / "summary.json").read_text())["subnets"]
    # A stem and four blocks of the backbone; three levels and two predictions of the head, at half.
    expected = 2.0 + 5 * (0.5 - 0.1) + 5 * 0.5 * (0.5 - 0.1)
    assert subnet["predicted"]["onnxruntime"]["predicted_ms"] == pytest.approx(expected)
    measured = subnet["latency"]["onnxruntime"]["p50_ms"]
    assert subnet["predicted"]["onnxruntime"]["error"] == pytest.approx(100 * (expected / measured - 1), abs=0.01)
    assert list(subnet["predicted"]) == ["onnxruntime"]
    assert f"{expected:.2f} (" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--runtimes", "torch"], "runtime onnxruntime, which is not measured"),
        (["--threads", "3"], "settings.threads of the latency table is 1"),
    ],
)
def test_a_table_measured_with_other_settings_is_refused(
    arguments: list[str],
    message: str,
    exported: Exported,
    table_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = ("--output", tmp_path / "out")
    threads = torch.get_num_threads()
    try:
        assert run(monkeypatch, "--model", exported[1], "--latency-table", table_file, *arguments, *output) == 2
    finally:
        torch.set_num_threads(threads)
    assert message in capsys.readouterr().err


def test_a_table_that_lacks_a_block_is_refused_before_anything_is_measured(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write_table(tmp_path / "table.json", exported[0].arch.resolution + 64)
    monkeypatch.setattr(run_module, "open_runtimes", lambda *arguments: pytest.fail("it measures"))
    options = ("--runtimes", "onnxruntime", "--output", tmp_path / "out")
    assert run(monkeypatch, "--model", exported[1], "--latency-table", table, *options) == 2
    assert "the latency table lacks the block" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_table_of_another_version_is_refused_before_anything_is_measured(
    exported: Exported,
    table_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = json.loads(table_file.read_text())
    table["settings"]["runtime_version"] = "1.0.0"
    table_file.write_text(json.dumps(table))
    monkeypatch.setattr(run_module, "_measure_latencies", lambda *arguments: pytest.fail("it measures"))
    options = ("--runtimes", "onnxruntime", "--output", tmp_path / "out")
    assert run(monkeypatch, "--model", exported[1], "--latency-table", table_file, *options) == 2
    assert "settings.runtime_version of the latency table is '1.0.0'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
