"""The archs of a weight-sharing study: spread over the space, trainable alone, and compared correctly."""

import math
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from scripts.studies.sharing_archs import agreement, single_arch_space, spread_archs
from search.cost import macs
from supernet.errors import UserError
from supernet.space import SearchSpace

NANO = SearchSpace.load("nano")


@pytest.mark.parametrize(("space", "num"), [("nano", 3), ("nano", 8), ("litepose", 8)])
def test_each_interval_of_macs_between_smallest_and_largest_has_an_arch(space: str, num: int) -> None:
    whole = SearchSpace.load(space)
    archs = spread_archs(whole, num, 17, seed=0)
    assert len(set(archs)) == num
    assert (archs[0], archs[-1]) == (whole.smallest(), whole.largest())
    logs = [math.log(macs(arch, 17)) for arch in archs]
    places = [(log - logs[0]) / (logs[-1] - logs[0]) * (num - 2) for log in logs[1:-1]]
    assert [math.floor(place) for place in places] == list(range(num - 2))
    assert all(arch in whole for arch in archs)


def test_archs_depend_on_the_seed_alone() -> None:
    assert spread_archs(NANO, 8, 17, seed=1) == spread_archs(NANO, 8, 17, seed=1)
    assert spread_archs(NANO, 8, 17, seed=1) != spread_archs(NANO, 8, 17, seed=2)


def test_a_space_with_too_few_archs_is_refused() -> None:
    with pytest.raises(UserError, match=r"num_archs .*2"):
        spread_archs(NANO, 2, 17, seed=0)
    tiny = replace(single_arch_space(NANO.smallest(), "tiny"), resolutions=(128, 160))
    with pytest.raises(UserError, match=r"no arch of space tiny .*between"):
        spread_archs(tiny, 4, 17, seed=0)


def test_a_space_of_a_single_arch_has_no_other_arch() -> None:
    for arch in spread_archs(NANO, 8, 17, seed=3):
        space = single_arch_space(arch, "single")
        assert space.count() == 1
        assert space.largest() == space.smallest() == space.sample(np.random.default_rng(0)) == arch
        assert SearchSpace.from_dict(space.to_dict()) == space


def test_an_arch_whose_blocks_differ_has_no_space_of_its_own() -> None:
    largest = NANO.largest()
    second = replace(largest.stages[1], kernel_sizes=(7, 5))
    mixed = replace(largest, stages=(largest.stages[0], second, *largest.stages[2:]))
    with pytest.raises(UserError, match="stage 1 "):
        single_arch_space(mixed, "mixed")


def brute_force_tau_b(first: list[float], second: list[float]) -> float:
    """Source: Kendall, "The treatment of ties in ranking problems" (Biometrika, 1945)."""
    signs = [
        (np.sign(first[i] - first[j]), np.sign(second[i] - second[j])) for i, j in combinations(range(len(first)), 2)
    ]
    untied = [sum(sign != 0 for sign in column) for column in zip(*signs, strict=True)]
    return float(sum(a * b for a, b in signs)) / math.sqrt(untied[0] * untied[1])


def test_rank_correlation_counts_pairs_and_ties_as_tau_b_does() -> None:
    rng = np.random.default_rng(0)
    for num_values in (3, 5, 100):  # few values: many ties
        for _ in range(20):
            first, second = (rng.integers(0, num_values, 8).astype(float).tolist() for _ in range(2))
            if len(set(first)) > 1 and len(set(second)) > 1:
                tau = agreement(first, second).kendall_tau
                assert tau == pytest.approx(brute_force_tau_b(first, second), abs=1e-12)
    assert agreement([0.1, 0.2, 0.3], [0.2, 0.3, 0.4]).kendall_tau == pytest.approx(1)
    assert agreement([0.1, 0.2, 0.3], [0.4, 0.3, 0.2]).kendall_tau == pytest.approx(-1)


def test_rank_correlation_of_equal_scores_is_undefined() -> None:
    assert agreement([0.0, 0.0], [0.1, 0.2]).kendall_tau is None
    assert agreement([0.1, 0.2], [0.3, 0.3]).kendall_tau is None
    assert agreement([0.1], [0.2]).kendall_tau is None


def test_a_gap_is_ap_alone_minus_ap_shared() -> None:
    result = agreement([0.30, 0.25, 0.20], [0.29, 0.21, 0.22])
    assert result.median_gap == pytest.approx(0.01)
    assert result.largest_gap == pytest.approx(0.04)
    assert result.num == 3
