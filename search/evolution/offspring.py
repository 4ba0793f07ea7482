"""New archs within a budget, from chance and from parents, none of them twice (no torch)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from search.budget import Budget, CostModel
from search.evolution.operators import GeneticOperators
from search.evolution.settings import BreedingSettings
from supernet.arch import Arch
from supernet.genes import Genes
from supernet.space import SearchSpace

Origin = Literal["random", "mutation", "crossover", "predicted"]
ROUNDS = 12
"""Batches of proposals for what is missing of a generation; in the later half, those that do not fit are repaired."""
LEAST_BATCH = 64
DRAWN_AT_ONCE = 1024


@dataclass
class Offspring:
    """New gene rows and how each came about; ``known`` are the rows that must not come again, as bytes."""

    known: set[bytes]
    rows: list[Genes] = field(default_factory=list)
    origins: list[Origin] = field(default_factory=list)

    def add(self, row: Genes, origin: Origin) -> bool:
        """Take ``row`` in if it is new, and tell whether it is."""
        key = row.tobytes()
        if key in self.known:
            return False
        self.known.add(key)
        self.rows.append(row)
        self.origins.append(origin)
        return True


class OffspringGenerator:
    """Makes new gene rows of ``space`` within ``budget``; every loop is bounded.

    Args:
        space: What to draw from.
        model: Costs of gene rows.
        budget: What they must keep.
        settings: How children come from parents.
    """

    def __init__(self, space: SearchSpace, model: CostModel, budget: Budget, settings: BreedingSettings) -> None:
        self.variation = GeneticOperators(space)
        self.model, self.budget, self.settings = model, budget, settings

    def random(self, num: int, brood: Offspring, rng: np.random.Generator, repair_from: int = ROUNDS // 2) -> None:
        """Add ``num`` random rows, uniform as far as ``repair_from`` rounds find such within the budget."""
        self._fill(num, brood, "random", rng, lambda count: self.variation.sample(rng, count), repair_from)

    def children(self, num: int, parents: Genes, brood: Offspring, rng: np.random.Generator) -> None:
        """Add ``num`` children of ``parents`` (best first); random ones where these bring nothing new."""
        stop = len(brood.rows) + num

        def pick(count: int) -> Genes:
            return parents[rng.integers(0, len(parents), count)]

        num_mutations = round(self.settings.mutation_share * num) if len(parents) > 1 else num
        rate = self.settings.mutation_rate
        if num_mutations:
            self._fill(num_mutations, brood, "mutation", rng, lambda n: self.variation.mutate(pick(n), rng, rate))
        if len(parents) > 1:
            missing = num - num_mutations
            cross = self.variation.crossover
            self._fill(missing, brood, "crossover", rng, lambda n: cross(pick(n), pick(n), rng))
        self.random(stop - len(brood.rows), brood, rng)

    def _fill(
        self,
        num: int,
        brood: Offspring,
        origin: Origin,
        rng: np.random.Generator,
        make: Callable[[int], Genes],
        repair_from: int = ROUNDS // 2,
    ) -> None:
        stop = len(brood.rows) + num
        for round_number in range(ROUNDS):
            before = len(brood.rows)
            if before == stop:
                return
            rows = make(max(2 * (stop - before), LEAST_BATCH))
            if round_number >= repair_from:
                rows = self.variation.repair(rows, self.violation, rng)
            for row in rows[self.violation(rows) == 0]:
                if len(brood.rows) < stop:
                    brood.add(row, origin)
            if round_number >= repair_from and len(brood.rows) == before:
                return

    def violation(self, rows: Genes) -> NDArray[np.float64]:
        """By how much each row breaks the budget, 0 if it keeps it."""
        return self.budget.violation(self.model(rows))


def draw_fitting(
    space: SearchSpace, model: CostModel, budget: Budget, rng: np.random.Generator, num: int, max_tries: int
) -> tuple[list[Arch], int]:
    """Draw up to ``num`` distinct archs that fit, uniformly as far as ``max_tries`` draws reach.

    Where they do not reach, further archs are random ones changed step by step until they fit, which lie near the
    budget's edge.

    Returns:
        The archs, and how many of them (the first ones) are uniform draws.
    """
    breeder, brood = OffspringGenerator(space, model, budget, BreedingSettings()), Offspring(set())
    for start in range(0, max_tries if num else 0, DRAWN_AT_ONCE):
        if len(brood.rows) == num:
            break
        rows = breeder.variation.sample(rng, min(DRAWN_AT_ONCE, max_tries - start))
        for row in rows[breeder.violation(rows) == 0]:
            if len(brood.rows) < num:
                brood.add(row, "random")
    num_uniform = len(brood.rows)
    breeder.random(num - num_uniform, brood, rng, repair_from=0)
    return (space.decode(np.stack(brood.rows)) if brood.rows else []), num_uniform
