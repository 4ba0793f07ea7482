"""Checks of plain values read from JSON or YAML; every error names the place of the value."""

from collections.abc import Mapping, Sequence
from typing import Any

from supernet.errors import UserError

MOST_ENTRIES = 1000
"""Limit on the length of a list."""


def check_keys(place: str, value: Any, required: set[str], optional: frozenset[str] | set[str] = frozenset()) -> None:
    """Raise UserError unless ``value`` is a mapping with all ``required`` keys and no others but ``optional`` ones."""
    if not isinstance(value, Mapping):
        raise UserError(f"{place} must be an object with the keys {sorted(required)}, got {type(value).__name__}")
    missing, unknown = sorted(required - set(value)), sorted(map(str, set(value) - required - optional))
    if missing or unknown:
        parts = [f"lacks {missing}"] * bool(missing) + [f"has the unknown keys {unknown}"] * bool(unknown)
        raise UserError(f"{place} {' and '.join(parts)}; allowed are {sorted(required | optional)}")


def integer(place: str, value: Any) -> int:
    """Return ``value``; raise UserError unless it is a whole number."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise UserError(f"{place} must be a whole number, got {value!r:.80}")
    return value


def entries(place: str, value: Any) -> Sequence[Any]:
    """Return ``value``; raise UserError unless it is a list of at most ``MOST_ENTRIES``."""
    if not isinstance(value, list | tuple):
        raise UserError(f"{place} must be a list, got {value!r:.80}")
    if len(value) > MOST_ENTRIES:
        raise UserError(f"{place} must have at most {MOST_ENTRIES} entries, got {len(value)}")
    return value


def integers(place: str, value: Any) -> tuple[int, ...]:
    """Return a list of whole numbers as a tuple; raise UserError for anything else."""
    return tuple(integer(place, number) for number in entries(place, value))
