"""Surrogate-assisted proposals: evolve on predicted scores and propose the best archs found (no torch)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from search.evolution.offspring import Offspring, OffspringGenerator
from search.objectives import AP
from search.pareto import Floats, best_first
from supernet.genes import Genes
from supernet.io.schema import check_numbers

NUM_GENERATIONS = 8
"""Generations of the inner evolution on predicted scores."""
NUM_PARENTS = 50
"""Parents of each of these generations."""


class Regressor(Protocol):
    """Predicts scores of gene rows, such as :class:`search.predictor.ApPredictor`."""

    def fit(self, genes: Genes, scores: Floats, rng: np.random.Generator) -> Any:
        """Learn from scored rows."""
        ...

    def predict(self, genes: Genes) -> Floats:
        """Return the expected score (N,) of each row."""
        ...


@dataclass(frozen=True)
class PredictionSettings:
    """How a search uses a predictor.

    Attributes:
        first: Archs to score before the predictor proposes any.
        num_candidates: Archs the predictor rates for each generation.
        share: Share of a generation that the predictor proposes. Mutation and crossover make the others, which gives
            the predictor new data to learn from.
    """

    first: int = 40
    num_candidates: int = 2000
    share: float = 0.75

    def __post_init__(self) -> None:
        """Raise UserError for a value outside its range."""
        check_numbers(self, "first", least=10, place="prediction.")
        check_numbers(self, "num_candidates", least=1, place="prediction.")
        check_numbers(self, "share", above=0, most=1, place="prediction.")


class PredictedProposals:
    """A :class:`search.evolution.engine.Surrogate` that fits a new predictor to all scores for each generation.

    Args:
        predictor: Makes an untrained predictor.
        generator: Makes the archs that the predictor rates.
        settings: How the search uses the predictor.
        objectives: Objectives of the search. Costs are computed, only AP is predicted.
    """

    def __init__(
        self,
        predictor: Callable[[], Regressor],
        generator: OffspringGenerator,
        settings: PredictionSettings,
        objectives: tuple[str, ...] = (AP,),
    ) -> None:
        self._predictor, self._generator = predictor, generator
        self._settings, self._objectives = settings, objectives

    def propose(
        self, genes: Genes, scores: Floats, parents: Genes, num: int, offspring: Offspring, rng: np.random.Generator
    ) -> list[float] | None:
        """Add the best predicted rows to ``offspring``; return their predicted scores, or None if too few are scored.

        Args:
            genes: Scored rows (N, G).
            scores: AP (N,) of each row.
            parents: Rows to start from, best first.
            num: Size of the generation, of which ``share`` is proposed.
            offspring: Receives the rows.
            rng: Source of randomness.
        """
        num = round(self._settings.share * num)
        if len(scores) < self._settings.first or not num:
            return None
        predictor = self._predictor()
        predictor.fit(genes, scores, rng)
        rated, rows, predicted = Offspring(set(offspring.known)), parents, predictor.predict(parents)
        for _ in range(NUM_GENERATIONS):
            best = self._best_first(rows, predicted)[:NUM_PARENTS]
            start = len(rated.rows)
            self._generator.children(-(-self._settings.num_candidates // NUM_GENERATIONS), rows[best], rated, rng)
            if len(rated.rows) == start:
                break
            new = np.stack(rated.rows[start:])
            rows, predicted = np.concatenate([rows, new]), np.concatenate([predicted, predictor.predict(new)])
        new, predicted = rows[len(parents) :], predicted[len(parents) :]
        chosen = self._best_first(new, predicted)[:num] if len(new) else []
        return [float(predicted[i]) for i in chosen if offspring.add(new[i], "predicted")]

    def _best_first(self, rows: Genes, predicted: Floats) -> list[int]:
        costs = self._generator.model(rows)
        columns = [-predicted if name == AP else costs[name] for name in self._objectives]
        order: list[int] = best_first(np.stack(columns, 1).astype(np.float64), np.zeros(len(rows))).tolist()
        return order
