"""Figures name what they were measured on and how they spread."""

import time

import pytest

from scripts.benchmarks.timing import spread, timed
from supernet.compute.machine import machine, versions


def test_spread_is_median_least_and_most() -> None:
    assert spread([3.0, 1.0, 10.0, 2.00049]) == {"median": 2.5, "least": 1.0, "most": 10.0}


def test_time_asleep_counts_by_the_clock_only_and_the_first_call_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = {"perf_counter": 5.0, "process_time": 2.0}
    for name in clocks:
        monkeypatch.setattr(time, name, lambda name=name: clocks[name])
    seconds = iter([8.0, 0.25, 1.0, 0.5])

    def half_asleep() -> None:
        clocks["perf_counter"] += (taken := next(seconds))
        clocks["process_time"] += taken / 2

    figures = timed(half_asleep, repeats=3)
    assert next(seconds, None) is None
    assert figures["wall_ms"] == {"median": 500.0, "least": 250.0, "most": 1000.0}
    assert figures["cpu_ms"] == {"median": 250.0, "least": 125.0, "most": 500.0}


def test_the_machine_and_its_software_have_names() -> None:
    assert machine()["processor"]
    assert int(machine()["cores"]) >= 1
    assert set(versions()) == {"python", "torch", "numpy", "opencv"}
