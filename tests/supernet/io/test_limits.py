"""Limits on the nesting and size of values read from files."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest

from supernet.io.limits import MOST_DEEP, check_limits


def test_shared_values_count_as_often_as_a_walk_meets_them() -> None:
    shared = [1, 2, 3]
    check_limits([shared, shared], 8)
    with pytest.raises(ValueError, match="more than 7 values"):
        check_limits([shared, shared], 7)
    deep: Any = 1
    for _ in range(MOST_DEEP):
        deep = {"a": deep}
    check_limits(deep, 1000)
    with pytest.raises(ValueError, match="nested more than 100 deep"):
        check_limits([deep], 1000)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda value: [value],
        lambda value: (1, value),
        lambda value: frozenset([value]),
        lambda value: {1: 2, 3: value},
        lambda value: OrderedDict(a=value),
    ],
    ids=["list", "tuple", "set", "mapping", "subclass"],
)
def test_every_kind_of_container_is_searched(wrap: Callable[[Any], Any]) -> None:
    value: Any = ()
    for _ in range(MOST_DEEP - 1):
        value = wrap(value)
    check_limits(value, 1000)
    with pytest.raises(ValueError, match="nested more than 100 deep"):
        check_limits(wrap(value), 1000)


def test_every_leaf_is_checked() -> None:
    seen: list[int] = []
    check_limits([1, (2, [3]), {4}, frozenset([5, (6,)]), {"k": 7, "l": {"m": 8}}, 9], 100, seen.append)
    assert sorted(seen) == list(range(1, 10))
