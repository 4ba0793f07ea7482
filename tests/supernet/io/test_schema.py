"""Configuration becomes frozen values, or a sentence that names the option at fault."""

from dataclasses import dataclass
from typing import Any, Literal

import pytest

from supernet.errors import UserError
from supernet.io.schema import check_least, from_mapping


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


def test_a_whole_number_does_for_a_fraction() -> None:
    weight = outer(inner={"weight": 2}).inner.weight
    assert weight == 2.0
    assert isinstance(weight, float)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stepps": 1}, "there is no option stepps; did you mean steps?"),
        (
            {"zzz": 1},
            "there is no option zzz; choose among ['extra', 'flip', 'inner', 'many', 'mode', 'steps', 'threads']",
        ),
        ({"inner": {"weigth": 1}}, "there is no option inner.weigth; did you mean inner.weight?"),
        ({"inner": {}}, "the option inner.weight is missing; set it"),
        ({"inner": 3}, "inner is 3; it must be a mapping"),
        ({"inner": {"weight": "5G"}}, "inner.weight is '5G'; it must be a number"),
        ({"steps": 2.5}, "steps is 2.5; it must be a whole number"),
        ({"steps": True}, "steps is True; it must be a whole number"),
        ({"steps": None}, "steps is None; it must be a whole number"),
        ({"flip": 1}, "flip is 1; it must be true or false"),
        ({"threads": "all"}, "threads is 'all'; it must be a whole number"),
        ({"many": {"weight": 1}}, "many is {'weight': 1}; it must be a list"),
        ({"many": [{"weight": 1}, {"weight": []}]}, "many[1].weight is []; it must be a number"),
        ({"inner": {"weight": 1, "names": ["a", 2]}}, "inner.names[1] is 2; it must be text"),
        ({"mode": "warp"}, "mode is 'warp'; choose among ['fast', 'slow']"),
        ({"extra": [1]}, "extra is [1]; it must be a mapping"),
    ],
)
def test_a_wrong_option_is_told_with_its_place(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        outer(**changes)
    assert str(caught.value) == message


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400])
def test_what_is_no_finite_number_is_refused(value: float) -> None:
    with pytest.raises(UserError, match=r"inner\.weight is .*; it must be (finite|a number)"):
        outer(inner={"weight": value})


def test_the_place_stands_before_every_option() -> None:
    with pytest.raises(UserError, match=r"there is no option evaluation\.fliptest; did you mean evaluation\.flip\?"):
        from_mapping(Outer, {"fliptest": True}, "evaluation")


@pytest.mark.parametrize("value", [None, 3, [1]])
def test_what_is_no_mapping_is_refused(value: Any) -> None:
    with pytest.raises(UserError, match=r"the configuration is .*; it must be a mapping"):
        from_mapping(Outer, value, "")


def test_a_value_below_its_least_is_named_with_its_place() -> None:
    settings = outer(steps=0, threads=None)
    check_least(settings, {"steps": 0, "threads": 1})
    with pytest.raises(UserError, match=r"^run\.steps is 0; it must be at least 1$"):
        check_least(settings, {"threads": 1, "steps": 1}, "run.")
