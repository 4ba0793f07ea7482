"""The choices of one stage, and the sentences that refuse wrong ones (no torch)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from supernet.errors import UserError

MOST_CHOICES = 1000
"""Of one value."""


@dataclass(frozen=True)
class StageChoices:
    """Choices of one stage, each tuple ascending; every block chooses its own expand ratio and kernel size."""

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    stride: int
    expand_ratios: tuple[int, ...]
    kernel_sizes: tuple[int, ...]

    @classmethod
    def from_dict(cls, place: str, value: Any) -> "StageChoices":
        """Build the choices from plain lists; ``place`` names them in an error.

        Raises:
            UserError: An unknown or missing key, or a choice that is not a list of whole numbers.
        """
        check_keys(cls, place, value)
        lists = {key: integers(f"{place}.{key}", value[key]) for key in value if key != "stride"}
        return cls(stride=integers(f"{place}.stride", [value["stride"]])[0], **lists)


def check_value(what: str, value: int, allowed: Sequence[int]) -> None:
    """Raise UserError unless ``value`` is among the ``allowed`` ones."""
    if value not in allowed:
        raise UserError(f"{what} is {value}, which is outside the space; allowed: {', '.join(map(str, allowed))}")


def check_keys(kind: type, place: str, value: Any) -> None:
    """Raise UserError unless ``value`` is a mapping with exactly the fields of the dataclass ``kind``."""
    expected = {field.name for field in fields(kind)}
    if not isinstance(value, Mapping):
        raise UserError(f"{place} is {type(value).__name__}; it must be a mapping with the keys {sorted(expected)}")
    if expected != set(value):
        wrong = sorted(map(str, expected ^ set(value)))
        raise UserError(f"{place} has missing or unknown keys: {wrong}; it needs exactly {sorted(expected)}")


def integers(place: str, value: Any) -> tuple[int, ...]:
    """Return a list of whole numbers as a tuple; UserError names ``place`` for anything else."""
    if not isinstance(value, list | tuple) or any(not isinstance(v, int) or isinstance(v, bool) for v in value):
        raise UserError(f"{place} is {value!r}; it must be a list of whole numbers")
    if len(value) > MOST_CHOICES:
        raise UserError(f"{place} has {len(value)} choices; give at most {MOST_CHOICES}")
    return tuple(value)
