"""What is measured for a table: nothing at all, every block of a space, and some whole networks."""

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
    """A graph that does next to nothing: what a call of the library costs."""


NO_OP = "empty"
"""Name of the ``NoOp`` subject."""
Workload = Block | Arch | NoOp


def workloads(space: SearchSpace, num_keypoints: int, networks: Sequence[Arch]) -> dict[str, Workload]:
    """Return all that is measured, by the names that files of measurements have for it."""
    found: dict[str, Workload] = {NO_OP: NoOp()}
    found |= {network_key(arch): arch for arch in networks}
    return found | {key_of(block): block for block in blocks_of_space(space, num_keypoints)}


def network_key(arch: Arch) -> str:
    """Return a name of one word for a network."""
    return f"network-{arch.digest()}"


def draw_networks(space: SearchSpace, num: int, seed: int, apart_from: Sequence[Arch] = ()) -> list[Arch]:
    """Draw distinct archs, none of them in ``apart_from``; fewer than ``num`` only if the space is that small."""
    rng, found = np.random.default_rng(seed), dict.fromkeys(apart_from)
    first = len(found)
    for _ in range(100 * num):
        if len(found) == first + num:
            break
        found[space.sample(rng)] = None
    return list(found)[first:]


def header(
    space: SearchSpace, num_keypoints: int, networks: Sequence[Arch], settings: dict[str, Any]
) -> dict[str, Any]:
    """Return the first line of a file of measurements, in plain values."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "unit": "ms",
        "settings": settings,
        "num_keypoints": num_keypoints,
        "space_digest": space.digest(),
        "space": space.to_dict(),
        "networks": [arch.to_dict() for arch in networks],
    }
