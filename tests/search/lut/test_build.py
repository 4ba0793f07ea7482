"""A build measures the latencies of blocks and the overhead of networks, despite disturbances and interruptions."""

import resource
from pathlib import Path

import numpy as np
import pytest

from search.lut.build import Effort, build
from search.lut.libraries import LibraryError
from search.lut.measure import LEAST_RUNS, MOST_RUNS, Run
from search.lut.workloads import MeasurementPlan, draw_networks, fitting_networks
from supernet.costs.latency_table import LatencyTable
from supernet.errors import UserError
from tests.helpers.latency_runtime import FakeRuntime, spikes
from tests.helpers.latency_tables import NUM_KEYPOINTS, OVERHEAD, SPACE, block_ms, network_ms

PLAN = MeasurementPlan(SPACE, NUM_KEYPOINTS, fitting_networks(SPACE, 8, seed=0))
NUM_WORKLOADS = len(PLAN.workloads())


def built(runtime: FakeRuntime, path: Path, rounds: int = 3, minutes: float = 60.0) -> LatencyTable:
    return build(runtime, PLAN, path, Effort(rounds, minutes, runtime.clock), lambda *_: None)


def test_a_build_finds_the_times_and_the_overhead(tmp_path: Path) -> None:
    path = tmp_path / "deeper" / "table.json"
    table = built(FakeRuntime(), path)
    for block, entry in table.entries.items():
        assert (entry.p50_ms, entry.p90_ms) == pytest.approx((block_ms(block),) * 2, abs=1e-5)
        assert 3 * LEAST_RUNS <= entry.runs <= 3 * MOST_RUNS
    assert table.overhead.call_ms == pytest.approx(OVERHEAD.call_ms)
    for arch in draw_networks(SPACE, 50, seed=5):
        assert table.predict_ms(arch) == pytest.approx(network_ms(arch), rel=0.01)
    assert LatencyTable.load(path).to_dict() == table.to_dict()
    assert list(path.parent.iterdir()) == [path]
    assert len(path.read_text().splitlines()) < len(table.entries) + 150  # a block a line, to be read and compared


def test_disturbances_hardly_change_a_table(tmp_path: Path) -> None:
    """A tenth of all visits takes three times as long; the median of five rounds does not follow them."""
    table = built(FakeRuntime(disturbed=spikes(0.1, 3.0)), tmp_path / "table.json", rounds=5)
    errors = [abs(entry.p50_ms / block_ms(block) - 1) for block, entry in table.entries.items()]
    assert np.mean(np.array(errors) > 0.01) < 0.04  # P(at least 3 of 5) = 0.009
    predicted = [table.predict_ms(arch) / network_ms(arch) for arch in draw_networks(SPACE, 50, seed=5)]
    assert np.abs(np.array(predicted) - 1).mean() < 0.05


def test_a_graph_that_the_library_refuses_is_a_user_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Run:
        raise LibraryError("this version cannot open a graph; install a newer one")

    monkeypatch.setattr(FakeRuntime, "open", refuse)
    with pytest.raises(UserError, match="cannot open a graph"):
        built(FakeRuntime(), tmp_path / "table.json")


@pytest.mark.parametrize("stop_at", [0, 1, NUM_WORKLOADS - 1, NUM_WORKLOADS + 7])
def test_an_interrupted_build_goes_on_from_where_it_was(stop_at: int, tmp_path: Path) -> None:
    path, whole = tmp_path / "table.json", tmp_path / "whole.json"
    expected = built(FakeRuntime(), whole, rounds=2)
    with pytest.raises(UserError, match=f"stopped after {stop_at} of {2 * NUM_WORKLOADS} visits"):
        built(FakeRuntime(stop_at=stop_at), path, rounds=2)
    assert not path.exists()
    partial = tmp_path / "table.json.partial"
    with partial.open("a") as file:
        file.write('{"round": 1, "subj')  # as of a power cut
    runtime = FakeRuntime()
    table = built(runtime, path, rounds=2)
    assert runtime.num_opened == 2 * NUM_WORKLOADS - stop_at
    assert not partial.exists()
    for block, entry in expected.entries.items():
        assert table.entries[block].runs == entry.runs
        assert table.entries[block].p50_ms == pytest.approx(entry.p50_ms, abs=2e-5)


def test_a_build_on_a_full_disk_is_a_user_error_and_goes_on_later(tmp_path: Path) -> None:
    path, limits = tmp_path / "table.json", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))  # the header takes less, all visits more
    try:
        with pytest.raises(UserError, match=r"cannot write .*table\.json\.partial"):
            built(FakeRuntime(), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    runtime = FakeRuntime()
    built(runtime, path)
    assert 0 < runtime.num_opened < 3 * NUM_WORKLOADS


def test_a_build_out_of_time_still_measures_everything_once(tmp_path: Path) -> None:
    runtime = FakeRuntime()
    built(runtime, tmp_path / "table.json", rounds=5, minutes=0.0)
    assert runtime.num_opened == NUM_WORKLOADS


def test_a_build_never_mixes_what_was_measured_differently(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    with pytest.raises(UserError, match="stopped"):
        built(FakeRuntime(stop_at=3), path)
    other = FakeRuntime()
    other.settings = type(other.settings)(**{**vars(other.settings), "threads": 1})
    with pytest.raises(UserError, match=r"settings\.threads is 2 in .*partial, but 1 now"):
        built(other, path)
    path.write_text("{}")
    with pytest.raises(UserError, match=r"table\.json exists already"):
        built(FakeRuntime(), path)


def test_progress_counts_the_visits_of_earlier_runs(tmp_path: Path) -> None:
    path, calls = tmp_path / "table.json", list[tuple[int, int]]()
    with pytest.raises(UserError, match="stopped"):
        built(FakeRuntime(stop_at=NUM_WORKLOADS + 1), path)
    runtime = FakeRuntime()
    build(runtime, PLAN, path, Effort(3, 60.0, runtime.clock), lambda done, total, _: calls.append((done, total)))
    assert calls == [(done, 3 * NUM_WORKLOADS) for done in range(NUM_WORKLOADS + 1, 3 * NUM_WORKLOADS + 1)]
