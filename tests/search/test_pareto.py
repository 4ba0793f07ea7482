"""The Pareto front against its definition."""

import numpy as np
import pytest

from search.cost import COSTS
from search.pareto import COST_LABELS, Point, front


def dominates(first: Point, second: Point) -> bool:
    at_least = first.cost <= second.cost and first.ap >= second.ap
    return at_least and (first.cost < second.cost or first.ap > second.ap)


@pytest.mark.parametrize("seed", range(20))
def test_the_front_is_what_nothing_dominates(seed: int) -> None:
    # Few different values, so that ties in cost, in AP and in both are common.
    rng = np.random.default_rng(seed)
    points = [Point(*map(float, pair)) for pair in rng.integers(0, 12, (60, 2))]
    found = front(points)
    assert set(found) == {i for i, p in enumerate(points) if not any(dominates(other, p) for other in points)}
    assert len(found) == len(set(found))
    costs = [points[i].cost for i in found]
    assert costs == sorted(costs)


def test_a_front_of_few_points() -> None:
    assert front([]) == []
    assert front([Point(1, 0.5)]) == [0]
    assert front([Point(2, 0.5), Point(1, 0.5), Point(1, 0.5)]) == [1, 2]


def test_every_cost_has_an_axis_title() -> None:
    assert set(COST_LABELS) == {*COSTS, "latency_ms"}
