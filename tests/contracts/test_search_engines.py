"""The contract of all search engines, on a problem so small that the best arch is known.

To test another engine, add it to ``ENGINES``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from search.budget import Budget, CostModel
from search.candidate import Score
from search.evolution.engine import Evolution
from search.evolution.settings import EvolutionSettings
from search.optuna_backend.samplers import SAMPLERS, SamplerSettings
from search.optuna_backend.search import OptunaSearch, OptunaSettings
from search.optuna_backend.shared_study import SharedStudy
from search.optuna_backend.storage import open_storage, open_study
from search.runs.resume import SearchLog, load_scored, load_state
from supernet.arch import Arch
from supernet.space import SearchSpace, StageChoices

FIXED = StageChoices((24,), (1,), 2, (3,), (3,))
SPACE = SearchSpace(
    "tiny",
    (64, 96),
    (8, 16),
    (FIXED, StageChoices((16, 24), (1, 2), 2, (3,), (3, 5)), FIXED, StageChoices((24, 32), (1,), 1, (3, 6), (3,))),
    ((16, 24), (16,), (16, 24)),
)
"""768 archs."""
MODEL = CostModel(SPACE, 17)
BUDGET = Budget.from_mapping({"macs": "60%", "min_params": "40%"}, MODEL)
ScoreFunction = Callable[[Arch], float]


@dataclass(frozen=True)
class Engine:
    """A search engine under test.

    Attributes:
        search: Called with the score function, the number of evaluations, the seed and a folder; scores archs of
            ``SPACE`` within ``BUDGET`` and returns the best. An exception of ``score`` ends it; another call with the
            same arguments continues it.
        resumes_exactly: Whether a stopped search continues with the archs that it would have scored.
        learns: Whether proposals depend on earlier scores.
    """

    name: str
    search: Callable[[ScoreFunction, int, int, Path], Arch]
    resumes_exactly: bool
    learns: bool = True


def evolution(score: ScoreFunction, num_evaluations: int, seed: int, folder: Path) -> Arch:
    search = Evolution(BUDGET, EvolutionSettings(8, num_evaluations), np.random.default_rng(seed))
    log = SearchLog(folder, {}, {})
    if (folder / "state.json").exists():
        search.restore(load_state(folder).state, load_scored(folder))
    while tasks := search.ask():
        log.save_state(search.state())
        for task in tasks:
            log.add(search.tell(task.candidate.order, Score(1, {"AP": score(task.candidate.arch)})), 0.0)
    return search.result().best.arch


def optuna_search(sampler: str, score: ScoreFunction, num_evaluations: int, seed: int, folder: Path) -> Arch:
    storage = open_storage(folder / "study.journal")
    shared = SharedStudy(open_study(storage, "search", ("ap",), {}, "the journal"), storage, 60)
    settings = OptunaSettings(num_evaluations, SamplerSettings(sampler))
    search = OptunaSearch(BUDGET, settings, seed, shared)
    return search.run(lambda arch: Score(1, {"AP": score(arch)})).best.arch


ENGINES = [
    Engine("evolution", evolution, resumes_exactly=True),
    *(Engine(name, partial(optuna_search, name), resumes_exactly=False, learns=name != "random") for name in SAMPLERS),
]
SLOW = ("gp",)


@pytest.fixture(
    params=[
        pytest.param(engine, id=engine.name, marks=[pytest.mark.slow] if engine.name in SLOW else [])
        for engine in ENGINES
    ]
)
def engine(request: pytest.FixtureRequest) -> Engine:
    assert isinstance(request.param, Engine)
    return request.param


def value(arch: Arch) -> float:
    """A score that rises with resolution most, then with the parameters and the width of the last deconvolution."""
    costs = MODEL.of(arch)
    return 3.0 * (arch.resolution == 96) + costs["params"] / 1e5 + 0.1 * arch.deconv_widths[2]


def best_value() -> float:
    genes = SPACE.layout.checked(
        np.stack([grid.ravel() for grid in np.meshgrid(*map(np.arange, SPACE.layout.num_choices), indexing="ij")], 1)
    )
    archs = SPACE.decode(np.unique(genes, axis=0))
    assert len(archs) == SPACE.count()
    return max(value(arch) for arch in archs if BUDGET.fits_arch(arch))


class Recorder:
    """Scores archs, records them, and raises instead of scoring number ``stop_at``."""

    def __init__(self, stop_at: int = -1) -> None:
        self.archs: list[Arch] = []
        self.stop_at = stop_at

    def __call__(self, arch: Arch) -> float:
        if len(self.archs) == self.stop_at:
            raise KeyboardInterrupt
        self.archs.append(arch)
        return value(arch)


def test_it_finds_the_best_arch_within_the_budget(engine: Engine, tmp_path: Path) -> None:
    if not engine.learns:
        pytest.skip("random search finds the best arch only by chance")
    best = engine.search(value, 120, 0, tmp_path)
    assert value(best) == best_value()


def test_it_scores_only_archs_within_the_budget_each_once(engine: Engine, tmp_path: Path) -> None:
    recorder = Recorder()
    best = engine.search(recorder, 30, 0, tmp_path)
    assert len(recorder.archs) == len(set(recorder.archs)) == 30
    assert all(arch in SPACE and BUDGET.fits_arch(arch) for arch in recorder.archs)
    assert value(best) == max(map(value, recorder.archs))


def test_equal_seeds_score_equal_archs(engine: Engine, tmp_path: Path) -> None:
    recorders = [Recorder(), Recorder(), Recorder()]
    for i, (recorder, seed) in enumerate(zip(recorders, (3, 3, 4), strict=True)):
        (tmp_path / str(i)).mkdir()
        engine.search(recorder, 24, seed, tmp_path / str(i))
    first, again, other = (recorder.archs for recorder in recorders)
    assert first == again
    assert first != other


@pytest.mark.parametrize("stop_at", [1, 7, 8, 20])
def test_a_stopped_search_continues_and_scores_nothing_twice(engine: Engine, tmp_path: Path, stop_at: int) -> None:
    whole, stopped, rest = Recorder(), Recorder(stop_at), Recorder()
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    with pytest.raises(KeyboardInterrupt):
        engine.search(stopped, 24, 5, tmp_path / "stopped")
    best = engine.search(rest, 24, 5, tmp_path / "stopped")
    archs = stopped.archs + rest.archs
    assert len(archs) == len(set(archs)) == 24
    assert value(best) == max(map(value, archs))
    if engine.resumes_exactly:
        assert best == engine.search(whole, 24, 5, tmp_path / "whole")
        assert archs == whole.archs
