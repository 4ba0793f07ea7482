"""Evolution on scores that cost nothing: it finds the best, within the budget, and scores nothing twice."""

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
from search.evolution.settings import BreedingSettings, EvolutionSettings
from supernet.arch import Arch
from supernet.errors import UserError
from supernet.genes import Genes
from supernet.space import SearchSpace, StageChoices

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
FIXED = StageChoices((24,), (1,), 2, (3,), (3,))
TINY = SearchSpace(
    "tiny", (64, 96), (8, 16), (FIXED, FIXED, FIXED, replace(FIXED, stride=1)), ((16, 24), (16, 24), (16, 24))
)
MODELS = {space.name: CostModel(space, 17) for space in (MEDIUM, TINY, SearchSpace.load("litepose"))}
Value = Callable[[Arch], float]


def params(arch: Arch) -> float:
    return MODELS["medium"].of(arch)["params"]


def hashed(arch: Arch) -> float:
    """As good as a random score."""
    return int(arch.digest(), 16) / 16**12


def distance(first: Arch, second: Arch) -> int:
    """Number of values in which two archs differ, missing blocks included."""

    def values(arch: Arch) -> dict[Any, int]:
        found: dict[Any, int] = dict(enumerate((arch.resolution, arch.stem_width, *arch.deconv_widths)))
        for i, stage in enumerate(arch.stages):
            found |= {(i, "width"): stage.width}
            found |= {(i, j, k): value for j, block in enumerate(stage.blocks()) for k, value in enumerate(block)}
        return found

    mine, theirs = values(first), values(second)
    return sum(mine.get(key) != theirs.get(key) for key in mine.keys() | theirs.keys())


def within(space: SearchSpace, slack: float) -> Budget:
    """A budget of ``slack`` times the smallest arch's MACs."""
    model = MODELS[space.name]
    return Budget.from_mapping({"macs": int(slack * model.of(space.smallest())["macs"])}, model)


def machine(space: SearchSpace, settings: EvolutionSettings, seed: int = 0, budget: Budget | None = None) -> Evolution:
    model = MODELS[space.name]
    return Evolution(space, model, budget or Budget.from_mapping({}, model), settings, np.random.default_rng(seed))


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
    return evolve(machine(space, settings, seed, budget), scorer(value))


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
    random, _ = draw_fitting(MEDIUM, MODELS["medium"], budget, rng, 10 * len(result.archive), 100_000)
    assert len(random) == 10 * len(result.archive)
    assert result.best.ap > max(map(params, random))


def test_only_new_archs_within_space_and_budget_are_scored() -> None:
    budget, seen = within(MEDIUM, 1.5), []  # type: ignore[var-annotated]
    result = evolve(machine(MEDIUM, EvolutionSettings(20, 110), 0, budget), scorer(params, seen), 7)
    scored = [arch for arch, _ in seen]
    assert len(scored) == len(set(scored)) == 110
    assert all(arch in MEDIUM and budget.fits_arch(arch) for arch in scored)
    assert [one.arch for one in result.archive] == scored
    assert [one.order for one in result.archive] == list(range(110))
    assert Counter(one.generation for one in result.archive) == {0: 20, 1: 20, 2: 20, 3: 20, 4: 20, 5: 10}
    assert result.best == max(result.archive, key=lambda one: one.ap)
    assert result.front == (result.best,)


def test_equal_seeds_give_equal_searches() -> None:
    settings = EvolutionSettings(8, 32)
    assert run(settings=settings, seed=1) == run(settings=settings, seed=1)
    assert run(settings=settings, seed=1).archive[0] != run(settings=settings, seed=2).archive[0]


def test_how_many_are_scored_at_once_changes_nothing() -> None:
    settings = EvolutionSettings(8, 30, num_images=(5, 10))
    one, many = (evolve(machine(MEDIUM, settings), scorer(hashed), size) for size in (1, 5))
    assert one == many


def test_parents_are_the_best_of_all_generations() -> None:
    # Crossover alone, two parents: every value of a child is that of one of the two best archs before its generation.
    settings = EvolutionSettings(8, 48, 0.25, BreedingSettings(mutation_share=0.0))
    result = run(settings=settings, value=hashed)
    crossed = [one for one in result.archive if one.origin == "crossover"]
    assert {one.generation for one in crossed} >= {1, 2, 3}
    for child in crossed:
        before = [one for one in result.archive if one.generation < child.generation]
        parents = [one.arch for one in sorted(before, key=lambda one: -one.ap)[:2]]
        for place in ("resolution", "stem_width"):
            assert getattr(child.arch, place) in [getattr(parent, place) for parent in parents]
        for i in range(4):
            assert child.arch.stages[i].width in [parent.stages[i].width for parent in parents]
            assert child.arch.stages[i].depth in [parent.stages[i].depth for parent in parents]


def test_children_are_made_in_the_shares_asked_for() -> None:
    result = run(settings=EvolutionSettings(20, 40, breeding=BreedingSettings(0.25, 0.3)))
    origins = Counter((one.generation, one.origin) for one in result.archive)
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
    assert all(budget.fits_arch(one.arch) and one.arch in chosen for one in result.archive)


def test_archs_between_two_bounds_are_found() -> None:
    model = MODELS["litepose"]
    budget = Budget.from_mapping({"min_macs": "3G", "macs": "3.01G"}, model)
    result = run(model.space, lambda arch: 0.0, budget, EvolutionSettings(10, 20))
    assert len(result.archive) == 20
    assert all(3e9 <= model.of(one.arch)["macs"] <= 3.01e9 for one in result.archive)


def test_a_budget_that_only_the_smallest_arch_meets_finds_it() -> None:
    result = run(budget=within(MEDIUM, 1.0))
    assert [one.arch for one in result.archive] == [MEDIUM.smallest()]


def test_an_exhausted_space_ends_the_search() -> None:
    result = run(TINY, lambda arch: MODELS["tiny"].of(arch)["params"], settings=EvolutionSettings(10, 1000))
    assert TINY.count() == 32
    assert len(result.archive) == len({one.arch for one in result.archive}) == 32
    assert result.best.arch == TINY.largest()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=f"the score of .* is {value}; scores must be finite"):
        run(value=lambda arch: value)


def test_a_front_holds_what_nothing_scored_dominates() -> None:
    settings = EvolutionSettings(10, 60, objectives=("ap", "macs", "params"))
    result = run(settings=settings, value=hashed)

    def figures(one: Candidate) -> tuple[float, ...]:
        return one.ap, -one.costs["macs"], -one.costs["params"]

    def dominated(one: Candidate) -> bool:
        return any(
            figures(other) != figures(one) and all(a >= b for a, b in zip(figures(other), figures(one), strict=True))
            for other in result.archive
        )

    assert [one.order for one in result.front] == [one.order for one in result.archive if not dominated(one)]
    assert result.best.ap == max(one.ap for one in result.archive)


def test_the_best_are_scored_on_more_images_and_only_equal_numbers_are_compared() -> None:
    # On 5 images scores are high and on 20 low, so that comparing them would keep the worst.
    seen: list[tuple[Arch, int]] = []
    settings = EvolutionSettings(10, 40, num_images=(5, 20, 50), keep_share=0.3)

    def score(tasks: Sequence[Task]) -> list[Score]:
        seen.extend((task.candidate.arch, task.num_images) for task in tasks)
        return [Score(t.num_images, {"AP": hashed(t.candidate.arch) / t.num_images}) for t in tasks]

    search = machine(MEDIUM, settings)
    result = evolve(search, score)
    assert len(seen) == len(set(seen))
    by_score = sorted(result.archive, key=lambda one: -hashed(one.arch))
    counts = Counter(len(one.scores) for one in result.archive)
    assert counts.total() == 40
    assert counts[2] + counts[3] >= 12
    # Whoever was among the best 30 % of all in the end was scored on more images, and the best of these on most.
    assert all(len(one.scores) >= 2 for one in by_score[:12])
    assert len(by_score[0].scores) == 3
    assert result.best == by_score[0]
    ranked = search.ranked()
    assert [len(one.scores) for one in ranked] == sorted((len(one.scores) for one in ranked), reverse=True)
    for one, other in itertools.pairwise(ranked):
        assert len(one.scores) > len(other.scores) or one.ap >= other.ap


class Stopped(Exception):
    """Raised in place of a signal."""


@pytest.mark.parametrize("seed", range(10))
def test_a_search_stopped_anywhere_goes_on_as_if_it_had_not_been(seed: int) -> None:
    settings = EvolutionSettings(6, 40, num_images=(5, 20), objectives=("ap", "macs") if seed % 2 else ("ap",))
    whole: list[tuple[Arch, int]] = []
    expected = evolve(machine(MEDIUM, settings, seed), scorer(hashed, whole))
    stop_after = int(np.random.default_rng(seed).integers(1, len(whole)))

    kept: dict[str, str] = {}
    rows: list[str] = []
    seen: list[tuple[Arch, int]] = []

    def go_on(search: Evolution, most: int) -> Result:
        def keep_state() -> None:
            kept["state"] = json.dumps(search.state())

        def keep(candidate: Candidate) -> None:
            rows.append(json.dumps(candidate.row()))
            if len(rows) == most:
                raise Stopped

        return evolve(search, scorer(hashed, seen), 1, keep_state, keep)

    with pytest.raises(Stopped):
        go_on(machine(MEDIUM, settings, seed), stop_after)
    resumed = machine(MEDIUM, settings, seed + 1000)
    resumed.restore(json.loads(kept["state"]), from_rows([json.loads(row) for row in rows]))
    assert go_on(resumed, -1) == expected
    assert seen == whole


def test_scores_of_another_search_are_not_taken_for_its_own() -> None:
    settings = EvolutionSettings(4, 8)
    search, other = machine(MEDIUM, settings, 0), machine(MEDIUM, settings, 1)
    state = search.state() if search.ask() else {}
    other.ask()
    foreign = [one.scored(Score(1, {"AP": 0.5})) for one in other.archive]
    with pytest.raises(ValueError, match="candidate 0 is another arch than was proposed"):
        machine(MEDIUM, settings).restore(state, foreign)


class Foresight:
    """Proposes the smallest arch once three are scored."""

    def propose(self, genes: Genes, scores: Any, parents: Genes, num: int, brood: Any, rng: Any) -> list[float] | None:
        assert len(genes) == len(scores)
        if len(scores) < 3 or not brood.add(MEDIUM.encode([MEDIUM.smallest()])[0], "predicted"):
            return None
        return [0.25]


def test_what_a_surrogate_proposes_is_scored_with_the_prediction_beside_it() -> None:
    model = MODELS["medium"]
    budget = Budget.from_mapping({}, model)
    search = Evolution(MEDIUM, model, budget, EvolutionSettings(4, 12), np.random.default_rng(0), Foresight())
    result = evolve(search, scorer(hashed))
    (one,) = (one for one in result.archive if one.origin == "predicted")
    assert (one.arch, one.predicted, one.generation) == (MEDIUM.smallest(), 0.25, 1)
    assert one.row()["predicted"] == 0.25
    assert [other.predicted for other in result.archive].count(None) == 11


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"population": 0}, "population is 0; it must be at least 1"),
        ({"num_evaluations": 0}, "num_evaluations is 0; it must be at least 1"),
        ({"parent_share": 1.1}, r"parent_share is 1\.1; it must be from 0 to 1"),
        ({"keep_share": 0.0}, r"keep_share is 0\.0; it must be above 0 and at most 1"),
        ({"num_images": (5, 5)}, r"num_images is \[5, 5\]; give numbers of images, ascending"),
        ({"objectives": ("macs",)}, r"objectives is \['macs'\]; give ap and names of costs"),
        ({"objectives": ("ap", "macs", "macs")}, r"objectives is .*each once"),
    ],
)
def test_settings_out_of_range_are_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        EvolutionSettings(**{"population": 2, "num_evaluations": 2, **change})


@pytest.mark.parametrize("name", ["mutation_share", "mutation_rate"])
@pytest.mark.parametrize("value", [-0.1, 1.5, math.nan])
def test_shares_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(UserError, match=f"{name} is .*; it must be from 0 to 1"):
        BreedingSettings(**{name: value})


def test_an_objective_that_is_no_cost_is_refused() -> None:
    with pytest.raises(UserError, match="there is no objective mac; choose among ap, macs"):
        machine(MEDIUM, EvolutionSettings(2, 2, objectives=("ap", "mac")))
