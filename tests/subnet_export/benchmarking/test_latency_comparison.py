"""Latencies are compared with a table of the device and precision that they were measured with, and with no other."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from subnet_export.benchmarking.latency_comparison import LatencyComparison
from supernet.compute.machine import processor
from supernet.errors import UserError
from tests.helpers.latency_tables import SETTINGS, fake_table

GPU = "a GPU"


def compare(folder: Path, runs_on: str, **settings: Any) -> LatencyComparison:
    """Compare what the runtime of a table with these settings takes where PyTorch runs on ``runs_on``."""
    table = fake_table(settings=replace(SETTINGS, **settings))
    table.save(folder / "table.json")
    name = "torch_export" if settings["runtime"] == "torch" else settings["runtime"]
    return LatencyComparison(str(folder / "table.json"), [name], SETTINGS.threads, torch.device(runs_on))


def test_a_table_is_for_the_device_on_which_its_runtime_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: GPU)
    compare(tmp_path, "cpu", runtime="torch", device=processor())
    compare(tmp_path, "cuda", runtime="torch", device=GPU)
    compare(tmp_path, "cuda", runtime="onnxruntime", device=processor())
    for runs_on, device in (("cuda", processor()), ("cpu", GPU)):
        with pytest.raises(UserError, match=r"settings\.device"):
            compare(tmp_path, runs_on, runtime="torch", device=device)


@pytest.mark.parametrize(("runtime", "precision"), [("torch", "bf16"), ("ncnn", "f16")])
def test_a_table_of_a_precision_that_is_never_measured_is_refused(runtime: str, precision: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{runtime} in {precision}"):
        compare(tmp_path, "cpu", runtime=runtime, precision=precision, device=processor())
