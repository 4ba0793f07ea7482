"""Random archs within a budget: uniform and distinct, repaired where random draws find none, and always terminating."""

from collections import Counter

import numpy as np

from search.budget import Budget, CostModel
from search.evolution.offspring import draw_fitting
from supernet.space import SearchSpace
from tests.helpers.spaces import FIXED_STAGES as TINY

MODEL = CostModel(TINY, 17)
ANY = Budget.from_mapping({}, MODEL)


def test_draws_within_a_budget_are_uniform_and_distinct() -> None:
    # The larger resolution costs more than all other choices together, so that this budget halves the space.
    costs = MODEL(TINY.encode([TINY.smallest(), TINY.largest()]))["macs"]
    budget = Budget.from_mapping({"macs": int(costs.mean())}, MODEL)
    rng = np.random.default_rng(0)
    everything, num_uniform = draw_fitting(ANY, rng, 32, 5000)
    assert len(set(everything)) == num_uniform == 32
    fitting = [arch for arch in everything if budget.fits_arch(arch)]
    drawn, num_uniform = draw_fitting(budget, rng, len(fitting), 5000)
    assert set(drawn) == set(fitting)
    assert num_uniform == len(fitting)
    share = 1 / len(fitting)
    counts = Counter(draw_fitting(budget, rng, 1, 1000)[0][0] for _ in range(600))
    assert set(counts) == set(fitting)
    assert all(abs(count - 600 * share) < 4.5 * (600 * share * (1 - share)) ** 0.5 for count in counts.values())


def test_draws_beyond_chance_are_changed_until_they_fit_and_say_so() -> None:
    space = SearchSpace.load("litepose")
    model = CostModel(space, 17)
    budget = Budget.from_mapping({"macs": int(1.1 * model.of(space.smallest())["macs"])}, model)
    archs, num_uniform = draw_fitting(budget, np.random.default_rng(0), 5, 200)
    assert num_uniform == 0
    assert len(set(archs)) == 5
    assert all(map(budget.fits_arch, archs))


def test_fewer_archs_than_asked_are_drawn_where_there_are_no_more() -> None:
    budget = Budget.from_mapping({"macs": int(MODEL.of(TINY.smallest())["macs"])}, MODEL)
    rng = np.random.default_rng(0)
    assert draw_fitting(budget, rng, 5, 300)[0] == [TINY.smallest()]
    assert draw_fitting(ANY, rng, 0, 50) == ([], 0)
