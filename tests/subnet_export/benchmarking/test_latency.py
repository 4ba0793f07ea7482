"""Latencies are percentiles of the timed runs, which take turns among runtimes."""

import time

import numpy as np
import pytest
from torch import Tensor

from subnet_export.benchmarking.latency import ROUND, WARM_UP, measure_latencies
from supernet.compute.machine import processor


class Clocked:
    """A runtime whose runs advance a fake clock by the given times."""

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
    timed = {"first": rng.uniform(1e-3, 2e-3, 2 * ROUND), "second": rng.uniform(5e-3, 9e-3, 2 * ROUND)}
    runtimes = {
        name: Clocked(clock, [*[1.0] * WARM_UP, *times[:ROUND], *[1.0] * WARM_UP, *times[ROUND:]])
        for name, times in timed.items()
    }
    rounds = []
    latencies = measure_latencies(runtimes, 96, ROUND + 1, 2, lambda: rounds.append(1))
    assert len(rounds) == 4
    for name, latency in latencies.items():
        milliseconds = np.sort(1e3 * timed[name])
        assert latency.p50_ms == pytest.approx(milliseconds[ROUND - 1 : ROUND + 1].mean(), abs=1e-3)
        assert milliseconds[-4] < latency.p90_ms < milliseconds[-1]
        assert latency.least_ms == pytest.approx(milliseconds[0], abs=1e-3)
        assert (latency.runs, latency.threads, latency.library) == (2 * ROUND, 2, "test 1")
        assert latency.processor == processor()
        assert runtimes[name].shapes == {(1, 3, 96, 96)}


def test_a_latency_names_the_device_that_computed_it() -> None:
    class Elsewhere:
        library, precision = "test 1", "f32"

        def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
            return images.to("meta"), images.to("meta")

    latency = measure_latencies({"elsewhere": Elsewhere()}, 64, 1, 1, lambda: None)["elsewhere"]
    assert latency.processor == f"{processor()} (meta)"
