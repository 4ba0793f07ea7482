"""What is measured is reproducible, and is the network that is exported."""

import argparse
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from subnet_export.benchmarking import targets
from subnet_export.benchmarking.targets import BenchmarkTarget, load_targets, open_runtimes, random_network
from subnet_export.deployment.runtimes import TorchRuntime
from subnet_export.exported_model import ExportedModel, FormatRecord

Exported = tuple[ExportedModel, Path]


def test_random_networks_are_the_same_each_time_and_give_maps(exported: Exported) -> None:
    networks = [random_network(exported[0].arch, 17) for _ in range(2)]
    assert all(torch.equal(value, networks[1].state_dict()[name]) for name, value in networks[0].state_dict().items())
    low, high = networks[0](torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert torch.isfinite(low).all()
    assert low[:, 17:].std() > 0
    assert high.std() > 0


def test_the_network_that_torch_export_writes_runs_as_the_model_does(exported: Exported) -> None:
    images = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = images.permute(0, 3, 1, 2)
    model, folder = exported
    target = BenchmarkTarget("model", model.network, model.keypoints, model.settings)
    exported_runtime = open_runtimes(["torch_export"], target, folder)["torch_export"]
    for maps, expected in zip(exported_runtime(images), TorchRuntime(model.network)(images), strict=True):
        torch.testing.assert_close(maps, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("file", ["model.onnx", "web/network.onnx"])
def test_a_file_of_a_model_stands_for_its_folder(file: str, all_formats: Exported) -> None:
    folder = all_formats[1]
    options = argparse.Namespace(arch=None, model=str(folder / file), runs="runs", record=True)
    (target,) = load_targets(options, torch.device("cpu"))
    assert target.name == str(folder)
    assert target.model is not None
    assert target.model[1] == folder


def test_a_file_that_is_too_small_for_the_frames_is_written_again(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, own = exported
    side = model.arch.resolution
    opened: list[Path] = []
    monkeypatch.setattr(targets, "write_format", lambda *_: None)
    monkeypatch.setattr(targets, "open_runtime", lambda folder, *_: opened.append(folder))
    for max_side in (side, 2 * side):  # of a frame of 640 x 480, the input is longer than it is high
        record = FormatRecord({}, "float32", 0.0, None, None, 0, max_side=max_side)
        recorded = replace(model, formats={"executorch": record})
        target = BenchmarkTarget("model", model.network, model.keypoints, model.settings, (recorded, own))
        open_runtimes(["executorch"], target, tmp_path)
    assert opened == [tmp_path, own]
