"""The remaining time of a training weights the steps of each phase by their cost."""

import time
from dataclasses import replace

import pytest

from supernet.arch import layers
from supernet.costs.analytic import macs
from supernet.training.monitoring.remaining_time import RemainingTime
from supernet.training.phases import Phase, schedule
from supernet.training.planning.step_costs import step_macs
from tests.helpers.training import EVERY, PHASES, SPACE

K = 5


def test_the_time_of_later_phases_is_known_from_the_first_steps_on(monkeypatch: pytest.MonkeyPatch) -> None:
    scheduled, costs = schedule(PHASES, SPACE, 1400), (1.0, 3.0, 2.0)
    wait = 0.25
    seconds = [
        wait + cost for phase, cost in zip(scheduled, costs, strict=True) for _ in range(phase.start, phase.stop)
    ]
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    remaining = RemainingTime(scheduled, costs)
    for step, step_seconds in enumerate(seconds, start=1):
        now += step_seconds + 20.0 * (step == 1)  # kernels are compiled in the first step
        left = remaining.follow(step, wait)
        if step > 2:
            assert left == pytest.approx(sum(seconds[step:]))
    assert left == 0.0


def test_after_a_rollback_only_new_steps_count(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    remaining = RemainingTime(schedule(PHASES, SPACE, 140), (1.0, 1.0, 1.0))
    for step in (10, 11, 12, 5, 6, 7, 8):
        now += 1.0 if step >= 10 else 3.0
        left = remaining.follow(step, 0.0)
    assert left == pytest.approx(3.0 * (140 - 8))


def test_a_step_costs_three_forward_passes_of_each_subnet_and_one_of_a_frozen_teacher() -> None:
    largest = SPACE.largest()
    cost = {size: macs(layers(replace(largest, resolution=size), K)) for size in SPACE.resolutions}
    alone, kernel = Phase("a", 1, (), ("largest",), 1e-2), Phase("b", 1, ("kernel_size",), ("largest",), 1e-2, "frozen")
    first, second = schedule((alone, kernel), SPACE, 100)
    assert step_macs(first, largest, K, 0) == 3 * cost[48]
    assert step_macs(second, largest, K, 0) == 4 * cost[48]
    (small,) = schedule((replace(alone, resolution_scale=0.34),), SPACE, 10)
    assert small.resolutions == (16,)
    assert step_macs(small, largest, K, 0) == 3 * macs(layers(replace(largest, resolution=16), K))
    (varied,) = schedule((Phase("a", 1, EVERY, ("largest", "random", "smallest"), 1e-2),), SPACE, 1000)
    smallest = macs(layers(SPACE.smallest(), K))
    assert 3 * smallest < step_macs(varied, largest, K, 0) / 3 < 3 * cost[48]
    (one_size,) = schedule((Phase("a", 1, ("width",), ("largest", "random", "smallest"), 1e-2),), SPACE, 10)
    assert step_macs(one_size, largest, K, 0, fixed_shapes=True) == 9 * cost[48]
