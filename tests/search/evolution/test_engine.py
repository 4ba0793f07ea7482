"""Evolutionary search on free scores: it finds the best archs within the budget and scores no arch twice."""

import itertools
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from search.budget import Budget, CostModel
from search.candidate import Candidate, Result, Score, from_rows
from search.evolution.engine import Evolution, Task, evolve
from search.evolution.offspring import draw_fitting
from search.evolution.settings import EvolutionSettings, OffspringSettings
from supernet.arch import Arch
from supernet.errors import UserError
from supernet.genes import Genes
from supernet.space import SearchSpace, StageChoices
from tests.helpers.spaces import FIXED_STAGES as TINY

ELASTIC = StageChoices((16, 24, 32), (1, 2), 2, (3, 4, 6), (3, 5, 7))
MEDIUM = SearchSpace(
    "medium",
    (128, 144, 160),
    (8, 16),
    (
        StageChoices((8, 16), (1, 2), 2, (2, 3, 4), (3, 5)),
        ELASTIC,
        replace(ELASTIC, widths=(24, 32, 48), depths=(1, 2, 3)),
        replace(ELASTIC, widths=(40, 56, 64), depths=(1, 2, 3), stride=1),
    ),
    ((16, 24, 32), (16, 24), (16, 24)),
)
MODELS = {space.name: CostModel(space, 17) for space in (MEDIUM, TINY, SearchSpace.load("litepose"))}
Value = Callable[[Arch], float]


def params(arch: Arch) -> float:
    return MODELS["medium"].of(arch)["params"]


def hashed(arch: Arch) -> float:
    """A pseudo-random score."""
    return int(arch.digest(), 16) / 16**12


def distance(first: Arch, second: Arch) -> int:
    """Return the number of values in which two archs differ, missing blocks included."""

    def values(arch: Arch) -> dict[Any, int]:
        by_place: dict[Any, int] = dict(enumerate((arch.resolution, arch.stem_width, *arch.deconv_widths)))
        for i, stage in enumerate(arch.stages):
            by_place |= {(i, "width"): stage.width}
            by_place |= {(i, j, k): value for j, block in enumerate(stage.blocks()) for k, value in enumerate(block)}
        return by_place

    a, b = values(first), values(second)
    return sum(a.get(key) != b.get(key) for key in a.keys() | b.keys())


def within(space: SearchSpace, slack: float) -> Budget:
    """Return a budget of ``slack`` times the MACs of the smallest arch."""
    model = MODELS[space.name]
    return Budget.from_mapping({"macs": int(slack * model.of(space.smallest())["macs"])}, model)


def new_search(
    space: SearchSpace, settings: EvolutionSettings, seed: int = 0, budget: Budget | None = None
) -> Evolution:
    budget = budget or Budget.from_mapping({}, MODELS[space.name])
    return Evolution(budget, settings, np.random.default_rng(seed))


def scorer(value: Value, seen: list[tuple[Arch, int]] | None = None) -> Callable[[Sequence[Task]], list[Score]]:
    def score(tasks: Sequence[Task]) -> list[Score]:
        if seen is not None:
            seen.extend((task.candidate.arch, task.num_images) for task in tasks)
        return [Score(task.num_images, {"AP": value(task.candidate.arch)}) for task in tasks]

    return score


def run(
    space: SearchSpace = MEDIUM,
    value: Value = params,
    budget: Budget | None = None,
    settings: EvolutionSettings = EvolutionSettings(20, 300),  # noqa: B008 - a frozen value
    seed: int = 0,
) -> Result:
    return evolve(new_search(space, settings, seed, budget), scorer(value))


@pytest.mark.parametrize("seed", range(2))
def test_it_comes_near_a_hidden_target(seed: int) -> None:
    target = MEDIUM.sample(np.random.default_rng(100 + seed))
    result = run(value=lambda arch: -distance(arch, target), seed=seed)
    rng = np.random.default_rng(seed)
    best_random = max(-distance(MEDIUM.sample(rng), target) for _ in range(2000))
    assert result.best.ap > best_random
    assert result.best.ap >= -3


def test_under_a_budget_it_beats_ten_times_as_many_random_draws() -> None:
    budget, rng = within(MEDIUM, 2.5), np.random.default_rng(0)
    result = run(budget=budget, settings=EvolutionSettings(20, 200))
    random, _ = draw_fitting(budget, rng, 10 * len(result.archive), 100_000)
    assert len(random) == 10 * len(result.archive)
    assert result.best.ap > max(map(params, random))


def test_only_new_archs_within_space_and_budget_are_scored() -> None:
    budget, seen = within(MEDIUM, 1.5), []  # type: ignore[var-annotated]
    result = evolve(new_search(MEDIUM, EvolutionSettings(20, 110), 0, budget), scorer(params, seen), 7)
    scored = [arch for arch, _ in seen]
    assert len(scored) == len(set(scored)) == 110
    assert all(arch in MEDIUM and budget.fits_arch(arch) for arch in scored)
    assert [candidate.arch for candidate in result.archive] == scored
    assert [candidate.order for candidate in result.archive] == list(range(110))
    assert Counter(candidate.generation for candidate in result.archive) == {0: 20, 1: 20, 2: 20, 3: 20, 4: 20, 5: 10}
    assert result.best == max(result.archive, key=lambda candidate: candidate.ap)
    assert result.front == (result.best,)


def test_equal_seeds_give_equal_searches() -> None:
    settings = EvolutionSettings(8, 32)
    assert run(settings=settings, seed=1) == run(settings=settings, seed=1)
    assert run(settings=settings, seed=1).archive[0] != run(settings=settings, seed=2).archive[0]


def test_how_many_are_scored_at_once_changes_nothing() -> None:
    settings = EvolutionSettings(8, 30, num_images=(5, 10))
    single, batches = (evolve(new_search(MEDIUM, settings), scorer(hashed), size) for size in (1, 5))
    assert single == batches


def test_parents_are_the_best_of_all_generations() -> None:
    # With crossover alone and two parents, every value of a child is that of one of the two best archs so far.
    settings = EvolutionSettings(8, 48, 0.25, OffspringSettings(mutation_share=0.0))
    result = run(settings=settings, value=hashed)
    crossed = [candidate for candidate in result.archive if candidate.origin == "crossover"]
    assert {child.generation for child in crossed} >= {1, 2, 3}
    for child in crossed:
        before = [candidate for candidate in result.archive if candidate.generation < child.generation]
        parents = [parent.arch for parent in sorted(before, key=lambda candidate: -candidate.ap)[:2]]
        for place in ("resolution", "stem_width"):
            assert getattr(child.arch, place) in [getattr(parent, place) for parent in parents]
        for i in range(4):
            assert child.arch.stages[i].width in [parent.stages[i].width for parent in parents]
            assert child.arch.stages[i].depth in [parent.stages[i].depth for parent in parents]


def test_children_are_made_in_the_shares_asked_for() -> None:
    result = run(settings=EvolutionSettings(20, 40, offspring=OffspringSettings(0.25, 0.3)))
    origins = Counter((candidate.generation, candidate.origin) for candidate in result.archive)
    assert origins == {(0, "random"): 20, (1, "mutation"): 5, (1, "crossover"): 15}


def test_of_equal_scores_the_first_wins() -> None:
    result = run(settings=EvolutionSettings(6, 12), value=lambda arch: 1.0)
    assert result.best == result.archive[0]


@pytest.mark.parametrize("space", ["medium", "litepose"])
def test_archs_that_fit_are_found_where_chance_finds_none(space: str) -> None:
    chosen = MODELS[space].space
    budget, rng = within(chosen, 1.1), np.random.default_rng(1)
    assert not any(budget.fits_arch(chosen.sample(rng)) for _ in range(500))
    result = run(chosen, lambda arch: 0.0, budget, EvolutionSettings(10, 20))
    assert len(result.archive) == 20
    assert all(budget.fits_arch(candidate.arch) and candidate.arch in chosen for candidate in result.archive)


def test_archs_between_two_bounds_are_found() -> None:
    model = MODELS["litepose"]
    budget = Budget.from_mapping({"min_macs": "3G", "macs": "3.01G"}, model)
    result = run(model.space, lambda arch: 0.0, budget, EvolutionSettings(10, 20))
    assert len(result.archive) == 20
    assert all(3e9 <= model.of(candidate.arch)["macs"] <= 3.01e9 for candidate in result.archive)


def test_a_budget_that_only_the_smallest_arch_meets_finds_it() -> None:
    result = run(budget=within(MEDIUM, 1.0))
    assert [candidate.arch for candidate in result.archive] == [MEDIUM.smallest()]


def test_an_exhausted_space_ends_the_search() -> None:
    result = run(TINY, lambda arch: MODELS["tiny"].of(arch)["params"], settings=EvolutionSettings(10, 1000))
    assert TINY.count() == 32
    assert len(result.archive) == len({candidate.arch for candidate in result.archive}) == 32
    assert result.best.arch == TINY.largest()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=f"must be a finite number, got {value}"):
        run(value=lambda arch: value)


def test_a_front_holds_what_nothing_scored_dominates() -> None:
    settings = EvolutionSettings(10, 60, objectives=("ap", "macs", "params"))
    result = run(settings=settings, value=hashed)

    def figures(candidate: Candidate) -> tuple[float, ...]:
        return candidate.ap, -candidate.costs["macs"], -candidate.costs["params"]

    def dominated(candidate: Candidate) -> bool:
        values = figures(candidate)
        return any(
            figures(other) != values and all(a >= b for a, b in zip(figures(other), values, strict=True))
            for other in result.archive
        )

    assert [candidate.order for candidate in result.front] == [
        candidate.order for candidate in result.archive if not dominated(candidate)
    ]
    assert result.best.ap == max(candidate.ap for candidate in result.archive)


def test_the_best_are_scored_on_more_images_and_only_equal_numbers_are_compared() -> None:
    # Scores on 5 images are high and on 20 low, so that comparing them with each other would keep the worst.
    seen: list[tuple[Arch, int]] = []
    settings = EvolutionSettings(10, 40, num_images=(5, 20, 50), keep_share=0.3)

    def score(tasks: Sequence[Task]) -> list[Score]:
        seen.extend((task.candidate.arch, task.num_images) for task in tasks)
        return [Score(t.num_images, {"AP": hashed(t.candidate.arch) / t.num_images}) for t in tasks]

    search = new_search(MEDIUM, settings)
    result = evolve(search, score)
    assert len(seen) == len(set(seen))
    by_score = sorted(result.archive, key=lambda candidate: -hashed(candidate.arch))
    counts = Counter(len(candidate.scores) for candidate in result.archive)
    assert counts.total() == 40
    assert counts[2] + counts[3] >= 12
    # The final best 30 % are all scored on more images, and the best of these on the most.
    assert all(len(candidate.scores) >= 2 for candidate in by_score[:12])
    assert len(by_score[0].scores) == 3
    assert result.best == by_score[0]
    ranked = search.ranked()
    assert [len(candidate.scores) for candidate in ranked] == sorted((len(c.scores) for c in ranked), reverse=True)
    for better, worse in itertools.pairwise(ranked):
        assert len(better.scores) > len(worse.scores) or better.ap >= worse.ap


@pytest.mark.parametrize("seed", range(10))
def test_a_search_stopped_anywhere_goes_on_as_if_it_had_not_been(seed: int) -> None:
    settings = EvolutionSettings(6, 40, num_images=(5, 20), objectives=("ap", "macs") if seed % 2 else ("ap",))
    whole: list[tuple[Arch, int]] = []
    expected = evolve(new_search(MEDIUM, settings, seed), scorer(hashed, whole))
    stop_after = int(np.random.default_rng(seed).integers(1, len(whole)))

    seen: list[tuple[Arch, int]] = []
    rows: list[str] = []
    score, state = scorer(hashed, seen), ""
    stopped = new_search(MEDIUM, settings, seed)
    while len(rows) < stop_after:
        tasks = stopped.ask()
        state = json.dumps(stopped.state())  # saved before the first of the tasks is scored
        for task in tasks[: stop_after - len(rows)]:
            rows.append(json.dumps(stopped.tell(task.candidate.order, *score([task])).row()))
    resumed = new_search(MEDIUM, settings, seed + 1000)
    resumed.restore(json.loads(state), from_rows([json.loads(row) for row in rows]))
    assert evolve(resumed, score) == expected
    assert seen == whole


def test_scores_of_another_search_are_not_taken_for_its_own() -> None:
    settings = EvolutionSettings(4, 8)
    search, other = new_search(MEDIUM, settings, 0), new_search(MEDIUM, settings, 1)
    state = search.state() if search.ask() else {}
    other.ask()
    foreign = [candidate.scored(Score(1, {"AP": 0.5})) for candidate in other.archive]
    with pytest.raises(ValueError, match="candidate 0 is another arch"):
        new_search(MEDIUM, settings).restore(state, foreign)


class SmallestOnce:
    """A surrogate that proposes the smallest arch once three archs are scored."""

    def propose(
        self, genes: Genes, scores: Any, parents: Genes, num: int, offspring: Any, rng: Any
    ) -> list[float] | None:
        assert len(genes) == len(scores)
        if len(scores) < 3 or not offspring.add(MEDIUM.encode([MEDIUM.smallest()])[0], "predicted"):
            return None
        return [0.25]


def test_what_a_surrogate_proposes_is_scored_with_the_prediction_beside_it() -> None:
    budget = Budget.from_mapping({}, MODELS["medium"])
    search = Evolution(budget, EvolutionSettings(4, 12), np.random.default_rng(0), SmallestOnce())
    result = evolve(search, scorer(hashed))
    (proposed,) = (candidate for candidate in result.archive if candidate.origin == "predicted")
    assert (proposed.arch, proposed.predicted, proposed.generation) == (MEDIUM.smallest(), 0.25, 1)
    assert proposed.row()["predicted"] == 0.25
    assert [candidate.predicted for candidate in result.archive].count(None) == 11


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"population": 0}, "population.* 0"),
        ({"num_evaluations": 0}, "num_evaluations.* 0"),
        ({"parent_share": 1.1}, r"parent_share .*1\.1"),
        ({"keep_share": 0.0}, r"keep_share .*0\.0"),
        ({"num_images": (5, 5)}, r"num_images .*\[5, 5\]"),
        ({"objectives": ("macs",)}, r"objectives .*\['macs'\]"),
        ({"objectives": ("ap", "macs", "macs")}, r"objectives .*'macs', 'macs'"),
    ],
)
def test_settings_out_of_range_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        EvolutionSettings(**{"population": 2, "num_evaluations": 2, **change})


@pytest.mark.parametrize("name", ["mutation_share", "mutation_rate"])
@pytest.mark.parametrize("value", [-0.1, 1.5, math.nan])
def test_shares_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(UserError, match=f"{name} .*{value}"):
        OffspringSettings(**{name: value})


def test_an_objective_that_is_no_cost_is_refused() -> None:
    with pytest.raises(UserError, match=r"objective mac.* ap, macs"):
        new_search(MEDIUM, EvolutionSettings(2, 2, objectives=("ap", "mac")))
