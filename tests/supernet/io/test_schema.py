"""Configuration becomes frozen dataclasses, or an error that names the wrong option."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pytest

from supernet.errors import UserError
from supernet.io.schema import check_number, check_numbers, from_mapping


@dataclass(frozen=True)
class Inner:
    weight: float
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outer:
    steps: int
    inner: Inner
    many: tuple[Inner, ...] = ()
    threads: int | None = None
    flip: bool = False
    mode: Literal["fast", "slow"] = "fast"
    extra: dict[str, Any] | None = None


def outer(**changes: Any) -> Outer:
    return from_mapping(Outer, {"steps": 3, "inner": {"weight": 0.5}, **changes}, "")


def test_nested_values_lists_and_defaults_are_built() -> None:
    built = outer(many=[{"weight": 1.5, "names": ["a", "b"]}], threads=2, mode="slow", extra={"free": [1]})
    assert built == Outer(3, Inner(0.5), (Inner(1.5, ("a", "b")),), 2, False, "slow", {"free": [1]})
    assert outer() == Outer(3, Inner(0.5))
    assert outer(threads=None).threads is None


def test_a_whole_number_becomes_a_float() -> None:
    weight = outer(inner={"weight": 2}).inner.weight
    assert weight == 2.0
    assert isinstance(weight, float)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stepps": 1}, "there is no option stepps, did you mean steps?"),
        (
            {"zzz": 1},
            "there is no option zzz; choose among ['extra', 'flip', 'inner', 'many', 'mode', 'steps', 'threads']",
        ),
        ({"inner": {"weigth": 1}}, "there is no option inner.weigth, did you mean inner.weight?"),
        ({"inner": {}}, "the option inner.weight is missing; set it"),
        ({"inner": 3}, "inner must be a mapping, got 3"),
        ({"inner": {"weight": "5G"}}, "inner.weight must be a number, got '5G'"),
        ({"steps": 2.5}, "steps must be a whole number, got 2.5"),
        ({"steps": True}, "steps must be a whole number, got True"),
        ({"steps": None}, "steps must be a whole number, got None"),
        ({"flip": 1}, "flip must be true or false, got 1"),
        ({"threads": "all"}, "threads must be a whole number, got 'all'"),
        ({"many": {"weight": 1}}, "many must be a list, got {'weight': 1}"),
        ({"many": [{"weight": 1}, {"weight": []}]}, "many[1].weight must be a number, got []"),
        ({"inner": {"weight": 1, "names": ["a", 2]}}, "inner.names[1] must be text, got 2"),
        ({"mode": "warp"}, "mode is 'warp'; choose among ['fast', 'slow']"),
        ({"extra": [1]}, "extra must be a mapping, got [1]"),
    ],
)
def test_an_error_names_the_option_with_its_place(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        outer(**changes)
    assert str(caught.value) == message


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400])
def test_numbers_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(UserError, match=r"inner\.weight must be (finite|a number), got .*"):
        outer(inner={"weight": value})


def test_the_place_precedes_every_option() -> None:
    with pytest.raises(UserError, match=r"there is no option evaluation\.fliptest, did you mean evaluation\.flip\?"):
        from_mapping(Outer, {"fliptest": True}, "evaluation")


@pytest.mark.parametrize("value", [None, 3, [1]])
def test_values_that_are_not_mappings_are_refused(value: Any) -> None:
    with pytest.raises(UserError, match=r"the configuration must be a mapping, got .*"):
        from_mapping(Outer, value, "")


@pytest.mark.parametrize(
    ("value", "rule", "message"),
    [
        (0, {"least": 1}, "must be at least 1, got 0"),
        (1001, {"least": 1, "most": 1000}, "must be from 1 to 1000, got 1001"),
        (1.0, {"least": 0, "below": 1}, "must be from 0 to below 1, got 1.0"),
        (0.0, {"above": 0, "most": 1}, "must be above 0 and at most 1, got 0.0"),
        (1.5, {"most": 1}, "must be at most 1, got 1.5"),
        (math.nan, {}, "must be finite, got nan"),
        (math.inf, {"above": 0}, "must be above 0, got inf"),
        ("3", {"least": 0}, "must be at least 0, got '3'"),
        (None, {"least": 0}, "must be at least 0, got None"),
        (2.0, {"least": 1, "whole": True}, "must be a whole number of at least 1, got 2.0"),
        (True, {"least": 1, "most": 9, "whole": True}, "must be a whole number from 1 to 9, got True"),
        (0, {"least": 1, "remedy": "null uses all cores"}, "must be at least 1, got 0; null uses all cores"),
    ],
)
def test_a_number_outside_its_bounds_is_refused_with_the_rule(value: Any, rule: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        check_number("threads", value, **rule)
    assert str(caught.value) == f"threads {message}"


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        (1, {"least": 1, "most": 1, "whole": True}),
        (0.5, {"above": 0, "below": 1}),
        (np.float32(0.5), {"least": 0}),
        (np.int64(3), {"least": 3}),
        (10**400, {"least": 1}),
    ],
)
def test_a_number_within_its_bounds_passes(value: Any, rule: dict[str, Any]) -> None:
    check_number("threads", value, **rule)


def test_attributes_are_checked_under_their_place_unless_they_are_unset() -> None:
    settings = outer(steps=0, threads=None)
    check_numbers(settings, "steps", "threads", least=0)
    with pytest.raises(UserError, match=r"^run\.steps must be at least 1, got 0$"):
        check_numbers(settings, "threads", "steps", least=1, place="run.")
