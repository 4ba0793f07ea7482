"""The clock of the benchmark of a candidate counts every second once."""

import time
from collections.abc import Iterator
from unittest import mock

import pytest

from scripts.benchmarks import candidate


def test_time_within_another_part_counts_for_the_inner_one_alone() -> None:
    now = [0.0]
    clock = candidate.Clock()

    def work(seconds: float) -> None:
        now[0] += seconds

    def steps() -> Iterator[int]:
        for number in range(3):
            work(2.0)
            yield number

    inner, stepped = clock.timed("inner", work), clock.timed("steps", steps)
    with mock.patch.object(time, "process_time", side_effect=lambda: now[0]), clock.measure("outer"):
        work(1.0)
        inner(10.0)
        assert list(stepped()) == [0, 1, 2]
        work(4.0)
    assert dict(clock.seconds) == pytest.approx({"inner": 10.0, "steps": 6.0, "outer": 5.0})
