"""Candidates of a search: a scored arch as a value and as a row of a file (no torch)."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from supernet.arch import Arch
from supernet.errors import UserError


@dataclass(frozen=True)
class Score:
    """Metrics of an arch on a number of images; scores are comparable only for equal numbers."""

    num_images: int
    metrics: dict[str, float]

    @property
    def ap(self) -> float:
        """Average precision, 0..1."""
        return self.metrics["AP"]


@dataclass(frozen=True)
class Candidate:
    """An arch that a search scored, or is about to.

    Attributes:
        order: Index among all candidates of a search, from 0.
        generation: Index of the generation, from 0.
        origin: How it was proposed, such as "random", "mutation", "crossover" or "predicted".
        costs: All costs of the cost model, by name.
        predicted: AP predicted for the number of images that every candidate is scored on; None without a prediction.
        scores: Scores on increasing numbers of images; empty before the first.
    """

    arch: Arch
    order: int
    generation: int
    origin: str
    costs: dict[str, float]
    predicted: float | None = None
    scores: tuple[Score, ...] = ()

    @property
    def ap(self) -> float:
        """Average precision on the largest number of images."""
        return self.scores[-1].ap

    def scored(self, score: Score) -> Self:
        """Return the candidate with one more score."""
        return replace(self, scores=(*self.scores, score))

    def row(self) -> dict[str, Any]:
        """Return plain values, with the metrics on the largest number of images."""
        predicted = {} if self.predicted is None else {"predicted": self.predicted}
        return {
            "order": self.order,
            "generation": self.generation,
            "origin": self.origin,
            "digest": self.arch.digest(),
            "costs": self.costs,
            "metrics": self.scores[-1].metrics,
            "num_images": self.scores[-1].num_images,
            **predicted,
            "arch": self.arch.to_dict(),
        }

    def full_row(self) -> dict[str, Any]:
        """Return :meth:`row` with the scores on smaller numbers of images, where there are any."""
        earlier = [asdict(score) for score in self.scores[:-1]]
        return self.row() | ({"earlier_scores": earlier} if earlier else {})

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """Read what :meth:`row` returned, which holds only the last score.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: The row is malformed.
        """
        score = Score(row["num_images"], dict(row["metrics"]))
        predicted = row.get("predicted", 0)
        counts, figures = (row["order"], row["generation"], score.num_images), (*score.metrics.values(), predicted)
        numbers = all(isinstance(value, int | float) for value in (*figures, *row["costs"].values()))
        if "AP" not in score.metrics or not numbers or not all(type(count) is int for count in counts):
            raise UserError("a row does not hold the numbers of a score; restore the file or start a new search")
        return cls(
            Arch.from_dict(row["arch"]),
            row["order"],
            row["generation"],
            str(row["origin"]),
            dict(row["costs"]),
            row.get("predicted"),
            (score,),
        )


def from_rows(rows: Sequence[Mapping[str, Any]]) -> list[Candidate]:
    """Return the candidates of all rows of a search, by order; a candidate has one row per score."""
    candidates: dict[int, Candidate] = {}
    for row in rows:
        candidate = Candidate.from_row(row)
        if candidate.order in candidates:
            candidate = candidates[candidate.order].scored(candidate.scores[0])
        candidates[candidate.order] = candidate
    return [candidates[order] for order in sorted(candidates)]


@dataclass(frozen=True)
class Result:
    """The result of a search: the best candidate, the front (only the best if AP is the only objective), and all."""

    best: Candidate
    front: tuple[Candidate, ...]
    archive: tuple[Candidate, ...]
