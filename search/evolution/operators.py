"""Mutation, crossover and repair of gene rows, many at once (no torch).

Rows are those of ``supernet.genes``.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from supernet.genes import ABSENT, Genes
from supernet.space import SearchSpace

Violation = Callable[[Genes], NDArray[np.float64]]
"""By how much each row (N, G) breaks the budget, 0 where it keeps it."""
REPAIR_ROUNDS = 400
FAR = 0.1
MOVED_AT_ONCE = 4
STEP_SHARE = 0.5
"""Of the changes of a mutation, how many go one step up or down; the rest is drawn anew from all choices."""


class GeneticOperators:
    """Varies gene rows (N, G) of one space; every row it returns stands for an arch of the space."""

    def __init__(self, space: SearchSpace) -> None:
        self._layout, self._num_choices = space.layout, space.layout.num_choices

    def sample(self, rng: np.random.Generator, num: int) -> Genes:
        """Draw every choice independently and uniformly."""
        return self._layout.sample(rng, num)

    def mutate(self, parents: Genes, rng: np.random.Generator, rate: float) -> Genes:
        """Change each gene with probability ``rate``, at least one of every row; added blocks are drawn anew.

        A changed gene takes another value wherever it has a choice: a neighbouring one or any.
        """
        shape = parents.shape
        free = (self._num_choices > 1) & (parents != ABSENT)
        changed = (rng.random(shape) < rate) & free
        forced = np.where(free, rng.random(shape), -1.0).argmax(1)
        still = ~changed.any(1)
        changed[still, forced[still]] = free[still, forced[still]]
        away = np.where(rng.random(shape) < 0.5, 1, -1)
        step = parents + away
        step = np.where((step < 0) | (step >= self._num_choices), parents - away, step)
        other = (parents + 1 + (rng.random(shape) * (self._num_choices - 1)).astype(np.int16)) % self._num_choices
        near = rng.random(shape) < STEP_SHARE
        children = np.where(changed, np.where(near, step, other), parents)
        return self._masked(np.where(parents == ABSENT, self._draw(rng, len(parents)), children))

    def crossover(self, first: Genes, second: Genes, rng: np.random.Generator) -> Genes:
        """Take each gene from either parent with equal probability; a block from a parent that has it."""
        take_first = (rng.random(first.shape) < 0.5) & (first != ABSENT) | (second == ABSENT)
        return self._masked(np.where(take_first, first, second))

    def repair(self, genes: Genes, violation: Violation, rng: np.random.Generator) -> Genes:
        """Move rows that break the budget by random steps that lessen the violation, until they keep it.

        Rows for which ``REPAIR_ROUNDS`` tries do not suffice come back as far as they got.
        """
        genes = genes.copy()
        found = violation(genes)
        for _ in range(REPAIR_ROUNDS):
            broken = np.flatnonzero(found > 0)
            if not len(broken):
                break
            rows = genes[broken]
            # Far from the budget several genes go the same way at once, near it one.
            count = np.where(found[broken] > FAR, MOVED_AT_ONCE, 1)[:, None]
            free = (self._num_choices > 1) & (rows != ABSENT)
            place = np.where(free, rng.random(rows.shape), np.inf).argsort(1).argsort(1)
            way = np.where(rng.random(len(rows)) < 0.5, 1, -1)[:, None]
            moved = np.where(free & (place < count), np.clip(rows + way, 0, self._num_choices - 1), rows)
            moved = self._masked(np.where(moved == ABSENT, self._draw(rng, len(rows)), moved))
            after = violation(moved)
            better = after < found[broken]
            genes[broken[better]], found[broken[better]] = moved[better], after[better]
        return genes

    def _draw(self, rng: np.random.Generator, num: int) -> Genes:
        return rng.integers(0, self._num_choices, (num, len(self._num_choices)), np.int16)

    def _masked(self, genes: NDArray[Any]) -> Genes:
        """Mark the genes of blocks past the depth as absent."""
        return np.where(self._layout.present(genes), genes, ABSENT).astype(np.int16)
