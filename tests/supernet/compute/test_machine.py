"""Figures name what they were measured on and how they spread."""

import time

from scripts.benchmarks.timing import spread, timed
from supernet.compute.machine import machine, versions


def test_spread_is_median_least_and_most() -> None:
    assert spread([3.0, 1.0, 10.0, 2.00049]) == {"median": 2.5, "least": 1.0, "most": 10.0}


def test_time_asleep_counts_by_the_clock_only_and_the_first_call_not_at_all() -> None:
    calls: list[float] = []

    def nap() -> None:
        calls.append(0.0)
        time.sleep(0.2 if len(calls) == 1 else 0.02)

    figures = timed(nap, repeats=3)
    assert len(calls) == 4
    assert 20 <= figures["wall_ms"]["least"] < 200
    assert figures["cpu_ms"]["median"] < 15


def test_the_machine_and_its_software_have_names() -> None:
    assert machine()["processor"]
    assert int(machine()["cores"]) >= 1
    assert set(versions()) == {"python", "torch", "numpy", "opencv"}
