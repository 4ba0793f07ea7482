"""Sorting by domination: against its definition, and on known fronts."""

import itertools
import math

import numpy as np
import pytest

from search.pareto import Point, best_first, crowding, fronts, trade_off


def dominates(first: tuple[float, ...], second: tuple[float, ...], violations: tuple[float, float]) -> bool:
    """Deb et al. 2002, definition 1 of section VI, and Pareto domination among equally feasible ones."""
    if violations[0] != violations[1]:
        return violations[0] < violations[1]
    pairs = list(zip(first, second, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def peeled(values: list[tuple[float, ...]], violation: list[float]) -> list[int]:
    """Fronts by repeatedly removing the candidates that no remaining one dominates."""
    left, front_of, front = set(range(len(values))), [-1] * len(values), 0
    while left:
        free = {
            i
            for i in left
            if not any(dominates(values[j], values[i], (violation[j], violation[i])) for j in left if j != i)
        }
        for i in free:
            front_of[i] = front
        left -= free
        front += 1
    return front_of


@pytest.mark.parametrize("num_values", [1, 2, 3])
@pytest.mark.parametrize("seed", range(8))
def test_fronts_are_what_peeling_finds(num_values: int, seed: int) -> None:
    # Few different values, so that ties in one, some and all values are common.
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 6, (40, num_values)).astype(float)
    violation = np.maximum(0, rng.integers(-3, 3, 40)).astype(float)
    expected = peeled([tuple(row) for row in values.tolist()], violation.tolist())
    assert fronts(values, violation).tolist() == expected


def test_crowding_is_the_sides_of_the_box_between_neighbours() -> None:
    # Neighbours of (2, 6): (1, 10) and (4, 3); ranges 0..10 in both values.
    values = np.array([[0, 10], [1, 10], [2, 6], [4, 3], [10, 0]], float)
    distance = crowding(values)
    assert math.isinf(distance[0])
    assert math.isinf(distance[4])
    assert distance[2] == pytest.approx((4 - 1) / 10 + (10 - 3) / 10)
    assert distance[3] == pytest.approx((10 - 2) / 10 + (6 - 0) / 10)


@pytest.mark.parametrize("seed", range(5))
def test_crowding_is_what_a_plain_loop_finds(seed: int) -> None:
    values = np.random.default_rng(seed).random((12, 3))
    expected = [0.0] * 12
    for column in range(3):
        order = sorted(range(12), key=lambda i: values[i, column])
        span = values[order[-1], column] - values[order[0], column]
        for place, i in enumerate(order):
            if place in (0, 11):
                expected[i] = math.inf
            else:
                expected[i] += (values[order[place + 1], column] - values[order[place - 1], column]) / span
    assert crowding(values) == pytest.approx(expected)


def test_the_best_come_first_front_by_front_the_lonely_before_the_crowded() -> None:
    # The line x + y = 10 is the first front, with (5, 5) crowded by (5.5, 4.5); (9, 9) lies behind.
    values = np.array([[9, 9], [0, 10], [5, 5], [5.5, 4.5], [10, 0], [2.5, 7.5]], float)
    order = best_first(values, np.zeros(6)).tolist()
    assert set(order[:2]) == {1, 4}
    assert order[-1] == 0
    inner = crowding(values[1:])
    assert order[2:5] == sorted((2, 3, 5), key=lambda i: -inner[i - 1])


def test_one_value_is_sorted_with_violations_last_and_equals_in_their_order() -> None:
    values = np.array([[3], [1], [1], [0], [2]], float)
    violation = np.array([0, 0, 0, 0.5, 0.1])
    assert best_first(values, violation).tolist() == [1, 2, 0, 4, 3]


def test_nothing_is_sorted_into_nothing() -> None:
    for num_values in (1, 2):
        assert best_first(np.zeros((0, num_values)), np.zeros(0)).tolist() == []


def test_equal_points_are_all_of_one_front() -> None:
    values = np.array(list(itertools.repeat((1.0, 2.0), 4)))
    assert fronts(values, np.zeros(4)).tolist() == [0] * 4
    assert sorted(best_first(values, np.zeros(4)).tolist()) == [0, 1, 2, 3]


def point_dominates(first: Point, second: Point) -> bool:
    at_least = first.cost <= second.cost and first.ap >= second.ap
    return at_least and (first.cost < second.cost or first.ap > second.ap)


@pytest.mark.parametrize("seed", range(20))
def test_the_front_is_what_nothing_dominates(seed: int) -> None:
    # Few different values, so that ties in cost, in AP and in both are common.
    rng = np.random.default_rng(seed)
    points = [Point(*map(float, pair)) for pair in rng.integers(0, 12, (60, 2))]
    members = trade_off(points)
    assert set(members) == {i for i, p in enumerate(points) if not any(point_dominates(other, p) for other in points)}
    assert len(members) == len(set(members))
    costs = [points[i].cost for i in members]
    assert costs == sorted(costs)


def test_a_front_of_few_points() -> None:
    assert trade_off([]) == []
    assert trade_off([Point(1, 0.5)]) == [0]
    assert trade_off([Point(2, 0.5), Point(1, 0.5), Point(1, 0.5)]) == [1, 2]
