"""Mutation, crossover and repair of many gene rows at once (no torch).

Gene rows are defined in :mod:`supernet.genes`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from supernet.genes import ABSENT, Genes
from supernet.space import SearchSpace

Violation = Callable[[Genes], NDArray[np.float64]]
"""Returns by how much each row (N, G) breaks the budget, 0 where it fits."""
REPAIR_ROUNDS = 400
LARGE_VIOLATION = 0.1
"""Above this violation, :meth:`GeneticOperators.repair` moves ``GENES_PER_LARGE_STEP`` genes at once."""
GENES_PER_LARGE_STEP = 4
STEP_SHARE = 0.5
"""Share of mutated genes that move by one step; the others take any other value."""


class GeneticOperators:
    """Samples and varies gene rows (N, G) of one space; every row it returns encodes an arch of the space."""

    def __init__(self, space: SearchSpace) -> None:
        self._layout, self._num_choices = space.layout, space.layout.num_choices

    def sample(self, rng: np.random.Generator, num: int) -> Genes:
        """Draw every choice independently and uniformly."""
        return self._layout.sample(rng, num)

    def mutate(self, parents: Genes, rng: np.random.Generator, rate: float) -> Genes:
        """Change each gene with probability ``rate``, at least one in every row; draw the genes of added blocks.

        A changed gene takes a neighbouring value or any other value. Genes without alternatives stay.
        """
        shape = parents.shape
        free = (self._num_choices > 1) & (parents != ABSENT)
        changed = (rng.random(shape) < rate) & free
        forced = np.where(free, rng.random(shape), -1.0).argmax(1)
        unchanged_rows = ~changed.any(1)
        changed[unchanged_rows, forced[unchanged_rows]] = free[unchanged_rows, forced[unchanged_rows]]
        direction = np.where(rng.random(shape) < 0.5, 1, -1)
        neighbour = parents + direction
        is_outside = (neighbour < 0) | (neighbour >= self._num_choices)
        neighbour = np.where(is_outside, parents - direction, neighbour)
        other = (parents + 1 + (rng.random(shape) * (self._num_choices - 1)).astype(np.int16)) % self._num_choices
        takes_neighbour = rng.random(shape) < STEP_SHARE
        children = np.where(changed, np.where(takes_neighbour, neighbour, other), parents)
        return self._masked(np.where(parents == ABSENT, self._draw(rng, len(parents)), children))

    def crossover(self, first: Genes, second: Genes, rng: np.random.Generator) -> Genes:
        """Take each gene from either parent with equal probability; genes of a block from a parent that has it."""
        take_first = (rng.random(first.shape) < 0.5) & (first != ABSENT) | (second == ABSENT)
        return self._masked(np.where(take_first, first, second))

    def repair(self, genes: Genes, violation: Violation, rng: np.random.Generator) -> Genes:
        """Change rows that break the budget by random steps that reduce the violation, until they fit.

        Rows that do not fit after ``REPAIR_ROUNDS`` steps are returned as they are then.
        """
        genes = genes.copy()
        violations = violation(genes)
        for _ in range(REPAIR_ROUNDS):
            broken = np.flatnonzero(violations > 0)
            if not len(broken):
                break
            rows = genes[broken]
            # Far from the budget several genes move in the same direction at once, near it a single one.
            num_moved = np.where(violations[broken] > LARGE_VIOLATION, GENES_PER_LARGE_STEP, 1)[:, None]
            free = (self._num_choices > 1) & (rows != ABSENT)
            rank = np.where(free, rng.random(rows.shape), np.inf).argsort(1).argsort(1)
            direction = np.where(rng.random(len(rows)) < 0.5, 1, -1)[:, None]
            moved = np.where(free & (rank < num_moved), np.clip(rows + direction, 0, self._num_choices - 1), rows)
            moved = self._masked(np.where(moved == ABSENT, self._draw(rng, len(rows)), moved))
            moved_violations = violation(moved)
            better = moved_violations < violations[broken]
            genes[broken[better]], violations[broken[better]] = moved[better], moved_violations[better]
        return genes

    def _draw(self, rng: np.random.Generator, num: int) -> Genes:
        return rng.integers(0, self._num_choices, (num, len(self._num_choices)), np.int16)

    def _masked(self, genes: NDArray[Any]) -> Genes:
        """Mark the genes of blocks past the depth as absent."""
        return np.where(self._layout.present(genes), genes, ABSENT).astype(np.int16)
