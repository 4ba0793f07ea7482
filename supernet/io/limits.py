"""Values read from files that may be a stranger's: nothing in them is so deep or so large that looking at it harms."""

from collections.abc import Callable, Iterable
from typing import Any

MOST_DEEP = 100
"""Lists and mappings in one another; what walks or shows a value may call itself once for each."""
_CONTAINERS = (dict, list, tuple, set, frozenset)


def check_limits(value: Any, most_values: int, check_leaf: Callable[[Any], None] | None = None) -> None:
    """Make sure that ``value`` may be walked and shown.

    Few bytes can hold a list of lists that are all the same list, and so on: a value without end for whoever follows
    it. So each value counts as often as it is met.

    Args:
        value: Of any kind; what is no list, tuple, set or mapping is not looked into.
        most_values: It may hold, all taken together.
        check_leaf: Called with each of these others that a container holds.

    Raises:
        ValueError: It is nested more than ``MOST_DEEP`` deep, or holds more.
    """
    level, met = [value], 0
    for _ in range(MOST_DEEP):
        inner: list[Any] = []
        for each in level:
            if isinstance(each, _CONTAINERS):
                met += len(each)
                if met > most_values:
                    raise ValueError(f"more than {most_values} values")
                members: Iterable[Any] = each.values() if isinstance(each, dict) else each
                if check_leaf is not None:
                    for member in members:
                        if not isinstance(member, _CONTAINERS):
                            check_leaf(member)
                # Rows of numbers, which make up most of a large file, are passed over without a look at each.
                if any(issubclass(kind, _CONTAINERS) for kind in set(map(type, members))):
                    inner += [member for member in members if isinstance(member, _CONTAINERS)]
        if not inner:
            return
        level = inner
    raise ValueError(f"nested more than {MOST_DEEP} deep")
