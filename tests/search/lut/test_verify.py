"""A verification compares a table with networks it was not fitted on; its numbers follow their definitions."""

import json
from dataclasses import replace

import pytest

from search.lut.build import Effort
from search.lut.verify import accuracy, references_of, verify
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


def test_a_stopped_verification_promises_nothing_because_it_keeps_nothing() -> None:
    """A UserError would say how to go on; Ctrl-C where there is nothing to save ends a command with status 130."""
    runtime = FakeRuntime(stop_at=3)
    with pytest.raises(KeyboardInterrupt):
        verify(fake_table(), runtime, 5, 1, Effort(3, clock=runtime.clock), lambda *_: None)


def test_a_machine_that_became_slower_is_distinguished_from_a_wrong_table() -> None:
    table, runtime = fake_table(), FakeRuntime()
    usual = verify(table, runtime, 10, 1, Effort(3, clock=runtime.clock), lambda *_: None)
    assert usual["machine_change"] == pytest.approx(1, abs=0.01)
    slower = FakeRuntime(lambda _: 1.25)
    result = verify(table, slower, 10, 1, Effort(3, clock=slower.clock), lambda *_: None)
    assert result["machine_change"] == pytest.approx(1.25, rel=0.01)
    assert result["agreement"]["bias"] == pytest.approx(-20, abs=0.5)
    assert result["agreement_at_this_speed"]["mape"] == pytest.approx(usual["agreement"]["mape"], abs=0.2)
    assert len(result["networks"]) == 10


def test_a_table_without_networks_has_nothing_to_compare_the_machine_with() -> None:
    table, runtime = replace(fake_table(), networks=()), FakeRuntime()
    result = verify(table, runtime, 3, 1, Effort(1, clock=runtime.clock), lambda *_: None)
    assert (result["machine_change"], result["agreement_at_this_speed"]) == (None, None)


def test_references_spread_over_the_latencies_of_a_table() -> None:
    table = fake_table()
    found = references_of(table)
    latencies = sorted(network.entry.p50_ms for network in table.networks)
    assert len(found) == min(10, len(latencies))
    assert (found[0].entry.p50_ms, found[-1].entry.p50_ms) == (latencies[0], latencies[-1])
