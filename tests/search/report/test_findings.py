"""The sentences claim what the candidates show: in which direction AP goes with a cost, and nothing of one alone."""

import pytest

from search.budget import Bound, Budget, CostModel
from search.report.findings import _against_random, _cheapest, _effect_of_budget
from search.report.image_results import NONE
from search.report.intervals import Intervals
from supernet.space import SearchSpace


@pytest.mark.parametrize(
    ("aps", "is_least", "words"),
    [
        ((0.1, 0.2, 0.3, 0.4), False, "AP rises with this cost, so a larger budget may raise AP further"),
        ((0.4, 0.3, 0.2, 0.1), False, "AP falls with this cost, so what costs less is better here"),
        ((0.1, 0.2, 0.3, 0.4), True, "AP rises with this cost, so what costs more is better here"),
        ((0.4, 0.3, 0.2, 0.1), True, "AP falls with this cost, so a smaller lower bound may raise AP further"),
        ((0.1, 0.4, 0.4, 0.1), False, "AP hardly depends on this cost"),
        ((0.1, 0.4, 0.2, 0.3, 0.25), False, "AP depends on this cost weakly"),  # 6 of 10 pairs in order: 0.2
    ],
)
def test_it_follows_the_rank_correlation(aps: tuple[float, ...], is_least: bool, words: str) -> None:
    rows = [{"costs": {"macs": 1e6 * (i + 1)}, "metrics": {"AP": ap}} for i, ap in enumerate(aps)]
    budget = Budget((Bound("macs", 1e7, is_least),), CostModel(SearchSpace.load("nano"), 17))
    (sentence,) = _effect_of_budget(rows, budget, rows[0])
    assert words in sentence


@pytest.mark.parametrize(
    ("macs", "aps", "reason"),
    [
        ((1e6,), (0.1,), "only one subnet was evaluated"),
        ((1e6, 2e6), (0.1, 0.1), "all 2 evaluated subnets have the same AP"),
        ((1e6, 1e6), (0.1, 0.2), "all 2 evaluated subnets have the same cost"),
    ],
)
def test_without_two_values_nothing_is_said_of_a_direction(
    macs: tuple[float, ...], aps: tuple[float, ...], reason: str
) -> None:
    rows = [{"costs": {"macs": cost}, "metrics": {"AP": ap}} for cost, ap in zip(macs, aps, strict=True)]
    budget = Budget((Bound("macs", 1e7),), CostModel(SearchSpace.load("nano"), 17))
    (sentence,) = _effect_of_budget(rows, budget, rows[0])
    assert reason in sentence
    assert "Kendall" not in sentence


def test_a_single_candidate_is_not_compared_with_others() -> None:
    row = {"digest": "a", "num_images": 10, "costs": {"macs": 1e6}, "metrics": {"AP": 0.1}}
    assert _cheapest([row], {"a"}, "macs") == []


@pytest.mark.parametrize(("num_uniform", "words"), [(0, "2 of the 2 random"), (1, "1 of the 2 random"), (2, None)])
def test_random_subnets_that_were_changed_to_fit_are_counted(num_uniform: int, words: str | None) -> None:
    space = SearchSpace.load("nano")
    subnets = [{"metrics": {"AP": 0.1}, "arch": arch.to_dict()} for arch in (space.smallest(), space.largest())]
    chosen = {"digest": "a", "metrics": {"test": {"AP": 0.2}}}
    summary = {"chosen": chosen, "num_test_images": 4, "baseline": {"subnets": subnets, "num_uniform": num_uniform}}
    *_, last = _against_random(summary, Intervals(NONE))
    assert words in last if words else "until they fit" not in last
