"""The choices of one stage of a search space (no torch)."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

from supernet.errors import UserError
from supernet.io.plain_values import check_keys, integer, integers


@dataclass(frozen=True)
class StageChoices:
    """Choices of one stage, each tuple ascending; every block chooses its own expand ratio and kernel size."""

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    stride: int
    expand_ratios: tuple[int, ...]
    kernel_sizes: tuple[int, ...]

    @classmethod
    def from_dict(cls, place: str, value: Any) -> Self:
        """Build the choices from plain lists; ``place`` names them in an error.

        Raises:
            UserError: An unknown or missing key, or a choice that is not a list of whole numbers.
        """
        check_keys(place, value, {field.name for field in fields(cls)})
        lists = {key: integers(f"{place}.{key}", value[key]) for key in value if key != "stride"}
        return cls(stride=integer(f"{place}.stride", value["stride"]), **lists)


def check_value(what: str, value: int, allowed: Sequence[int]) -> None:
    """Raise UserError unless ``value`` is among the ``allowed`` ones."""
    if value not in allowed:
        raise UserError(f"{what} is {value}, which is outside the space; allowed: {', '.join(map(str, allowed))}")
