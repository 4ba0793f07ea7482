"""A build finds the times of blocks and the overhead of networks, whatever happens in between."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from search.lut.build import build, fitting_networks
from search.lut.measure import LEAST_RUNS, MOST_RUNS
from search.lut.verify import verify
from search.lut.workloads import draw_networks, workloads
from supernet.costs.latency_table import LatencyTable
from supernet.errors import UserError
from tests.helpers.latency_runtime import MadeUpEngine, spikes
from tests.helpers.latency_tables import NUM_KEYPOINTS, OVERHEAD, SPACE, block_ms, network_ms

NETWORKS = fitting_networks(SPACE, 8, seed=0)
NUM_SUBJECTS = len(workloads(SPACE, NUM_KEYPOINTS, NETWORKS))
QUIET = Console(file=io.StringIO())


def built(engine: MadeUpEngine, path: Path, rounds: int = 3, minutes: float = 60.0) -> LatencyTable:
    return build(engine, SPACE, NUM_KEYPOINTS, NETWORKS, path, rounds, minutes, QUIET, engine.clock)


def test_a_build_finds_the_times_and_the_overhead(tmp_path: Path) -> None:
    path = tmp_path / "deeper" / "table.json"
    table = built(MadeUpEngine(), path)
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
    table = built(MadeUpEngine(disturbed=spikes(0.1, 3.0)), tmp_path / "table.json", rounds=5)
    errors = [abs(entry.p50_ms / block_ms(block) - 1) for block, entry in table.entries.items()]
    assert np.mean(np.array(errors) > 0.01) < 0.04  # P(at least 3 of 5) = 0.009
    predicted = [table.predict_ms(arch) / network_ms(arch) for arch in draw_networks(SPACE, 50, seed=5)]
    assert np.abs(np.array(predicted) - 1).mean() < 0.05


@pytest.mark.parametrize("stop_at", [0, 1, NUM_SUBJECTS - 1, NUM_SUBJECTS + 7])
def test_an_interrupted_build_goes_on_from_where_it_was(stop_at: int, tmp_path: Path) -> None:
    path, whole = tmp_path / "table.json", tmp_path / "whole.json"
    expected = built(MadeUpEngine(), whole, rounds=2)
    with pytest.raises(UserError, match=f"stopped after {stop_at} of {2 * NUM_SUBJECTS} visits; the same command"):
        built(MadeUpEngine(stop_at=stop_at), path, rounds=2)
    assert not path.exists()
    partial = tmp_path / "table.json.partial"
    with partial.open("a") as file:
        file.write('{"round": 1, "subj')  # as of a power cut
    engine = MadeUpEngine()
    table = built(engine, path, rounds=2)
    assert engine.num_opened == 2 * NUM_SUBJECTS - stop_at
    assert not partial.exists()
    for block, entry in expected.entries.items():
        assert table.entries[block].runs == entry.runs
        assert table.entries[block].p50_ms == pytest.approx(entry.p50_ms, abs=2e-5)


def test_a_build_out_of_time_still_measures_everything_once(tmp_path: Path) -> None:
    engine = MadeUpEngine()
    built(engine, tmp_path / "table.json", rounds=5, minutes=0.0)
    assert engine.num_opened == NUM_SUBJECTS


def test_a_build_never_mixes_what_was_measured_differently(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    with pytest.raises(UserError, match="stopped"):
        built(MadeUpEngine(stop_at=3), path)
    other = MadeUpEngine()
    other.settings = type(other.settings)(**{**vars(other.settings), "threads": 1})
    with pytest.raises(UserError, match=r"settings\.threads is 2 in .*partial, but 1 now; remove that file"):
        built(other, path)
    path.write_text("{}")
    with pytest.raises(UserError, match=r"table\.json exists already; remove it or choose another --output"):
        built(MadeUpEngine(), path)


def test_verifying_uses_networks_that_fitting_never_saw(tmp_path: Path) -> None:
    table, engine = built(MadeUpEngine(), tmp_path / "table.json"), MadeUpEngine()
    found = verify(table, engine, 30, 3, 1, QUIET, engine.clock)
    fitted = [each.arch.to_dict() for each in table.networks]
    archs = [row["arch"] for row in found["networks"]]
    assert len(archs) == len({json.dumps(arch) for arch in archs}) == 30
    assert not [arch for arch in archs if arch in fitted]
    agreement = found["agreement"]
    assert agreement["mape"] < 0.5
    assert agreement["spearman"] > 0.98
    assert agreement["repeat_noise"] < 0.01
    engine.settings = type(engine.settings)(**{**vars(engine.settings), "device": "another processor"})
    with pytest.raises(UserError, match=r"settings\.device of the latency table is 'a processor', here it is 'another"):
        verify(table, engine, 30, 3, 1, QUIET, engine.clock)
