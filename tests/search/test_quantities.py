"""Quantities: what is accepted in each dimension, and how values are shown."""

import re
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.quantities import BYTES, COUNT, MILLISECONDS, Dimension, Rounding, Share, parse, readable
from supernet.errors import UserError

RULES = {
    COUNT.rule: "give a number from 1 to 1e18, plain (1.2e9) or with K, M or G",
    BYTES.rule: "give a number of bytes with its unit, B, KB, MB, GB, KiB, MiB or GiB (64MB)",
    MILLISECONDS.rule: "give a time with its unit, us, ms or s (30ms)",
}
UNREADABLE = [
    *("", " ", "M", "5 G B", "60  M", "5 5M", "-1", "-5M", "+5M", "0", "0M", "nan", "inf", "-inf", "1e400", "1e-400"),
    *("9" * 30, "1e999999999", "1,2M", "1_000", "0x10", "\u0665M", "true", "null", "%", "0%", "101%", "-4%", "40 % M"),
    *(0, -1, -1.0, float("nan"), float("inf"), True, False, None, [60], {"M": 1}),
]


@pytest.mark.parametrize(
    ("text", "dimension", "value"),
    [
        ("5G", COUNT, 5_000_000_000),
        ("450M", COUNT, 450_000_000),
        ("60m", COUNT, 60_000_000),
        ("933 M", COUNT, 933_000_000),
        (" 1.5k ", COUNT, 1_500),
        (".5K", COUNT, 500),
        ("2.M", COUNT, 2_000_000),
        ("1.2e9", COUNT, 1_200_000_000),
        ("1.2E+9", COUNT, 1_200_000_000),
        ("1e3K", COUNT, 1_000_000),
        ("12345678", COUNT, 12_345_678),
        ("5.07M", COUNT, 5_070_000),  # 5.07 * 1e6 is 5069999.999999999 in floating point
        (7, COUNT, 7),
        (1.2e9, COUNT, 1_200_000_000),
        (1e18, COUNT, 10**18),
        ("64MB", BYTES, 64_000_000),
        ("64 mb", BYTES, 64_000_000),
        ("64MiB", BYTES, 64 * 2**20),
        ("1.5GB", BYTES, 1_500_000_000),
        ("2GiB", BYTES, 2**31),
        ("900KB", BYTES, 900_000),
        ("1KiB", BYTES, 1024),
        ("123B", BYTES, 123),
        ("30ms", MILLISECONDS, 30),
        ("0.03s", MILLISECONDS, 30),
        ("900us", MILLISECONDS, Fraction(9, 10)),
        ("1.5 MS", MILLISECONDS, Fraction(3, 2)),
        *((bad, COUNT, None) for bad in ("5GB", "933MMac", "60 MMac", "5T", "30ms", "0.001", "1e19", 0.5, 10**19)),
        *((bad, BYTES, None) for bad in ("64", 64, "64M", "64Mib/s", "30ms", "0.5B", "64TB")),
        *((bad, MILLISECONDS, None) for bad in (30, 0.03, "30", "30m", "1min", "5G", "30MB", "1e-20s")),
        *((bad, dimension, None) for bad in UNREADABLE for dimension in (COUNT, BYTES, MILLISECONDS)),
    ],
)
def test_quantities(text: Any, dimension: Dimension, value: Fraction | None) -> None:
    if value is not None:
        quantity = parse(text, dimension, "constraint.x")
        assert isinstance(quantity, Decimal)
        assert Fraction(quantity) == value
        return
    with pytest.raises(UserError, match=re.escape(f"constraint.x is {text!r}; {RULES[dimension.rule]}")):
        parse(text, dimension, "constraint.x")


@pytest.mark.parametrize(("text", "share"), [("40%", "0.4"), ("12.5 %", "0.125"), ("100%", "1"), ("1e-3%", "0.00001")])
@pytest.mark.parametrize("dimension", [COUNT, BYTES, MILLISECONDS], ids=["count", "bytes", "time"])
def test_shares(text: str, share: str, dimension: Dimension) -> None:
    assert parse(text, dimension, "constraint.x") == Share(Decimal(share))


@given(st.text(max_size=12))
def test_any_text_is_a_quantity_or_refused(text: str) -> None:
    for dimension in (COUNT, BYTES, MILLISECONDS):
        try:
            quantity = parse(text, dimension, "x")
        except UserError:
            continue
        assert (quantity.of_largest if isinstance(quantity, Share) else quantity) > 0


@pytest.mark.parametrize(
    ("value", "nearest", "up", "down"),
    [
        (999, "999", "999", "999"),
        (1000, "1 K", "1 K", "1 K"),
        (22_971_904, "22.97 M", "22.98 M", "22.97 M"),
        (205_581_408, "205.6 M", "205.6 M", "205.5 M"),
        (1_202_000_001, "1.202 G", "1.203 G", "1.202 G"),
        (999_960_000, "1 G", "1 G", "999.9 M"),
        (60_000_000, "60 M", "60 M", "60 M"),
    ],
)
def test_readable_keeps_four_digits(value: int, nearest: str, up: str, down: str) -> None:
    texts: dict[Rounding, str] = {"nearest": nearest, "up": up, "down": down}
    for rounding, text in texts.items():
        assert readable(value, rounding) == text


def test_what_is_shown_has_its_unit() -> None:
    assert readable(64_000_000, dimension=BYTES) == "64 MB"
    assert readable(12, dimension=BYTES) == "12 B"
    assert readable(30.0, dimension=MILLISECONDS) == "30 ms"
    assert readable(0.9, dimension=MILLISECONDS) == "0.9 ms"
    assert readable(1234.5, "up", MILLISECONDS) == "1235 ms"
    assert readable(100_000.0, dimension=MILLISECONDS) == "100000 ms"


@given(st.integers(1, 10**15))
def test_shown_values_are_read_back_on_their_side(value: int) -> None:
    low, high = (parse(readable(value, rounding), COUNT, "x") for rounding in ("down", "up"))
    assert isinstance(low, Decimal)
    assert isinstance(high, Decimal)
    assert low <= value <= high
    assert high - low <= Decimal(value) / 1000
