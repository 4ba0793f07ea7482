"""The checksum inside a JSON object detects every changed value, and nothing else."""

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
READ_BACK = json.loads(json.dumps(VALUE))


def test_the_checksum_does_not_depend_on_the_order_of_keys() -> None:
    read = json.loads(json.dumps(with_checksum(VALUE), indent=2))
    assert without_checksum(read) == READ_BACK
    assert without_checksum(dict(reversed(read.items()))) == READ_BACK
    assert without_checksum(VALUE) == VALUE  # of an older release: there is no checksum


def test_the_checksum_is_that_of_earlier_releases() -> None:
    assert (
        with_checksum({"b": [1.5, None], "a": 1})[KEY] == hashlib.sha256(b'{"a": 1, "b": [1.5, null]}').hexdigest()[:16]
    )


def test_every_flipped_bit_of_a_file_is_detected_or_changes_nothing() -> None:
    content, rng, num_detected = json.dumps(with_checksum(VALUE)).encode(), random.Random(0), 0
    for place in rng.sample(range(8 * len(content)), 300):
        changed = bytearray(content)
        changed[place // 8] ^= 1 << place % 8
        try:
            value = without_checksum(json.loads(changed))
        except ValueError:
            value = None
        num_detected += value is None
        # A flip in the key of the checksum leaves a file without one, whose other entries are intact.
        assert value is None or {key: value[key] for key in READ_BACK} == READ_BACK
    assert num_detected > 250


def test_values_that_json_cannot_hold_get_no_checksum() -> None:
    with pytest.raises(ValueError, match="Out of range float values"):
        with_checksum({"x": float("nan")})
    assert without_checksum({"x": 1, KEY: "0123"}) is None
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert without_checksum({"x": deep, KEY: "0123"}) is without_checksum({"x": float("nan"), KEY: "0123"}) is None
