"""A scored arch with its place in the search, as a value and as the row that is written (no torch)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from supernet.arch import Arch
from supernet.errors import UserError


@dataclass(frozen=True)
class Score:
    """Metrics of an arch on a number of images; only scores on equally many are comparable."""

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
        order: Counts all candidates of a search from 0.
        generation: Counts generations from 0.
        origin: How it came about, such as "random", "mutation", "crossover" or "predicted".
        costs: By name, of all that the cost model knows.
        predicted: AP that the predictor foresaw on as many images as every candidate is scored on; None if it was
            not asked.
        scores: On ever more images; empty before the first.
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
        """Average precision on the most images it was scored on."""
        return self.scores[-1].ap

    def scored(self, score: Score) -> Self:
        """Return the candidate with one more score."""
        return replace(self, scores=(*self.scores, score))

    def row(self) -> dict[str, Any]:
        """Return plain values, with the metrics on the most images it was scored on."""
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

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """Read back what :meth:`row` returned; of several scores it holds the last.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: It is no such row.
        """
        score = Score(row["num_images"], dict(row["metrics"]))
        predicted = row.get("predicted", 0)
        counts, figures = (row["order"], row["generation"], score.num_images), (*score.metrics.values(), predicted)
        numbers = all(isinstance(each, int | float) for each in (*figures, *row["costs"].values()))
        if "AP" not in score.metrics or not numbers or not all(type(each) is int for each in counts):
            raise UserError("a row of other figures than scores have; restore the file or start anew")
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
    found: dict[int, Candidate] = {}
    for row in rows:
        one = Candidate.from_row(row)
        found[one.order] = found[one.order].scored(one.scores[0]) if one.order in found else one
    return [found[order] for order in sorted(found)]


@dataclass(frozen=True)
class Result:
    """The candidates of a search: the best, the front (the best alone where AP is the only objective), and all."""

    best: Candidate
    front: tuple[Candidate, ...]
    archive: tuple[Candidate, ...]
