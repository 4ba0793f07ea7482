"""Figures of the GPU report that are computed from what was recorded."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.profiler import ProfilerActivity, profile

from scripts.gpu_reporting.bench import trainer_of
from scripts.gpu_reporting.commands import CommandFailed, python
from scripts.gpu_reporting.context import build
from scripts.gpu_reporting.deployment import difference
from scripts.gpu_reporting.page import page
from scripts.gpu_reporting.suite import counts
from scripts.gpu_reporting.throughput import _SmiSamples, covered, spans_on
from scripts.gpu_reporting.training import compared
from supernet.space import SearchSpace
from supernet.training.phases import step_archs

ROW = {"heatmap": 1.0, "push": 0.0, "pull": 0.0, "gradient_norm": 2.0}


def test_the_measured_steps_train_large_and_small_subnets(tmp_path: Path) -> None:
    trainer = trainer_of(build("cpu", tmp_path, 0.0, None), "nano", 64, 2, num_steps=3, workers=0)
    (scheduled,) = trainer.scheduled
    space = replace(SearchSpace.load("nano"), resolutions=(64,))
    for step in range(3):
        largest, *others, smallest = step_archs(scheduled, 64, trainer.settings.seed, step)
        assert (largest, smallest) == (space.largest(), space.smallest())
        assert len({largest, *others, smallest}) == 4


def test_the_utilisation_is_that_of_the_measured_gpu() -> None:
    smi = _SmiSamples("b2")
    smi._output = "GPU-a1, 10\nGPU-b2, 90\nGPU-a1, 20\nGPU-b2, 70\nGPU-b2, [N/A]\nGPU-b"
    assert smi.mean() == 80.0
    other = _SmiSamples("c3")  # an id that nvidia-smi writes differently
    other._output = "GPU-a1, 10\nGPU-a1, 20\n"
    assert other.mean() == 15.0
    assert _SmiSamples(None).mean() is None


def test_overlapping_kernels_count_once() -> None:
    assert covered([(0.0, 4.0), (2.0, 3.0), (3.0, 6.0), (10.0, 11.0)]) == 7.0
    assert covered([(10.0, 11.0), (0.0, 4.0)]) == 5.0
    assert covered([]) == 0.0


def test_recorded_work_lies_within_the_recording() -> None:
    began = time.perf_counter_ns()
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        torch.ones(100, 100) @ torch.ones(100, 100)
    spans = spans_on(recorded, DeviceType.CPU)
    assert 0 < covered(spans) < time.perf_counter_ns() - began
    assert all(start <= end for start, end in spans)
    assert not spans_on(recorded, DeviceType.CUDA)


def test_equal_logs_are_equal_to_the_bit_and_others_name_the_first_step() -> None:
    whole = [{"step": step, "total": 2.0, **ROW} for step in range(4)]
    assert compared(whole, whole, 2)["equal_to_the_bit"] is True
    resumed = [*whole[:3], {**whole[3], "total": 2.5}]
    result = compared(whole, resumed, 2)
    assert result["equal_to_the_bit"] is False
    assert result["first_step_that_differs"] == 3
    assert result["largest_relative_difference_before_the_stop"] == 0.0
    assert result["largest_relative_difference_after_it"] == 0.25


def test_logs_of_different_steps_cannot_be_compared() -> None:
    whole = [{"step": step, "total": 2.0, **ROW} for step in range(4)]
    with pytest.raises(CommandFailed):
        compared(whole, whole[:3], 2)


def test_results_of_tests_are_counted() -> None:
    xml = (
        '<testsuites><testsuite><testcase name="a"/><testcase name="b"><failure message="x"/></testcase>'
        '<testcase name="c"><skipped/></testcase><testcase name="d"><error/></testcase></testsuite></testsuites>'
    )
    assert counts(xml) == {"tests": 4, "passed": 1, "skipped": 1, "failed": ["b", "d"]}


def test_difference_of_maps_is_in_deviations_of_the_expected_ones() -> None:
    expected = torch.tensor([-1.0, 1.0, -1.0, 1.0])
    result = difference(expected, expected + torch.tensor([0.0, 0.5, 0.0, 0.0]))
    assert result["largest"] == 0.5
    assert result["rms"] == 0.25
    assert result["rms_in_deviations"] == pytest.approx(0.25 / expected.std().item())


def test_a_process_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(CommandFailed):
        python("http.server", ["0"], tmp_path / "log", 1.0)
    assert time.monotonic() - began < 60


def test_the_page_shows_spreads_tables_and_errors() -> None:
    rows = [{"space": "nano", "wall_ms": {"median": 2.0, "least": 1.0, "most": 3.0}}]
    sections = {
        "steps": {"status": "done", "seconds": 1.0, "rows": rows},
        "export": {"status": "failed", "error": "Traceback\nValueError: a|b"},
    }
    text = page({"device": "cpu", "sections": sections})
    assert "| nano | 2 (1 to 3) |" in text
    assert "**failed**" in text
    assert "ValueError: a|b" in text
