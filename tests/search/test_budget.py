"""Budgets: what a quantity may look like, and that an impossible one is told before any work."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from search.budget import Budget, parse_quantity, reachable, readable
from search.cost import COSTS
from supernet.errors import UserError
from supernet.space import SearchSpace

NANO = SearchSpace.load("nano")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5G", 5_000_000_000),
        ("450M", 450_000_000),
        ("60M", 60_000_000),
        ("60m", 60_000_000),
        ("933 M", 933_000_000),
        (" 1.5k ", 1_500),
        (".5K", 500),
        ("2.M", 2_000_000),
        ("1.2e9", 1_200_000_000),
        ("1.2E+9", 1_200_000_000),
        ("1e3K", 1_000_000),
        ("0.001", None),
        ("12345678", 12_345_678),
        ("1.9", 1),
        (7, 7),
        (1.2e9, 1_200_000_000),
        (1e18, 10**18),
        (60_000_000.0, 60_000_000),
        ("0.3M", 300_000),
        ("5.07M", 5_070_000),  # 5.07 * 1e6 is 5069999.999999999 in floating point
        *((bad, None) for bad in ("", "M", "60 MMac", "933MMac", "60MB", "5T", "-5M", "+5M", "0", "0M", "nan", "inf")),
        *(
            (bad, None)
            for bad in ("1e19", "1e99", "9" * 30, "1e999999999", "1,2M", "1_000", "0x10", "60  M", "\u0665M", "5 5M")
        ),
        *(
            (bad, None)
            for bad in (0, -1, -1.0, 0.5, float("nan"), float("inf"), 10**19, True, False, None, [60], {"M": 1})
        ),
    ],
    ids=repr,
)
def test_quantities(text: Any, value: int | None) -> None:
    if value is not None:
        assert parse_quantity(text, "constraint.macs") == value
        return
    sentence = f"constraint.macs is {text!r}; give a number from 1 to 1e18, plain (1.2e9) or with K, M or G"
    with pytest.raises(UserError, match=re.escape(sentence)):
        parse_quantity(text, "constraint.macs")


@pytest.mark.parametrize(
    ("value", "text", "rounded_up"),
    [
        (999, "999", "999"),
        (1000, "1 K", "1 K"),
        (22_971_904, "22.97 M", "22.98 M"),
        (205_521_408, "205.5 M", "205.6 M"),
        (1_202_000_001, "1.202 G", "1.203 G"),
        (999_960_000, "1 G", "1 G"),
        (60_000_000, "60 M", "60 M"),
    ],
)
def test_readable_keeps_four_digits(value: int, text: str, rounded_up: str) -> None:
    assert readable(value) == text
    assert readable(value, round_up=True) == rounded_up


@pytest.mark.parametrize("name", ["nano", "litepose"])
def test_no_arch_lies_outside_the_reachable_range(name: str) -> None:
    space, rng = SearchSpace.load(name), np.random.default_rng(0)
    limits = reachable(space, 17)
    assert set(limits) == set(COSTS)
    for arch in (space.smallest(), space.largest(), *(space.sample(rng) for _ in range(300))):
        for cost, (least, greatest) in limits.items():
            assert least <= COSTS[cost](arch, 17) <= greatest


def test_an_arch_fits_up_to_and_including_the_limit() -> None:
    arch = NANO.smallest()
    costs = {name: cost(arch, 17) for name, cost in COSTS.items()}
    for name, value in costs.items():
        assert Budget.from_mapping({name: value}).fits(arch, 17)
        assert not Budget.from_mapping({name: value - 1}).fits(arch, 17)
        assert not Budget.from_mapping({**costs, name: value - 1}).fits(arch, 17)
    assert Budget.from_mapping(costs).fits(arch, 17)
    assert Budget.from_mapping(costs).costs(arch, 17) == costs


def test_macs_count_at_the_archs_own_resolution() -> None:
    small, large = (replace(NANO.smallest(), resolution=resolution) for resolution in (96, 192))
    macs = Budget.from_mapping({"macs": "1G"})
    assert macs.costs(large, 17)["macs"] == 4 * macs.costs(small, 17)["macs"]


def test_no_limit_lets_everything_through() -> None:
    budget = Budget.from_mapping({"macs": None, "params": None})
    assert budget == Budget(())
    assert budget.fits(SearchSpace.load("litepose").largest(), 17)
    budget.check_reachable(NANO, 17)


@pytest.mark.parametrize("name", COSTS)
def test_an_impossible_budget_is_told_with_the_range_and_the_nearest_arch(name: str) -> None:
    least, greatest = (COSTS[name](arch, 17) for arch in (NANO.smallest(), NANO.largest()))
    Budget.from_mapping({name: least}).check_reachable(NANO, 17)
    with pytest.raises(UserError) as caught:
        Budget.from_mapping({name: "10K"}).check_reachable(NANO, 17)
    low, high = readable(least, round_up=True), readable(greatest, round_up=True)
    assert str(caught.value) == (
        f"constraint.{name}=10K is below the smallest subnet of space nano ({low}); reachable are {low} to {high}; "
        f"the nearest arch is {NANO.smallest().describe()}"
    )
    Budget.from_mapping({name: low}).check_reachable(NANO, 17)  # what the sentence offers is accepted


def test_one_impossible_limit_among_several_is_named() -> None:
    with pytest.raises(UserError, match=r"constraint\.params=1K is below"):
        Budget.from_mapping({"macs": "1G", "params": "1K"}).check_reachable(NANO, 17)


def test_an_unknown_cost_is_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(UserError, match=r"no cost constraint\.mac; did you mean constraint\.macs\?"):
        Budget.from_mapping({"mac": "1G"})
    with pytest.raises(UserError, match=r"no cost constraint\.latency; choose among macs, macs_paper, params"):
        Budget.from_mapping({"latency": "1G"})


def test_equal_budgets_are_one_key() -> None:
    assert len({Budget.from_mapping({"macs": text}) for text in ("60M", "0.06G", 6e7)}) == 1
