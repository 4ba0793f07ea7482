"""Workloads: everything that is measured for a latency table."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from search.lut.measure import FORMAT, VERSION
from supernet.arch import Arch
from supernet.costs.latency_blocks import Block, blocks_of_space, key_of
from supernet.space import SearchSpace


@dataclass(frozen=True)
class NoOp:
    """A graph that does almost nothing; it measures the cost of calling the library."""


NO_OP = "empty"
"""Name of the ``NoOp`` workload in files of measurements."""
Workload = Block | Arch | NoOp


@dataclass(frozen=True)
class MeasurementPlan:
    """What a latency table is built from.

    Attributes:
        space: The space whose blocks are measured.
        num_keypoints: K.
        networks: Whole networks, to fit the overhead on.
    """

    space: SearchSpace
    num_keypoints: int
    networks: tuple[Arch, ...] = ()

    def workloads(self) -> dict[str, Workload]:
        """Return all workloads by their names in files of measurements: the no-op, the networks, every block."""
        workloads: dict[str, Workload] = {NO_OP: NoOp()}
        workloads |= {network_key(arch): arch for arch in self.networks}
        return workloads | {key_of(block): block for block in blocks_of_space(self.space, self.num_keypoints)}

    def header(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Return the first line of a file of measurements, in plain values."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "unit": "ms",
            "settings": settings,
            "num_keypoints": self.num_keypoints,
            "space_digest": self.space.digest(),
            "space": self.space.to_dict(),
            "networks": [arch.to_dict() for arch in self.networks],
        }


def network_key(arch: Arch) -> str:
    """Return the name of a network in files of measurements."""
    return f"network-{arch.digest()}"


def fitting_networks(space: SearchSpace, num: int, seed: int) -> tuple[Arch, ...]:
    """Return the smallest and the largest arch of a space and random ones, ``num`` in all, to fit the overhead on."""
    extremes = list(dict.fromkeys([space.smallest(), space.largest()]))[:num]
    return (*extremes, *draw_networks(space, num - len(extremes), seed, extremes))


def draw_networks(space: SearchSpace, num: int, seed: int, excluded: Sequence[Arch] = ()) -> list[Arch]:
    """Draw distinct archs that are not ``excluded``; fewer than ``num`` only if the space is that small."""
    rng, archs = np.random.default_rng(seed), dict.fromkeys(excluded)
    num_excluded = len(archs)
    for _ in range(100 * num):
        if len(archs) == num_excluded + num:
            break
        archs[space.sample(rng)] = None
    return list(archs)[num_excluded:]
