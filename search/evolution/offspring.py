"""Generates new archs within a budget, at random or from parents, without duplicates (no torch)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from search.budget import Budget
from search.evolution.operators import GeneticOperators
from search.evolution.settings import OffspringSettings
from supernet.arch import Arch
from supernet.genes import Genes

Origin = Literal["random", "mutation", "crossover", "predicted"]
ROUNDS = 12
"""Batches drawn to fill a generation; in the later half, rows that break the budget are repaired."""
MIN_BATCH = 64
UNIFORM_BATCH = 1024


@dataclass
class Offspring:
    """New gene rows with the origin of each; ``known`` holds all rows to reject as duplicates, as bytes."""

    known: set[bytes]
    rows: list[Genes] = field(default_factory=list)
    origins: list[Origin] = field(default_factory=list)

    def add(self, row: Genes, origin: Origin) -> bool:
        """Add ``row`` if it is new; return whether it was."""
        key = row.tobytes()
        if key in self.known:
            return False
        self.known.add(key)
        self.rows.append(row)
        self.origins.append(origin)
        return True


class OffspringGenerator:
    """Generates new gene rows within a budget; every loop is bounded.

    Args:
        budget: Bounds that every generated row meets, in the space to draw from.
        settings: How children are made from parents.
    """

    def __init__(self, budget: Budget, settings: OffspringSettings) -> None:
        self.operators = GeneticOperators(budget.model.space)
        self.model, self.budget, self.settings = budget.model, budget, settings

    def random(self, num: int, offspring: Offspring, rng: np.random.Generator, repair_from: int = ROUNDS // 2) -> None:
        """Add ``num`` random rows: uniform draws in the rounds before ``repair_from``, repaired ones after."""
        self._fill(num, offspring, "random", rng, lambda count: self.operators.sample(rng, count), repair_from)

    def children(self, num: int, parents: Genes, offspring: Offspring, rng: np.random.Generator) -> None:
        """Add ``num`` children of ``parents`` (best first), and random rows if the parents yield too few new ones."""
        stop = len(offspring.rows) + num

        def pick(count: int) -> Genes:
            return parents[rng.integers(0, len(parents), count)]

        num_mutations = round(self.settings.mutation_share * num) if len(parents) > 1 else num
        rate = self.settings.mutation_rate
        if num_mutations:
            self._fill(num_mutations, offspring, "mutation", rng, lambda n: self.operators.mutate(pick(n), rng, rate))
        if len(parents) > 1:
            missing = num - num_mutations
            crossover = self.operators.crossover
            self._fill(missing, offspring, "crossover", rng, lambda n: crossover(pick(n), pick(n), rng))
        self.random(stop - len(offspring.rows), offspring, rng)

    def _fill(
        self,
        num: int,
        offspring: Offspring,
        origin: Origin,
        rng: np.random.Generator,
        make: Callable[[int], Genes],
        repair_from: int = ROUNDS // 2,
    ) -> None:
        stop = len(offspring.rows) + num
        for round_number in range(ROUNDS):
            before = len(offspring.rows)
            if before == stop:
                return
            rows = make(max(2 * (stop - before), MIN_BATCH))
            if round_number >= repair_from:
                rows = self.operators.repair(rows, self.violation, rng)
            for row in rows[self.violation(rows) == 0]:
                if len(offspring.rows) < stop:
                    offspring.add(row, origin)
            if round_number >= repair_from and len(offspring.rows) == before:
                return

    def violation(self, rows: Genes) -> NDArray[np.float64]:
        """Return by how much each row breaks the budget, 0 where it fits."""
        return self.budget.violation(self.model(rows))


def draw_fitting(budget: Budget, rng: np.random.Generator, num: int, max_tries: int) -> tuple[list[Arch], int]:
    """Draw up to ``num`` distinct archs within the budget.

    The first archs are uniform: those that fit among ``max_tries`` random draws. If these are too few, the others are
    random archs changed step by step until they fit, and lie near the limits of the budget.

    Returns:
        The archs, and how many of them (the first ones) are uniform draws.
    """
    generator, drawn = OffspringGenerator(budget, OffspringSettings()), Offspring(set())
    for start in range(0, max_tries if num else 0, UNIFORM_BATCH):
        if len(drawn.rows) == num:
            break
        rows = generator.operators.sample(rng, min(UNIFORM_BATCH, max_tries - start))
        for row in rows[generator.violation(rows) == 0]:
            if len(drawn.rows) < num:
                drawn.add(row, "random")
    num_uniform = len(drawn.rows)
    generator.random(num - num_uniform, drawn, rng, repair_from=0)
    return (budget.model.space.decode(np.stack(drawn.rows)) if drawn.rows else []), num_uniform
