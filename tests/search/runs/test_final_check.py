"""The choice among the finalists, and the measurement of their latency."""

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from search.budget import Budget, CostModel
from search.candidate import Candidate, Score
from search.lut.libraries import LibraryError
from search.lut.runtimes import open_runtime
from search.runs import finish, measured_latency
from search.runs.final_check import MEASURED, FinalCheck, choose, is_within, with_latencies
from search.runs.measured_latency import measured_ms
from search.runs.results import save_archs
from supernet.arch import Arch
from supernet.costs.latency_table import LatencyTable, MeasurementSettings, Overhead
from supernet.errors import UserError
from supernet.genes import Genes
from supernet.space import SearchSpace

SPACE = SearchSpace.load("nano")
ARCHS = [SPACE.sample(np.random.default_rng(seed)) for seed in range(4)]


@dataclass(frozen=True)
class TenMilliseconds:
    """A latency table that predicts 10 ms for every arch."""

    def check(self, space: SearchSpace, num_keypoints: int) -> None: ...

    def latency_ms(self, space: SearchSpace, genes: Genes) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.full(len(genes), 10.0)


MODEL = CostModel(SPACE, 17, TenMilliseconds())


def finalists(*aps: float) -> list[Candidate]:
    return [
        Candidate(arch, order, 0, "random", MODEL.of(arch), None, (Score(50, {"AP": ap}),))
        for order, (arch, ap) in enumerate(zip(ARCHS, aps, strict=False))
    ]


def orders(candidates: list[Candidate]) -> list[int]:
    return [candidate.order for candidate in candidates]


def test_the_highest_ap_is_chosen_and_the_first_of_equals() -> None:
    assert orders(choose(finalists(0.3, 0.5, 0.5, 0.1), ["ap"], Budget.from_mapping({}, MODEL))) == [1, 2, 0, 3]


@pytest.mark.parametrize("model", [CostModel(SPACE, 17), MODEL])
def test_the_table_shows_latencies_where_they_are_predicted(model: CostModel) -> None:
    score = Score(50, {"AP": 0.3})
    check = FinalCheck(tuple(finalists(0.3)), score, ((ARCHS[1], score), (ARCHS[2], score)), 2)
    problem: Any = SimpleNamespace(test=SimpleNamespace(images=range(50)), model=model)
    columns = {str(column.header): list(column.cells) for column in finish._table(check, problem).columns}
    assert list(columns["subnet"]) == ["chosen", "best random", "mean random"]
    assert columns.get("predicted ms") == (["10.00"] * 3 if model is MODEL else None)


def test_a_finalist_that_is_measured_slower_than_allowed_comes_after_those_that_are_not() -> None:
    budget = Budget.from_mapping({"latency": "11ms"}, MODEL)
    assert orders(choose(finalists(0.3, 0.5, 0.4, 0.1), ["ap"], budget)) == [1, 2, 0, 3]
    measured = with_latencies(finalists(0.3, 0.5, 0.4, 0.1), [10.5, 12.0, 11.5, 9.0])
    ranked = choose(measured, ["ap"], budget)
    assert orders(ranked) == [0, 3, 2, 1]
    assert [candidate.costs[MEASURED] for candidate in ranked] == [10.5, 9.0, 11.5, 12.0]
    assert {candidate.costs["latency_ms"] for candidate in ranked} == {10.0}
    assert [is_within(candidate, budget) for candidate in ranked] == [True, True, False, False]
    assert all(is_within(candidate, budget) for candidate in finalists(0.3, 0.5))


def test_the_folder_of_the_front_holds_the_archs_of_the_last_one_only(tmp_path: Path) -> None:
    first, second = finalists(0.3, 0.5, 0.4)[:2], finalists(0.3, 0.5, 0.4)[1:]
    for front in (first, second):
        save_archs(tmp_path, front, {}, write_front=True)
        assert {path.stem for path in (tmp_path / "front").iterdir()} == {one.arch.digest() for one in front}


def test_dominated_trade_offs_are_left_out() -> None:
    by_cost = sorted(finalists(0, 0, 0, 0), key=lambda candidate: candidate.costs["macs"])
    aps = (0.1, 0.3, 0.2, 0.5)
    ranked = [
        Candidate(candidate.arch, i, 0, "random", candidate.costs, None, (Score(50, {"AP": ap}),))
        for i, (candidate, ap) in enumerate(zip(by_cost, aps, strict=True))
    ]
    assert orders(choose(ranked, ["ap", "macs"], Budget.from_mapping({}, MODEL))) == [3, 1, 0]


def table(settings: MeasurementSettings) -> LatencyTable:
    return LatencyTable(settings, SPACE, 17, Overhead(0.1, 0.0, 1.0, 1.0), (), {})


def test_latencies_are_measured_as_the_table_was_and_more_work_takes_longer() -> None:
    threads = torch.get_num_threads()
    runtime = open_runtime("torch", "f32", 1, 1, 17, torch.device("cpu"))
    shown: list[tuple[int, int]] = []
    archs = [SPACE.smallest(), SPACE.largest()]
    small, large = measured_ms(table(runtime.settings), archs, lambda done, total: shown.append((done, total)))
    assert 0 < small < large < 10_000
    assert shown[-1] == (30, 30)
    assert torch.get_num_threads() == threads


def test_a_network_that_the_library_cannot_run_is_a_user_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(arch: Arch) -> None:
        raise LibraryError("ncnn 1.0 cannot open a graph; install a newer version")

    settings = MeasurementSettings("ncnn", "1.0", "a phone", "", 1, "f32", 1)
    monkeypatch.setattr(measured_latency, "runtime_of", lambda table: SimpleNamespace(settings=settings, open=refuse))
    with pytest.raises(UserError, match="cannot open a graph"):
        measured_ms(table(settings), ARCHS[:1], lambda done, total: None)


def test_a_table_of_another_device_is_not_measured_here() -> None:
    settings = MeasurementSettings("torch", torch.__version__, "a phone", "", 1, "f32", 1)
    with pytest.raises(UserError, match=r"device .*'a phone'"):
        measured_ms(table(settings), ARCHS[:1], lambda done, total: None)
