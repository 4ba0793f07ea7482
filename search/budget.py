"""Budgets: quantities such as 60M, and which archs stay within the costs they name (no torch)."""

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Self

from search.cost import COSTS
from supernet.arch import Arch
from supernet.errors import UserError
from supernet.space import SearchSpace

_SUFFIXES = {"G": 10**9, "M": 10**6, "K": 10**3}
_QUANTITY = re.compile(r"(\d{1,20}(?:\.\d{0,20})?|\.\d{1,20})(?:E([+-]?\d{1,2}))? ?([KMG]?)", re.ASCII | re.IGNORECASE)
_LARGEST = 10**18
_DIGITS = 4


def parse_quantity(value: Any, place: str) -> int:
    """Read a positive whole number from 60M, 5G, 1.2e9, "933 M" or a plain number; a fraction of one is cut off.

    Args:
        value: Text, int or float, as configuration files hold them.
        place: What to call the value in an error message.

    Raises:
        UserError: Anything else: another unit, a negative number, zero, NaN, infinity, a truth value.
    """
    text = repr(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
    match = _QUANTITY.fullmatch(text.strip()) if isinstance(text, str) else None
    if match:
        number, exponent, suffix = match.groups()
        quantity = Decimal(number).scaleb(int(exponent or 0)) * _SUFFIXES.get(suffix.upper(), 1)
        if 1 <= quantity <= _LARGEST:
            return math.floor(quantity)
    raise UserError(
        f"{place} is {value!r}; give a number from 1 to 1e18, plain (1.2e9) or with K, M or G for thousands, millions "
        "or billions (60M)"
    )


def readable(value: int, round_up: bool = False) -> str:
    """Return ``value`` with four digits and a unit, "22.97 M"; rounded to nearest, or up if asked."""
    step = 10 ** max(0, len(str(value)) - _DIGITS)
    rounded = (value + step - 1 if round_up else value + step // 2) // step * step
    for suffix, factor in _SUFFIXES.items():
        if rounded >= factor:
            return f"{rounded / factor:.{_DIGITS}g} {suffix}"
    return str(rounded)


def reachable(space: SearchSpace, num_keypoints: int) -> dict[str, tuple[int, int]]:
    """Return the exact least and greatest value over the whole space by cost name.

    No cost ever falls when one choice grows (a test holds this), so the extremes belong to the smallest and the
    largest arch.
    """
    return {
        name: (cost(space.smallest(), num_keypoints), cost(space.largest(), num_keypoints))
        for name, cost in COSTS.items()
    }


@dataclass(frozen=True)
class Budget:
    """Upper limits on costs; without any, every arch fits.

    Attributes:
        limits: Pairs of a cost name of ``search.cost.COSTS`` and the largest value allowed. MACs are those of one
            square input at the arch's own resolution.
    """

    limits: tuple[tuple[str, int], ...]

    @classmethod
    def from_mapping(cls, constraint: Mapping[str, Any]) -> Self:
        """Read limits by cost name, such as ``{"macs": "60M"}``; None sets no limit.

        Raises:
            UserError: A name that is no cost, or a value that is no positive quantity.
        """
        for name in constraint:
            if name not in COSTS:
                near = difflib.get_close_matches(str(name), COSTS, n=1)
                hint = f"did you mean constraint.{near[0]}?" if near else f"choose among {', '.join(COSTS)}"
                raise UserError(f"there is no cost constraint.{name}; {hint}")
        given = {name: value for name, value in constraint.items() if value is not None}
        return cls(tuple((name, parse_quantity(value, f"constraint.{name}")) for name, value in given.items()))

    def costs(self, arch: Arch, num_keypoints: int) -> dict[str, int]:
        """Return the costs of ``arch`` that this budget limits, by name."""
        return {name: COSTS[name](arch, num_keypoints) for name, _ in self.limits}

    def fits(self, arch: Arch, num_keypoints: int) -> bool:
        """Whether no limited cost of ``arch`` exceeds its limit."""
        return all(COSTS[name](arch, num_keypoints) <= limit for name, limit in self.limits)

    def check_reachable(self, space: SearchSpace, num_keypoints: int) -> None:
        """Make sure that at least one arch of ``space`` fits, without drawing any.

        Exact also for several limits together, because the smallest arch has the least of every cost at once.

        Raises:
            UserError: A limit below the smallest arch's cost, with the reachable range and the nearest arch.
        """
        for name, (least, greatest) in reachable(space, num_keypoints).items():
            limit = dict(self.limits).get(name, least)
            if limit < least:
                low, high = readable(least, round_up=True), readable(greatest, round_up=True)
                raise UserError(
                    f"constraint.{name}={readable(limit).replace(' ', '')} is below the smallest subnet of space "
                    f"{space.name} ({low}); reachable are {low} to {high}; "
                    f"the nearest arch is {space.smallest().describe()}"
                )
