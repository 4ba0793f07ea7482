"""A checksum inside of JSON: every changed value is noticed, and nothing else."""

import hashlib
import json
import random
from typing import Any

import pytest

from supernet.io.checksum import KEY, with_checksum, without_checksum

VALUE: dict[str, Any] = {
    "ap": 0.1 + 0.2,
    "pair": (1, 2.5e-300),
    "by_number": {10: "ä", 9: None},
    "list": [True, {"x": []}],
}
THROUGH = json.loads(json.dumps(VALUE))


def test_a_value_comes_back_from_a_file_in_whatever_order() -> None:
    read = json.loads(json.dumps(with_checksum(VALUE), indent=2))
    assert without_checksum(read) == THROUGH
    assert without_checksum(dict(reversed(read.items()))) == THROUGH
    assert without_checksum(VALUE) == VALUE  # of an older release: none to check


def test_the_checksum_is_what_files_of_earlier_releases_hold() -> None:
    assert (
        with_checksum({"b": [1.5, None], "a": 1})[KEY] == hashlib.sha256(b'{"a": 1, "b": [1.5, null]}').hexdigest()[:16]
    )


def test_every_flipped_bit_of_a_file_is_noticed_or_changes_nothing() -> None:
    content, rng, noticed = json.dumps(with_checksum(VALUE)).encode(), random.Random(0), 0
    for place in rng.sample(range(8 * len(content)), 300):
        changed = bytearray(content)
        changed[place // 8] ^= 1 << place % 8
        try:
            found = without_checksum(json.loads(changed))
        except ValueError:
            found = None
        noticed += found is None
        # The name of the checksum may be hit: then it is not checked, and what it was of is whole.
        assert found is None or {key: found[key] for key in THROUGH} == THROUGH
    assert noticed > 250


def test_what_is_no_json_gets_no_checksum() -> None:
    with pytest.raises(ValueError, match="Out of range float values"):
        with_checksum({"x": float("nan")})
    assert without_checksum({"x": 1, KEY: "0123"}) is None
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert without_checksum({"x": deep, KEY: "0123"}) is without_checksum({"x": float("nan"), KEY: "0123"}) is None
