"""Objectives: every cost has an axis title, and latency needs its table."""

import pytest

from search.cost import COSTS
from search.objectives import COST_LABELS, check_known
from supernet.errors import UserError


def test_every_cost_has_an_axis_title() -> None:
    assert set(COST_LABELS) == {*COSTS, "latency_ms"}


def test_latency_as_an_objective_asks_for_its_table() -> None:
    with pytest.raises(UserError, match=r"objective latency_ms needs a latency table.*latency_table=FILE"):
        check_known(["ap", "latency_ms"], COSTS)
    with pytest.raises(UserError, match=r"no objective latency; choose among ap, .*latency_ms"):
        check_known(["ap", "latency"], [*COSTS, "latency_ms"])
