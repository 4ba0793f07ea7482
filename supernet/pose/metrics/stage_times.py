"""Seconds that an evaluation spends in each of its stages."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

Stage = Literal["loading", "network", "transfer", "grouping", "ap"]
STAGES: tuple[Stage, ...] = ("loading", "network", "transfer", "grouping", "ap")
"""Images decoded and resized; the forward passes; what crosses between device and host; maps to people; the metrics."""


@dataclass
class StageTimes:
    """A stopwatch per stage; those of several processes add up to more than the time by the clock."""

    seconds: dict[Stage, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))

    @contextmanager
    def measure(self, stage: Stage) -> Iterator[None]:
        """Add the duration of the block to ``stage``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - start

    def add(self, other: "StageTimes") -> None:
        """Add the seconds that another process measured."""
        for stage in STAGES:
            self.seconds[stage] += other.seconds[stage]

    def summary(self) -> dict[str, Any]:
        """Return the seconds by stage, the slowest stage, and its share in the sum of all."""
        slowest = max(STAGES, key=lambda stage: self.seconds[stage])
        share = self.seconds[slowest] / (sum(self.seconds.values()) or 1.0)
        seconds = {stage: round(self.seconds[stage], 3) for stage in STAGES}
        return {"seconds": seconds, "slowest": slowest, "share_of_slowest": round(share, 3)}
