"""Limits on the nesting and size of values read from untrusted files."""

from collections.abc import Callable, Iterable
from typing import Any

MOST_DEEP = 100
"""Limit on nesting; code that walks or prints a value may recurse once per level."""
_CONTAINERS = (dict, list, tuple, set, frozenset)


def check_limits(value: Any, most_values: int, check_leaf: Callable[[Any], None] | None = None) -> None:
    """Make sure that ``value`` can be walked and printed.

    A few bytes can describe a list that holds one list many times, which again holds one list many times, and so on.
    So each value counts as often as a walk meets it.

    Args:
        value: Any value. Only lists, tuples, sets and mappings are searched.
        most_values: Limit on the number of values in all containers together.
        check_leaf: Called with every value in a container that is not itself a container.

    Raises:
        ValueError: The value is nested more than ``MOST_DEEP`` deep, or holds too many values.
    """
    level, num_values = [value], 0
    for _ in range(MOST_DEEP):
        inner: list[Any] = []
        for container in level:
            if isinstance(container, _CONTAINERS):
                num_values += len(container)
                if num_values > most_values:
                    raise ValueError(f"more than {most_values} values")
                members: Iterable[Any] = container.values() if isinstance(container, dict) else container
                if check_leaf is not None:
                    for member in members:
                        if not isinstance(member, _CONTAINERS):
                            check_leaf(member)
                # By types first: it is fast for long rows of numbers, which make up most of a large file.
                if any(issubclass(kind, _CONTAINERS) for kind in set(map(type, members))):
                    inner += [member for member in members if isinstance(member, _CONTAINERS)]
        if not inner:
            return
        level = inner
    raise ValueError(f"nested more than {MOST_DEEP} deep")
