"""Evolution on scores that cost nothing: it finds the best, within the budget, and scores nothing twice."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from search.cost import macs, params
from search.evolution import Candidate, EvolutionSettings, Result, draw_fitting, evolve, shrink
from supernet.arch import Arch
from supernet.errors import UserError
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
FULL = SearchSpace.load("litepose")
FIXED = StageChoices((24,), (1,), 2, (3,), (3,))
TINY = SearchSpace(
    "tiny", (64, 96), (8, 16), (FIXED, FIXED, FIXED, replace(FIXED, stride=1)), ((16, 24), (16, 24), (16, 24))
)
SETTINGS = EvolutionSettings(population=20, generations=15)


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


def accept(arch: Arch) -> bool:
    return True


def within(space: SearchSpace, slack: float) -> Callable[[Arch], bool]:
    """A budget of ``slack`` times the smallest arch's MACs."""
    limit = slack * macs(space.smallest(), 17)
    return lambda arch: macs(arch, 17) <= limit


def run(
    space: SearchSpace = MEDIUM,
    score: Callable[[Arch], float] = lambda arch: params(arch, 17),
    fits: Callable[[Arch], bool] = accept,
    settings: EvolutionSettings = SETTINGS,
    seed: int = 0,
    on_evaluated: Callable[[Candidate], None] | None = None,
) -> Result:
    return evolve(space, score, fits, settings, np.random.default_rng(seed), on_evaluated)


@pytest.mark.parametrize("seed", range(2))
def test_it_comes_near_a_hidden_target(seed: int) -> None:
    target = MEDIUM.sample(np.random.default_rng(100 + seed))
    result = run(score=lambda arch: -distance(arch, target), seed=seed)
    rng = np.random.default_rng(seed)
    best_random = max(-distance(MEDIUM.sample(rng), target) for _ in range(2000))
    assert result.best.score > best_random
    assert result.best.score >= -3


@pytest.mark.parametrize("seed", range(2))
def test_under_a_budget_it_beats_ten_times_as_many_random_draws(seed: int) -> None:
    fits, rng = within(MEDIUM, 2.0), np.random.default_rng(seed)
    result = run(fits=fits, seed=seed)
    random, _ = draw_fitting(MEDIUM, fits, rng, 10 * len(result.archive), 100_000)
    assert len(random) == 10 * len(result.archive)
    assert result.best.score > max(params(arch, 17) for arch in random)


def test_only_new_archs_within_space_and_budget_are_scored() -> None:
    fits = within(MEDIUM, 1.5)
    scored: list[Arch] = []

    def score(arch: Arch) -> float:
        scored.append(arch)
        return params(arch, 17)

    result = run(score=score, fits=fits)
    assert len(scored) == len(set(scored)) == SETTINGS.population * SETTINGS.generations
    assert all(arch in MEDIUM and fits(arch) for arch in scored)
    assert [candidate.arch for candidate in result.archive] == scored
    assert [candidate.order for candidate in result.archive] == list(range(len(scored)))
    assert Counter(candidate.generation for candidate in result.archive) == dict.fromkeys(range(15), 20)
    assert result.best == max(result.archive, key=lambda candidate: candidate.score)


def test_equal_seeds_give_equal_searches() -> None:
    settings = EvolutionSettings(8, 4)
    assert run(settings=settings, seed=1) == run(settings=settings, seed=1)
    assert run(settings=settings, seed=1).archive[0] != run(settings=settings, seed=2).archive[0]


def test_candidates_are_reported_as_they_are_scored() -> None:
    seen: list[Candidate] = []
    result = run(settings=EvolutionSettings(5, 3), on_evaluated=seen.append)
    assert tuple(seen) == result.archive


def test_parents_are_the_best_of_all_generations() -> None:
    # Crossover alone, two parents: every value of a child is that of one of the two best archs before its generation.
    settings = EvolutionSettings(8, 6, parent_share=0.25, mutation_share=0.0)
    result = run(settings=settings, score=lambda arch: int(arch.digest(), 16))
    crossed = [candidate for candidate in result.archive if candidate.origin == "crossover"]
    assert {candidate.generation for candidate in crossed} >= {1, 2, 3}
    for child in crossed:
        before = [candidate for candidate in result.archive if candidate.generation < child.generation]
        parents = [one.arch for one in sorted(before, key=lambda one: -one.score)[:2]]
        for place in ("resolution", "stem_width"):
            assert getattr(child.arch, place) in [getattr(parent, place) for parent in parents]
        for i in range(4):
            assert child.arch.stages[i].width in [parent.stages[i].width for parent in parents]
            assert child.arch.stages[i].depth in [parent.stages[i].depth for parent in parents]


def test_children_are_made_in_the_shares_asked_for() -> None:
    result = run(settings=EvolutionSettings(20, 2, mutation_share=0.25, mutation_rate=0.3))
    origins = Counter((candidate.generation, candidate.origin) for candidate in result.archive)
    assert origins == {(0, "random"): 20, (1, "mutation"): 5, (1, "crossover"): 15}


def test_a_mutation_that_cannot_change_anything_is_replaced_by_random_archs() -> None:
    result = run(settings=EvolutionSettings(4, 3, mutation_share=1.0, mutation_rate=0.0))
    assert [candidate.origin for candidate in result.archive] == ["random"] * 12


def test_of_equal_scores_the_first_wins() -> None:
    result = run(settings=EvolutionSettings(6, 2), score=lambda arch: 1.0)
    assert result.best == result.archive[0]


@pytest.mark.parametrize("space", [MEDIUM, FULL], ids=["nano", "litepose"])
def test_archs_that_fit_are_found_where_chance_finds_none(space: SearchSpace) -> None:
    fits, rng = within(space, 1.1), np.random.default_rng(1)
    assert not any(fits(space.sample(rng)) for _ in range(2000))
    result = run(space, fits=fits, settings=EvolutionSettings(10, 2))
    assert len(result.archive) == 20
    assert all(fits(candidate.arch) and candidate.arch in space for candidate in result.archive)


def test_a_budget_that_only_the_smallest_arch_meets_finds_it() -> None:
    result = run(fits=within(MEDIUM, 1.0))
    assert [candidate.arch for candidate in result.archive] == [MEDIUM.smallest()]


def test_an_exhausted_space_ends_the_search() -> None:
    result = run(TINY, settings=EvolutionSettings(10, 100))
    assert TINY.count() == 32
    assert len(result.archive) == len({candidate.arch for candidate in result.archive}) == 32
    assert result.best.arch == TINY.largest()


def test_a_budget_that_nothing_meets_is_told() -> None:
    with pytest.raises(UserError, match="no arch of space medium fits the budget"):
        run(fits=lambda arch: False)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=f"the score of .* is {value}; scores must be finite"):
        run(score=lambda arch: value)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"population": 0}, "population is 0; it must be at least 1"),
        ({"generations": 0}, "generations is 0; it must be at least 1"),
        ({"parent_share": 1.1}, r"parent_share is 1\.1; it must be from 0 to 1"),
        ({"mutation_share": -0.1}, r"mutation_share is -0\.1; it must be from 0 to 1"),
        ({"mutation_rate": math.nan}, "mutation_rate is nan; it must be from 0 to 1"),
    ],
)
def test_settings_out_of_range_are_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        EvolutionSettings(**{"population": 2, "generations": 2, **change})


def test_shrinking_stops_at_the_first_arch_that_fits() -> None:
    rng = np.random.default_rng(0)
    fits = within(MEDIUM, 2.0)
    for _ in range(20):
        arch = MEDIUM.sample(rng)
        shrunk = shrink(MEDIUM, arch, fits, rng)
        assert shrunk is not None
        assert shrunk in MEDIUM
        assert fits(shrunk)
        assert (shrunk == arch) == fits(arch)


def test_draws_within_a_budget_are_uniform_and_distinct() -> None:
    def fits(arch: Arch) -> bool:
        return arch.resolution == 64 and arch.stem_width == 8

    rng = np.random.default_rng(0)
    all_eight, num_uniform = draw_fitting(TINY, fits, rng, 8, 1000)
    assert len(set(all_eight)) == num_uniform == 8
    counts = Counter(draw_fitting(TINY, fits, rng, 1, 1000)[0][0] for _ in range(1600))
    assert set(counts) == set(all_eight)
    assert all(abs(count - 200) < 4 * (1600 * 1 / 8 * 7 / 8) ** 0.5 for count in counts.values())


def test_draws_beyond_chance_are_shrunk_and_say_so() -> None:
    fits = within(FULL, 1.1)
    archs, num_uniform = draw_fitting(FULL, fits, np.random.default_rng(0), 5, 200)
    assert num_uniform == 0
    assert len(set(archs)) == 5
    assert all(map(fits, archs))


def test_fewer_archs_than_asked_are_drawn_where_there_are_no_more() -> None:
    archs, _ = draw_fitting(TINY, within(TINY, 1.0), np.random.default_rng(0), 5, 300)
    assert archs == [TINY.smallest()]
    assert draw_fitting(TINY, lambda arch: False, np.random.default_rng(0), 5, 50) == ([], 0)
    assert draw_fitting(TINY, accept, np.random.default_rng(0), 0, 50) == ([], 0)
