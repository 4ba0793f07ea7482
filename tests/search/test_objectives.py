"""Objectives: every cost has an axis title."""

from search.cost import COSTS
from search.objectives import COST_LABELS


def test_every_cost_has_an_axis_title() -> None:
    assert set(COST_LABELS) == {*COSTS, "latency_ms"}
