"""Searches with Optuna's samplers on free scores: within the budget, without duplicates, with one or more workers."""

import itertools
import multiprocessing
import os
import signal
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import TrialState

from search.budget import Budget, CostModel
from search.candidate import Result, Score
from search.optuna_backend.local_study import Suggestion
from search.optuna_backend.samplers import SAMPLERS, SamplerSettings
from search.optuna_backend.search import OptunaSearch, OptunaSettings
from search.optuna_backend.shared_study import SharedStudy
from search.optuna_backend.storage import open_storage, open_study
from supernet.arch import Arch
from supernet.errors import UserError
from supernet.space import SearchSpace

FIXED = {"widths": [16], "depths": [1], "stride": 2, "expand_ratios": [3], "kernel_sizes": [3]}
SPACE = SearchSpace.from_dict(
    {
        "name": "few",
        "resolutions": [64, 96, 128],
        "stem_widths": [8, 16],
        "stages": [
            FIXED,
            FIXED | {"widths": [16, 24], "depths": [1, 2], "expand_ratios": [2, 4]},
            FIXED | {"widths": [24, 32]},
            FIXED | {"depths": [1, 2], "stride": 1, "kernel_sizes": [3, 5]},
        ],
        "deconv_widths": [[16, 24], [16], [16]],
    }
)
MODEL = CostModel(SPACE, 17)
HALF = {"macs": "50%"}
TIGHT = {"macs": "22%", "min_params": "24%"}
FORK = multiprocessing.get_context("fork")


def score(arch: Arch) -> Score:
    """A smooth function of the arch with one best arch within any budget, and almost no ties."""
    (row,) = SPACE.encode([arch])
    rng = np.random.default_rng(7)
    weights = rng.normal(size=len(row)) + 0.1 * rng.normal(size=(len(row), len(row))) @ row
    return Score(10, {"AP": float(0.3 + 0.01 * (weights @ row))})


def make(
    storage: BaseStorage | None = None,
    num: int = 30,
    constraint: Mapping[str, Any] = HALF,
    sampler: str = "tpe",
    startup: int = 8,
    objectives: tuple[str, ...] = ("ap",),
    seed: int = 0,
) -> OptunaSearch:
    storage = storage or InMemoryStorage()
    shared = SharedStudy(open_study(storage, "search", objectives, {"the space": "few"}, "memory"), storage, 60)
    settings = OptunaSettings(num, SamplerSettings(sampler, startup), objectives)
    return OptunaSearch(Budget.from_mapping(constraint, MODEL), settings, seed, shared)


class Recorder:
    """Scores archs and records them."""

    def __init__(self, score: Callable[[Arch], Score] = score) -> None:
        self.archs: list[Arch] = []
        self._score = score

    def __call__(self, arch: Arch) -> Score:
        self.archs.append(arch)
        return self._score(arch)


def sequence(result: Result) -> list[str]:
    return [candidate.arch.digest() for candidate in result.archive]


def trials(search: OptunaSearch) -> list[optuna.trial.FrozenTrial]:
    return search.shared.study.get_trials(deepcopy=False)


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "gp"])
@pytest.mark.parametrize("constraint", [HALF, TIGHT, {}])
def test_every_arch_is_new_within_the_budget_and_counts(sampler: str, constraint: dict[str, Any]) -> None:
    search, recorder = make(constraint=constraint, sampler=sampler), Recorder()
    result = search.run(recorder)
    assert len(recorder.archs) == len(set(recorder.archs)) == 30
    assert all(search.budget.fits_arch(arch) for arch in recorder.archs)
    assert [candidate.arch for candidate in result.archive] == recorder.archs
    assert [candidate.order for candidate in result.archive] == list(range(30))
    assert result.best.ap == max(score(arch).ap for arch in recorder.archs)
    assert result.front == (result.best,)
    assert result.best.costs == MODEL.of(result.best.arch)


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "gp"])
def test_equal_seeds_give_equal_searches(sampler: str) -> None:
    first, again, other = (sequence(make(sampler=sampler, seed=seed).run(score)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.slow
def test_gaussian_processes_do_as_the_others() -> None:
    recorders = [Recorder(), Recorder()]
    for recorder in recorders:
        search = make(num=14, sampler="gp")
        search.run(recorder)
        assert len(set(recorder.archs)) == 14
        assert all(search.budget.fits_arch(arch) for arch in recorder.archs)
    assert recorders[0].archs == recorders[1].archs


def test_what_breaks_the_budget_is_pruned_with_its_constraints_and_never_scored() -> None:
    search, recorder = make(constraint=TIGHT), Recorder()
    search.run(recorder)
    pruned = [trial for trial in trials(search) if trial.state == TrialState.PRUNED]
    assert pruned
    for trial in pruned:
        (arch,) = SPACE.decode(search._local.row(trial)[None])
        costs = MODEL.of(arch)
        bounds = search.budget.to_dict()
        excess = {
            "macs": costs["macs"] / bounds["macs"] - 1,
            "min_params": 1 - costs["params"] / bounds["min_params"],
        }
        assert trial.constraints == pytest.approx(excess)
        assert max(excess.values()) > 0
        assert trial.values is None
        assert arch not in recorder.archs
    feasible = [trial for trial in trials(search) if trial.state == TrialState.COMPLETE]
    assert all(max(trial.constraints.values()) <= 0 for trial in feasible)
    assert search.shared.study.best_trial.value == max(score(arch).ap for arch in recorder.archs)


def test_parameters_are_values_by_name_and_blocks_past_the_depth_have_none() -> None:
    search = make()
    result = search.run(score)
    scored = [trial for trial in trials(search) if trial.state == TrialState.COMPLETE]
    for trial, candidate in zip(scored, result.archive, strict=True):
        arch = candidate.arch
        assert trial.params["resolution"] == arch.resolution
        assert trial.params["stage 1: depth"] == arch.stages[1].depth
        ratios = [trial.params.get(f"stage 1, block {i}: expand ratio") for i in range(2)]
        assert [ratio for ratio in ratios if ratio is not None] == list(arch.stages[1].expand_ratios)
        assert "stage 0: width" not in trial.params  # it has one value only
    assert {candidate.arch.stages[1].depth for candidate in result.archive} == {1, 2}


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_with_costs_as_objectives_the_front_is_what_nothing_dominates(sampler: str) -> None:
    search = make(sampler=sampler, objectives=("ap", "macs"))
    result = search.run(score)
    points = [(candidate.ap, -candidate.costs["macs"]) for candidate in result.archive]
    front = [p for p in points if not any(q != p and q[0] >= p[0] and q[1] >= p[1] for q in points)]
    assert sorted((candidate.ap, -candidate.costs["macs"]) for candidate in result.front) == sorted(front)
    assert result.best.ap == max(points)[0]
    assert {trial.number for trial in search.shared.study.best_trials} == {
        trial.number for trial in trials(search) if trial.values and (trial.values[0], -trial.values[1]) in front
    }


def every_row() -> np.ndarray[Any, Any]:
    rows = np.array(list(itertools.product(*map(range, SPACE.layout.num_choices.tolist()))), np.int16)
    unique: np.ndarray[Any, Any] = np.unique(SPACE.layout.checked(rows), axis=0)
    return unique


def test_where_there_are_fewer_archs_than_wanted_all_are_scored() -> None:
    rows = every_row()
    macs = MODEL(rows)["macs"]
    limit = int(np.sort(macs)[19])
    result = make(constraint={"macs": limit}, startup=3).run(score)
    assert {candidate.arch for candidate in result.archive} == set(SPACE.decode(rows[macs <= limit]))
    assert len(result.archive) < 30


def test_without_any_arch_within_the_budget_one_sentence_says_so() -> None:
    with pytest.raises(UserError, match="no arch of space few within the budget was found"):
        make(constraint={"macs": 1000}).run(score)


def test_scores_that_are_no_numbers_are_an_error() -> None:
    with pytest.raises(ValueError, match="finite number, got nan"):
        make().run(lambda arch: Score(1, {"AP": float("nan")}))


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random"])
@pytest.mark.parametrize("stop_after", [1, 7, 20])
def test_a_stopped_search_goes_on_without_proposing_anything_again(
    tmp_path: Path, sampler: str, stop_after: int
) -> None:
    recorder = Recorder()

    def stopping(arch: Arch) -> Score:
        if len(recorder.archs) == stop_after:
            raise KeyboardInterrupt
        return recorder(arch)

    with pytest.raises(KeyboardInterrupt):
        make(open_storage(tmp_path / "journal"), sampler=sampler).run(stopping)
    before = list(recorder.archs)
    result = make(open_storage(tmp_path / "journal"), sampler=sampler).run(recorder)
    assert recorder.archs[:stop_after] == before
    assert len(set(recorder.archs)) == len(recorder.archs) == 30
    assert [candidate.arch for candidate in result.archive] == recorder.archs
    states = Counter(trial.state for trial in make(open_storage(tmp_path / "journal")).shared.trials())
    assert states[TrialState.FAIL] == 1
    assert states[TrialState.RUNNING] == 0


def work(storage: str, folder: Path, name: str, num: int, kill_at: int | None = None, wait_for: str = "") -> None:
    """A worker process that records each evaluation as an empty file.

    It may be killed during one, or wait in its third until another worker has left a file, so that both work however
    slow one of them is.
    """
    warnings.simplefilter("ignore")
    count = 0

    def slow(arch: Arch) -> Score:
        nonlocal count
        (folder / f"{arch.digest()}.{name}.{count}").touch()
        if count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1
        deadline = time.monotonic() + 200
        while count == 3 and wait_for and not list(folder.glob(wait_for)) and time.monotonic() < deadline:
            time.sleep(0.01)
        return score(arch)

    make(open_storage(storage), num, seed=3).run(slow)


def evaluations(folder: Path) -> Counter[str]:
    """Return how often the evaluation of each arch was started, by digest."""
    return Counter(path.name.split(".")[0] for path in folder.iterdir())


def test_two_workers_share_the_work_and_a_killed_ones_trial_is_retried(tmp_path: Path) -> None:
    check_two_workers(str(tmp_path / "study.journal"), tmp_path)


def check_two_workers(storage: str, folder: Path) -> None:
    """Run two workers, one of which is killed in an evaluation: all is evaluated, and only that arch twice."""
    records = folder / "records"
    records.mkdir()
    workers = [
        FORK.Process(target=work, args=(storage, records, "killed", 24, 4)),
        FORK.Process(target=work, args=(storage, records, "other", 24, None, "*.killed.4")),
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(200)
    assert [worker.exitcode for worker in workers] == [-signal.SIGKILL, 0]
    archive = make(open_storage(storage), 24).run(score).archive
    assert len(archive) == 24
    counts = evaluations(records)
    assert set(counts) == {candidate.arch.digest() for candidate in archive}
    assert sorted(counts.values()) == [1] * 23 + [2]
    killed = [path.name.split(".")[0] for path in records.iterdir() if path.name.endswith("killed.4")]
    assert counts[killed[0]] == 2


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_many_workers_evaluate_fifty_archs_each_and_none_twice(count: int, tmp_path: Path) -> None:
    storage, records = str(tmp_path / "study.journal"), tmp_path / "records"
    records.mkdir()
    workers = [FORK.Process(target=work, args=(storage, records, f"worker{i}", 50 * count)) for i in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(500)
    assert [worker.exitcode for worker in workers] == [0] * count
    counts = evaluations(records)
    assert len(counts) == 50 * count
    assert set(counts.values()) == {1}
    scored = [trial for trial in trials(make(open_storage(storage))) if trial.state == TrialState.COMPLETE]
    assert len({trial.number for trial in scored}) == 50 * count


def test_a_neighbour_takes_the_place_of_what_was_scored_before(monkeypatch: pytest.MonkeyPatch) -> None:
    search = make(num=20, startup=2)
    first = search.run(score).archive
    known = search._local.row(trials(search)[0])
    suggestion = Suggestion(known, {})
    monkeypatch.setattr(search._local, "ask", lambda: suggestion)
    proposal = search._propose(search.shared.trials())
    assert proposal is not None
    assert proposal.origin == "neighbour"
    assert SPACE.decode(proposal.row[None])[0] not in {candidate.arch for candidate in first}
    assert 1 <= (proposal.row != known).sum() <= 5
