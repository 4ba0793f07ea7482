"""A verification compares a table with networks it was not fitted on; its numbers follow their definitions."""

import json

import pytest

from search.lut.build import Effort
from search.lut.verify import accuracy, verify
from supernet.errors import UserError
from tests.helpers.latency_runtime import FakeRuntime
from tests.helpers.latency_tables import fake_table


def test_errors_are_relative_to_what_was_measured() -> None:
    result = accuracy([11.0, 18.0, 30.0], [[10.0], [19.0, 20.0, 24.0], [30.0, 30.0, 30.0]])
    assert (result.mape, result.worst, result.bias) == pytest.approx((20 / 3, 10.0, 0.0), abs=0.01)
    assert result.repeat_noise == pytest.approx((0 + 5 + 0 + 20 + 0 + 0 + 0) / 7, abs=0.01)
    assert (result.spearman, result.kendall, result.num_networks) == (1.0, 1.0, 3)


def test_correlations_are_of_ranks() -> None:
    """One of three pairs of ranks is the other way round: Kendall 1/3; Spearman 1 - 6 * 2 / (3 * 8)."""
    result = accuracy([1.0, 3.0, 2.0], [[1.0], [20.0], [300.0]])
    assert result.kendall == pytest.approx(1 / 3, abs=1e-4)
    assert result.spearman == pytest.approx(0.5)
    assert result.repeat_noise is None


def test_networks_that_all_take_the_same_have_no_ranks() -> None:
    result = accuracy([1.0, 1.0, 1.0], [[2.0], [2.0], [2.0]])
    assert (result.spearman, result.kendall) == (None, None)


def test_verifying_uses_networks_that_fitting_never_saw() -> None:
    table, runtime = fake_table(), FakeRuntime()
    result = verify(table, runtime, 30, 1, Effort(3, clock=runtime.clock), lambda *_: None)
    fitted = [network.arch.to_dict() for network in table.networks]
    archs = [row["arch"] for row in result["networks"]]
    assert len(archs) == len({json.dumps(arch) for arch in archs}) == 30
    assert not [arch for arch in archs if arch in fitted]
    agreement = result["agreement"]
    assert agreement["mape"] < 0.5
    assert agreement["spearman"] > 0.98
    assert agreement["repeat_noise"] < 0.01
    runtime.settings = type(runtime.settings)(**{**vars(runtime.settings), "device": "another processor"})
    with pytest.raises(UserError, match=r"settings\.device of the latency table is 'a processor', here it is 'another"):
        verify(table, runtime, 30, 1, Effort(3, clock=runtime.clock), lambda *_: None)
