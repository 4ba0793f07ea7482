"""Which of many candidates is better when several figures and a budget count (numpy only).

Source: NSGA-II (Deb, Pratap, Agarwal, Meyarivan 2002): sections III-A (fast non-dominated sorting), III-B (crowding
distance) and VI (constrained domination).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from supernet.errors import UserError

Floats = npt.NDArray[np.float64]


def fronts(values: Floats, violation: Floats) -> npt.NDArray[np.int64]:
    """Return the front of each candidate, 0 for those that nothing dominates.

    A candidate dominates another if it violates the budget less, or, of equal violation, if it is at least as good in
    every value and better in one.

    Args:
        values: (N, M), lower is better.
        violation: (N,), 0 where the budget is kept, else more the worse it is broken.
    """
    less = violation[:, None] < violation[None]
    equal = violation[:, None] == violation[None]
    no_worse = np.ones_like(equal)
    better = np.zeros_like(equal)
    for column in values.T:
        no_worse &= column[:, None] <= column[None]
        better |= column[:, None] < column[None]
    dominates = less | (equal & no_worse & better)
    dominated_by = dominates.sum(0)
    found = np.full(len(values), -1, np.int64)
    front = 0
    while (found < 0).any():
        members = np.flatnonzero((found < 0) & (dominated_by == 0))
        found[members] = front
        dominated_by = dominated_by - dominates[members].sum(0)
        front += 1
    return found


def crowding(values: Floats) -> Floats:
    """Return the crowding distance (N,) of the members of one front: the sides of the box between their neighbours.

    The ends of every value's range are infinitely far from others, so that they survive.
    """
    count, num_values = values.shape
    distance = np.zeros(count)
    for column in range(num_values):
        order = np.argsort(values[:, column], kind="stable")
        ranked = values[order, column]
        distance[order[[0, -1]]] = np.inf
        if count > 2 and ranked[-1] > ranked[0]:
            distance[order[1:-1]] += (ranked[2:] - ranked[:-2]) / (ranked[-1] - ranked[0])
    return distance


def best_first(values: Floats, violation: Floats) -> npt.NDArray[np.int64]:
    """Return the indices of all candidates, best first: by front, within a front the less crowded first.

    Of equals the earlier comes first. With one value this is sorting by violation, then value.
    """
    if values.shape[1] == 1:
        return np.lexsort((np.arange(len(values)), values[:, 0], violation))
    found = fronts(values, violation)
    distance = np.zeros(len(values))
    for front in range(int(found.max(initial=-1)) + 1):
        members = np.flatnonzero(found == front)
        distance[members] = crowding(values[members])
    return np.lexsort((np.arange(len(values)), -distance, found))


COST_LABELS = {
    "macs": "multiply-adds per square input",
    "macs_paper": "multiply-adds per square input, LitePose's counting",
    "params": "parameters",
    "memory": "peak activation bytes of one square input",
    "weight_bytes": "bytes of float32 weights",
    "latency_ms": "predicted latency, ms",
}
"""Axis titles of every cost a budget can name."""


@dataclass(frozen=True)
class Point:
    """One subnet: a cost (lower is better) and its AP (higher is better)."""

    cost: float
    ap: float


def front(points: Sequence[Point]) -> list[int]:
    """Return the indices of the points that no other point dominates, by rising cost.

    A point dominates another if it is at least as good in both and better in one; equal points do not dominate each
    other, so that all of them are kept.
    """
    found: list[int] = []
    for i in sorted(range(len(points)), key=lambda i: (points[i].cost, -points[i].ap)):
        if not found or points[i].ap > points[found[-1]].ap or points[i] == points[found[-1]]:
            found.append(i)
    return found


AP = "ap"


def check_objectives(objectives: Sequence[str]) -> None:
    """Raise UserError unless ``objectives`` are AP and names of costs, each once."""
    if objectives.count(AP) != 1 or len(set(objectives)) < len(objectives):
        raise UserError(f"objectives is {list(objectives)}; give ap and names of costs, each once")


def check_known(objectives: Sequence[str], costs: Collection[str]) -> None:
    """Raise UserError for an objective that is neither AP nor one of the names of ``costs``."""
    for name in objectives:
        if name != AP and name not in costs:
            raise UserError(f"there is no objective {name}; choose among {', '.join((AP, *costs))}")
