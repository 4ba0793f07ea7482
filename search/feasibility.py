"""Whether bounds on several costs can be met at once: a short search for the arch that misses them least (no torch)."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from supernet.arch import Arch
from supernet.genes import GeneLayout
from supernet.space import SearchSpace

MAX_TRIED = 200_000
MAX_SECONDS = 1.2
_NUM_RANDOM = 2_000
_BEAM = 16
_MAX_ROUNDS = 200


@dataclass(frozen=True)
class Nearest:
    """The arch that misses the bounds least (0: it meets them), and how many were tried."""

    arch: Arch
    violation: float
    num_tried: int


def nearest(space: SearchSpace, violation: Callable[[NDArray[Any]], NDArray[np.float64]]) -> Nearest:
    """Search for an arch that meets all bounds; the same archs are tried every time.

    From random archs and from the smallest and the largest at each resolution, the best few are changed in one choice
    each, in all ways, until one fits, none gets better, or ``MAX_TRIED`` archs or ``MAX_SECONDS`` are spent.

    Args:
        space: What to search.
        violation: By how much genes (N, G) miss the bounds, (N,) of at least 0.
    """
    start, layout = time.perf_counter(), space.layout
    genes = np.concatenate([_corners(layout), _drawn(layout, _NUM_RANDOM)])
    missed, num_tried = violation(genes), len(genes)
    for _ in range(_MAX_ROUNDS):
        kept = np.argsort(missed, kind="stable")[:_BEAM]
        genes, missed = genes[kept], missed[kept]
        if missed[0] == 0 or num_tried >= MAX_TRIED or time.perf_counter() - start > MAX_SECONDS:
            break
        changed = np.unique(np.concatenate([_neighbours(layout, row) for row in genes]), axis=0)
        found = violation(changed)
        num_tried += len(changed)
        if found.min() >= missed[0]:
            break
        genes, missed = np.concatenate([genes, changed]), np.concatenate([missed, found])
    return Nearest(space.decode(genes[:1])[0], float(missed[0]), num_tried)


def _drawn(layout: GeneLayout, num: int) -> NDArray[np.int16]:
    """Draw rows whose blocks past the depth hold genes too, so that a greater depth finds some there."""
    return np.random.default_rng(0).integers(0, layout.num_choices, (num, len(layout.names)), np.int16)


def _corners(layout: GeneLayout) -> NDArray[np.int16]:
    least, most = np.zeros_like(layout.num_choices), layout.num_choices - 1
    rows = np.repeat([least, most], layout.num_choices[layout.resolution], axis=0).astype(np.int16)
    rows[:, layout.resolution] = np.tile(np.arange(layout.num_choices[layout.resolution]), 2)
    return rows


def _neighbours(layout: GeneLayout, row: NDArray[np.int16]) -> NDArray[np.int16]:
    """Return all rows that differ from ``row`` in one gene."""
    columns = np.repeat(np.arange(len(row)), layout.num_choices)
    genes = np.concatenate([np.arange(count) for count in layout.num_choices])
    rows = np.repeat(row[None], len(columns), axis=0)
    rows[np.arange(len(columns)), columns] = genes
    found: NDArray[np.int16] = rows[genes != row[columns]]
    return found
