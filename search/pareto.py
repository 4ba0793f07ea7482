"""Pareto domination: fronts, crowding, and the order of candidates with several values and a budget (numpy only).

Values are minimised. :func:`fronts`, :func:`crowding` and :func:`best_first` are the sorting of NSGA-II for any number
of values; :func:`trade_off` is the first front of the two values that reports show, cost and AP.

Source: NSGA-II (Deb, Pratap, Agarwal, Meyarivan 2002): sections III-A (fast non-dominated sorting), III-B (crowding
distance) and VI (constrained domination).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def fronts(values: Floats, violation: Floats) -> npt.NDArray[np.int64]:
    """Return the front (N,) of each candidate: 0 if nothing dominates it, 1 if only front 0 does, and so on.

    A candidate dominates another if it violates the budget less, or if both violate it equally and it is at least as
    good in every value and better in one. Equal candidates do not dominate each other.

    Args:
        values: (N, M), lower is better.
        violation: (N,), 0 within the budget, larger for a worse violation.
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
    front_of = np.full(len(values), -1, np.int64)
    front = 0
    while (front_of < 0).any():
        members = np.flatnonzero((front_of < 0) & (dominated_by == 0))
        front_of[members] = front
        dominated_by = dominated_by - dominates[members].sum(0)
        front += 1
    return front_of


def crowding(values: Floats) -> Floats:
    """Return the crowding distance (N,) of the members of one front: the side lengths of the box between neighbours.

    Members at the end of a value's range have an infinite distance, so that they survive.
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
    """Return the indices of all candidates, best first: by front, then by descending crowding distance.

    Ties keep their order. With a single value, this sorts by violation, then value.
    """
    if values.shape[1] == 1:
        return np.lexsort((np.arange(len(values)), values[:, 0], violation))
    front_of = fronts(values, violation)
    distance = np.zeros(len(values))
    for front in range(int(front_of.max(initial=-1)) + 1):
        members = np.flatnonzero(front_of == front)
        distance[members] = crowding(values[members])
    return np.lexsort((np.arange(len(values)), -distance, front_of))


@dataclass(frozen=True)
class Point:
    """A subnet by its cost (lower is better) and its AP (higher is better)."""

    cost: float
    ap: float


def trade_off(points: Sequence[Point]) -> list[int]:
    """Return the indices of the points that no other point dominates, by rising cost; equal points are all included."""
    values = np.array([(point.cost, -point.ap) for point in points]).reshape(-1, 2)
    members = np.flatnonzero(fronts(values, np.zeros(len(points))) == 0).tolist()
    return sorted(members, key=lambda i: points[i].cost)
