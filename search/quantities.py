"""Parses quantities such as 60M, 30ms, 64MB and 40%, and formats them (no torch)."""

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from supernet.errors import UserError

Rounding = Literal["nearest", "up", "down"]

_LARGEST = 10**18
_DIGITS = 4
_NUMBER = r"(\d{1,20}(?:\.\d{0,20})?|\.\d{1,20})(?:E([+-]?\d{1,2}))?"
_TEXT = re.compile(rf"{_NUMBER} ?([A-Z%]*)", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class Dimension:
    """The dimension of a quantity.

    Attributes:
        units: Factor of each unit by its upper-case name; the empty name stands for no unit.
        shown: Units for output, from the largest down.
        rule: How to write a quantity, for error messages.
    """

    units: dict[str, Decimal]
    shown: tuple[tuple[str, float], ...]
    rule: str


COUNT = Dimension(
    {"": Decimal(1), "K": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9)},
    (("G", 1e9), ("M", 1e6), ("K", 1e3), ("", 1)),
    "a number from 1 to 1e18, plain (1.2e9) or with K, M or G for thousands, millions or billions (60M)",
)
BYTES = Dimension(
    {
        "B": Decimal(1),
        **{f"{prefix}B": Decimal(1000**power) for power, prefix in enumerate("KMG", 1)},
        **{f"{prefix}IB": Decimal(1024**power) for power, prefix in enumerate("KMG", 1)},
    },
    (("GB", 1e9), ("MB", 1e6), ("KB", 1e3), ("B", 1)),
    "a number of bytes with its unit, B, KB, MB, GB, KiB, MiB or GiB (64MB)",
)
MILLISECONDS = Dimension(
    {"US": Decimal("0.001"), "MS": Decimal(1), "S": Decimal(1000)},
    (("ms", 1),),
    "a time with its unit, us, ms or s (30ms)",
)


@dataclass(frozen=True)
class Share:
    """A share of the largest arch's cost, above 0 and up to 1."""

    of_largest: Decimal


def parse(value: Any, dimension: Dimension, place: str) -> Decimal | Share:
    """Read a positive quantity, or a share such as 40%.

    Args:
        value: Text, int or float, as configuration files hold them.
        dimension: Its dimension; the result is in 1, bytes or milliseconds.
        place: Name of the value in error messages.

    Raises:
        UserError: Anything else: an unknown or missing unit, a negative number, zero, NaN, infinity, a boolean, or a
            share above 100%.
    """
    text = repr(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
    match = _TEXT.fullmatch(text.strip()) if isinstance(text, str) else None
    if match:
        number, exponent, unit = match.groups()
        quantity = Decimal(number).scaleb(int(exponent or 0))
        if unit == "%" and 0 < quantity <= 100:
            return Share(quantity / 100)
        factor = dimension.units.get(unit.upper())
        least = Decimal("0.000001") if dimension is MILLISECONDS else 1
        if factor is not None and least <= quantity * factor <= _LARGEST:
            return quantity * factor
    raise UserError(
        f"{place} is {value!r}; give {dimension.rule}, or a share of the largest subnet's cost, up to 100%, such as 40%"
    )


def readable(value: float, rounding: Rounding = "nearest", dimension: Dimension = COUNT) -> str:
    """Return ``value`` with four digits and its unit, "22.97 M"."""
    digits = len(str(int(value)))
    step = 10.0 ** (digits - _DIGITS) if dimension is MILLISECONDS else 10 ** max(0, digits - _DIGITS)
    steps = value / step
    rounded = {"up": math.ceil(steps), "down": math.floor(steps), "nearest": math.floor(steps + 0.5)}[rounding] * step
    for unit, factor in dimension.shown:
        if rounded >= factor or unit == dimension.shown[-1][0]:
            number = rounded / factor
            return f"{number:.{_DIGITS}g} {unit}".strip() if number < 10**_DIGITS else f"{number:.0f} {unit}".strip()
    raise AssertionError("the last unit shows every value")
