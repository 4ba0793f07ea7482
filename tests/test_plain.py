"""Values read from files: how much of them is looked at."""

from typing import Any

import pytest

from supernet.plain import MOST_DEEP, check_size


def test_values_count_as_often_as_they_are_met() -> None:
    shared = [1, 2, 3]
    check_size([shared, shared], 8)
    with pytest.raises(ValueError, match="more than 7 values"):
        check_size([shared, shared], 7)
    deep: Any = 1
    for _ in range(MOST_DEEP):
        deep = {"a": deep}
    check_size(deep, 1000)
    with pytest.raises(ValueError, match="nested more than 100 deep"):
        check_size([deep], 1000)
