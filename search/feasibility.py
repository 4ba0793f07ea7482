"""Feasibility of a budget: a short search for the arch that violates it least (no torch)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from supernet.arch import Arch
from supernet.genes import GeneLayout
from supernet.space import SearchSpace

MAX_TRIED = 200_000
_NUM_RANDOM = 2_000
_BEAM = 16


@dataclass(frozen=True)
class Nearest:
    """The arch with the smallest violation (0: it meets all bounds), and the number of archs tried."""

    arch: Arch
    violation: float
    num_tried: int


def nearest(space: SearchSpace, violation: Callable[[NDArray[Any]], NDArray[np.float64]]) -> Nearest:
    """Search for an arch that meets all bounds; all processes find the same.

    A beam search starts from random archs and from the smallest and the largest at each resolution. In each round it
    changes every single choice of the best few. Where none improves, another one starts from other random archs. It
    stops when an arch fits, or after ``MAX_TRIED`` archs.

    Args:
        space: The space to search.
        violation: Returns the violation (N,) of genes (N, G), at least 0.
    """
    layout, rng = space.layout, np.random.default_rng(0)
    genes = np.concatenate([_corners(layout), _drawn(layout, _NUM_RANDOM, rng)])
    violations, num_tried = violation(genes), len(genes)
    best, least = genes[:1], np.inf
    while True:
        beam = np.argsort(violations, kind="stable")[:_BEAM]
        genes, violations = genes[beam], violations[beam]
        if violations[0] < least:
            best, least = genes[:1], violations[0]
        if least == 0 or num_tried >= MAX_TRIED:
            return Nearest(space.decode(best)[0], float(least), num_tried)
        changed = np.unique(np.concatenate([_neighbours(layout, row) for row in genes]), axis=0)
        new_violations = violation(changed)
        num_tried += len(changed)
        if new_violations.min(initial=np.inf) < violations[0]:
            genes, violations = np.concatenate([genes, changed]), np.concatenate([violations, new_violations])
        else:
            genes = _drawn(layout, _NUM_RANDOM, rng)
            violations = violation(genes)
            num_tried += len(genes)


def _drawn(layout: GeneLayout, num: int, rng: np.random.Generator) -> NDArray[np.int16]:
    """Draw rows that hold genes for blocks past the depth too, so that a greater depth can use them."""
    return rng.integers(0, layout.num_choices, (num, len(layout.names)), np.int16)


def _corners(layout: GeneLayout) -> NDArray[np.int16]:
    """Return the smallest and the largest arch at each resolution."""
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
    changed: NDArray[np.int16] = rows[genes != row[columns]]
    return changed
