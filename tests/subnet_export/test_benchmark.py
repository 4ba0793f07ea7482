"""The benchmark times every runtime on the same image, and says what it timed."""

import json
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from subnet_export import benchmark as entry
from subnet_export.benchmarking.latency import ROUND, WARM_UP, measure_latencies
from subnet_export.benchmarking.run import BenchmarkTarget, _open, random_network
from subnet_export.benchmarking.throughput import STEPS, perfect_maps
from subnet_export.deployment.runtimes import TorchRuntime
from subnet_export.exported_model import ExportedModel, costs
from subnet_export.model import load_model
from supernet.compute.machine import processor
from supernet.costs.latency_blocks import blocks_of_space
from supernet.costs.latency_file import Entry
from supernet.costs.latency_table import LatencyTable, MeasurementSettings, Overhead
from supernet.pose.grouping import group
from supernet.pose.multiscale_flip import heatmaps, resize
from supernet.space import SearchSpace
from tests.subnet_export.conftest import SPACE

Exported = tuple[ExportedModel, Path]


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Call the entry point as from a command line; returns its exit status."""
    monkeypatch.setattr(sys, "argv", ["benchmark", "--device", "cpu", *map(str, arguments)])
    try:
        entry.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


class Clocked:
    """A runtime whose runs take given times of a pretended clock."""

    library, precision = "test 1", "f32"

    def __init__(self, clock: list[float], seconds: list[float]) -> None:
        self.clock, self.seconds, self.shapes = clock, iter(seconds), set[tuple[int, ...]]()

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        self.shapes.add(tuple(images.shape))
        self.clock[0] += next(self.seconds)
        return images, images


def test_percentiles_are_those_of_the_timed_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    rng = np.random.default_rng(0)
    timed = {"one": rng.uniform(1e-3, 2e-3, 2 * ROUND), "other": rng.uniform(5e-3, 9e-3, 2 * ROUND)}
    runtimes = {
        name: Clocked(clock, [*[1.0] * WARM_UP, *times[:ROUND], *[1.0] * WARM_UP, *times[ROUND:]])
        for name, times in timed.items()
    }
    rounds = []
    found = measure_latencies(runtimes, 96, ROUND + 1, 2, lambda: rounds.append(1))
    assert len(rounds) == 4
    for name, latency in found.items():
        milliseconds = np.sort(1e3 * timed[name])
        assert latency.p50_ms == pytest.approx(milliseconds[ROUND - 1 : ROUND + 1].mean(), abs=1e-3)
        assert milliseconds[-4] < latency.p90_ms < milliseconds[-1]
        assert latency.least_ms == pytest.approx(milliseconds[0], abs=1e-3)
        assert (latency.runs, latency.threads, latency.library) == (2 * ROUND, 2, "test 1")
        assert runtimes[name].shapes == {(1, 3, 96, 96)}


def test_perfect_maps_group_into_the_true_people() -> None:
    rng = np.random.default_rng(1)
    people = np.zeros((3, 17, 3), np.float32)
    people[..., 0] = rng.uniform(8, 60, (3, 17)) + 64 * np.arange(3)[:, None]  # side by side
    people[..., 1] = rng.uniform(8, 120, (3, 17))
    people[..., 2] = 2
    low, high = perfect_maps(people, (128, 192))
    assert (low.shape, high.shape) == ((1, 34, 32, 48), (1, 17, 64, 96))
    heat = heatmaps(low[:, :17], high, (128, 192))
    tags = resize(low[:, 17:], (high.shape[2], high.shape[3]), (128, 192))
    poses, _ = group(heat[0], tags[0, ..., None])
    assert len(poses) == 3
    order = np.argsort(poses[..., 0].mean(axis=1))
    assert np.abs(poses[order, :, :2] - people[..., :2]).max() < 4  # a pixel of the coarser map


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
    for latency in subnet["latency"].values():
        assert 0 < latency["least_ms"] <= latency["p50_ms"] <= latency["p90_ms"]
        assert (latency["precision"], latency["threads"]) == ("f32", torch.get_num_threads())
    for throughput in subnet["pipeline"]["runtimes"].values():
        assert tuple(throughput["median_ms"]) == STEPS
        assert (throughput["num_images"], throughput["size"]) == (2, [640, 480])
    found = {throughput["num_people"] for throughput in subnet["pipeline"]["runtimes"].values()}
    assert len(found) == 1  # every library finds the same
    model = load_model(folder)
    assert [latency.p50_ms for latency in model.latencies] == [
        latency["p50_ms"] for latency in subnet["latency"].values()
    ]
    card = (folder / "README.md").read_text()
    assert f"| {model.latencies[1].library} | f32 | {summary['threads']} | {model.latencies[1].p50_ms:.2f} |" in card
    assert "onnxruntime" in capsys.readouterr().out


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
        assert subnet["costs"] == costs(arch, 14)
        assert subnet["pipeline"]["runtimes"]["torch"]["num_people"] >= 3


def test_random_networks_are_the_same_each_time_and_give_maps(exported: Exported) -> None:
    networks = [random_network(exported[0].arch, 17) for _ in range(2)]
    assert all(torch.equal(value, networks[1].state_dict()[name]) for name, value in networks[0].state_dict().items())
    low, high = networks[0](torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert torch.isfinite(low).all()
    assert low[:, 17:].std() > 0
    assert high.std() > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--runtimes", "tensorrt"], "'tensorrt' is no runtime; choose among torch, onnxruntime"),
        (["--arch", "a.json", "--record"], "give either --arch or --model, and --record only with the latter"),
        (["--arch", "nowhere.json"], "cannot read arch file nowhere.json"),
        (["--model", "nowhere"], "there is no exported model in nowhere"),
        (["--repeats", "5"], "'5' must be a whole number of at least 10"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(monkeypatch, "--runs", tmp_path, *arguments) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert told.count("\n") == 1
    assert message in told
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def table_file(exported: Exported, tmp_path: Path) -> Path:
    """A made-up latency table for the exported model, as if measured with the ONNX Runtime that is here."""
    import onnxruntime

    model = exported[0]
    space = SearchSpace.from_dict({**SPACE, "resolutions": [model.arch.resolution]})
    settings = MeasurementSettings(
        "onnxruntime", onnxruntime.__version__, processor(), "", torch.get_num_threads(), "f32", 1
    )
    entries = {block: Entry(0.5, 0.6, 10) for block in blocks_of_space(space, 14)}
    table = LatencyTable(settings, space, 14, Overhead(0.1, 2.0, 1.0, 0.5), (), entries)
    (tmp_path / "table.json").write_text(json.dumps(table.to_dict()))
    return tmp_path / "table.json"


def test_a_latency_table_predicts_beside_what_is_measured(
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
        (["--runtimes", "torch"], "is of runtime onnxruntime, which is not measured; give --runtimes with it"),
        (["--threads", "3"], "settings.threads of the latency table is 1, here it is 3"),
    ],
)
def test_a_table_of_something_else_is_refused(
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


def test_the_network_that_torch_export_writes_runs_as_the_model_does(exported: Exported) -> None:
    images = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = images.permute(0, 3, 1, 2)
    model, folder = exported
    subject = BenchmarkTarget("model", model.network, model.keypoints, model.settings)
    exports = _open("torch_export", subject, folder)
    for found, expected in zip(exports(images), TorchRuntime(model.network)(images), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
