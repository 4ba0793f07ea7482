"""Proposals of a search by predicted scores: evolve on the predictor, propose what it finds best (no torch)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from search.evolution.offspring import Offspring, OffspringGenerator
from search.pareto import AP, Floats, best_first
from supernet.errors import UserError
from supernet.genes import Genes
from supernet.io.schema import check_least

ROUNDS = 8
"""Generations of the evolution on predicted scores."""
PARENTS = 50
"""Parents of each of them."""


class Regressor(Protocol):
    """Learns scores of gene rows; ``search.predictor.ApPredictor`` is one."""

    def fit(self, genes: Genes, scores: Floats, rng: np.random.Generator) -> Any:
        """Learn from scored rows."""
        ...

    def predict(self, genes: Genes) -> Floats:
        """Return the expected score (N,) of each row."""
        ...


@dataclass(frozen=True)
class PredictionSettings:
    """How a predictor takes part in a search.

    Attributes:
        first: Archs to score before the predictor proposes any.
        num_candidates: Archs it looks at for each generation.
        share: Part of a generation that it proposes; the rest are children as usual, which keep it learning.
    """

    first: int = 40
    num_candidates: int = 2000
    share: float = 0.75

    def __post_init__(self) -> None:
        """Raise UserError for a value outside its range."""
        check_least(self, {"first": 10, "num_candidates": 1}, "prediction.")
        if not 0 < self.share <= 1:
            raise UserError(f"prediction.share is {self.share}; it must be above 0 and at most 1")


class PredictedProposals:
    """A ``Surrogate`` that refits a predictor for each generation on all that was scored.

    Args:
        predictor: Makes an untrained predictor.
        breeder: Makes the archs it looks at.
        settings: How it takes part.
        objectives: Those of the search; costs are known exactly and need no prediction.
    """

    def __init__(
        self,
        predictor: Callable[[], Regressor],
        breeder: OffspringGenerator,
        settings: PredictionSettings,
        objectives: tuple[str, ...] = (AP,),
    ) -> None:
        self._predictor, self._breeder = predictor, breeder
        self._settings, self._objectives = settings, objectives

    def propose(
        self, genes: Genes, scores: Floats, parents: Genes, num: int, brood: Offspring, rng: np.random.Generator
    ) -> list[float] | None:
        """Add the rows predicted best to ``brood`` and return their predicted scores; None before ``first`` scores."""
        num = round(self._settings.share * num)
        if len(scores) < self._settings.first or not num:
            return None
        predictor = self._predictor()
        predictor.fit(genes, scores, rng)
        seen, rows, foreseen = Offspring(set(brood.known)), parents, predictor.predict(parents)
        for _ in range(ROUNDS):
            best = self._best_first(rows, foreseen)[:PARENTS]
            start = len(seen.rows)
            self._breeder.children(-(-self._settings.num_candidates // ROUNDS), rows[best], seen, rng)
            if len(seen.rows) == start:
                break
            new = np.stack(seen.rows[start:])
            rows, foreseen = np.concatenate([rows, new]), np.concatenate([foreseen, predictor.predict(new)])
        new, foreseen = rows[len(parents) :], foreseen[len(parents) :]
        chosen = self._best_first(new, foreseen)[:num] if len(new) else []
        return [float(foreseen[i]) for i in chosen if brood.add(new[i], "predicted")]

    def _best_first(self, rows: Genes, foreseen: Floats) -> list[int]:
        costs = self._breeder.model(rows)
        columns = [-foreseen if name == AP else costs[name] for name in self._objectives]
        order: list[int] = best_first(np.stack(columns, 1).astype(np.float64), np.zeros(len(rows))).tolist()
        return order
