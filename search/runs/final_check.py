"""The choice among the finalists of a search, and its score on test images beside random archs (no torch)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from search.budget import LATENCY, Budget
from search.candidate import Candidate, Score
from search.objectives import AP
from search.pareto import fronts
from supernet.arch import Arch

MEASURED = "measured_latency_ms"
"""Key in the costs of a finalist whose latency was measured; ``latency_ms`` is the prediction of the table."""


@dataclass(frozen=True)
class FinalCheck:
    """Outcome of a search.

    Attributes:
        finalists: Best first, scored on all validation images; with several objectives, the front.
        test: Score of the chosen (first) finalist on test images.
        baseline: Random archs within the budget with their scores on test images.
        num_uniform: How many baseline archs (the first ones) are uniform draws.
    """

    finalists: tuple[Candidate, ...]
    test: Score
    baseline: tuple[tuple[Arch, Score], ...]
    num_uniform: int

    @property
    def chosen(self) -> Candidate:
        """The best finalist."""
        return self.finalists[0]


def with_scores(finalists: Sequence[Candidate], scores: Sequence[Score]) -> list[Candidate]:
    """Return the finalists with their scores on all validation images added, unless they have these already."""
    return [
        finalist if finalist.scores[-1].num_images == score.num_images else finalist.scored(score)
        for finalist, score in zip(finalists, scores, strict=True)
    ]


def with_latencies(finalists: Sequence[Candidate], latencies_ms: Sequence[float]) -> list[Candidate]:
    """Return the finalists with measured latencies added to the costs."""
    return [
        replace(finalist, costs={**finalist.costs, MEASURED: latency_ms})
        for finalist, latency_ms in zip(finalists, latencies_ms, strict=True)
    ]


def choose(finalists: Sequence[Candidate], objectives: Sequence[str], budget: Budget) -> list[Candidate]:
    """Return the finalists best first: those within the budget by AP, then the others by how little they exceed it.

    Only measured latencies can exceed the budget, as all other costs are computed exactly. With several objectives,
    dominated finalists are left out.

    Source: constrained domination of NSGA-II (Deb et al. 2002), section VI.
    """
    rows = [costs_of(finalist) for finalist in finalists]
    costs = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    violation = budget.violation(costs)
    negative_ap = np.array([-finalist.ap for finalist in finalists])
    values = np.stack([negative_ap if name == AP else costs[name] for name in objectives], 1)
    kept = np.flatnonzero(fronts(values, violation) == 0) if len(objectives) > 1 else np.arange(len(finalists))
    order = sorted(kept.tolist(), key=lambda i: (violation[i], -finalists[i].ap, finalists[i].order))
    return [finalists[i] for i in order]


def costs_of(finalist: Candidate) -> dict[str, float]:
    """Return the costs of a finalist, with its measured latency, if it has one, in place of the predicted one."""
    costs = dict(finalist.costs)
    measured_ms = costs.pop(MEASURED, None)
    return costs if measured_ms is None else {**costs, LATENCY: measured_ms}


def is_within(finalist: Candidate, budget: Budget) -> bool:
    """Return whether a finalist meets all bounds, that of the latency as it was measured."""
    return bool(budget.fits({name: np.array([cost]) for name, cost in costs_of(finalist).items()})[0])
