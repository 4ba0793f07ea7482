"""A checksum inside of a JSON object: a changed digit is noticed, and other programs still read the file."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

KEY = "checksum"
_DIGITS = 16


def with_checksum(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain ``value`` with the checksum of all else in it under ``KEY``."""
    return {**value, KEY: _sum(value)}


def without_checksum(value: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return ``value`` without its checksum, None if that is of something else; one that has none is as it is."""
    rest = {key: inner for key, inner in value.items() if key != KEY}
    try:
        return rest if KEY not in value or value[KEY] == _sum(rest) else None
    except (ValueError, RecursionError):  # NaN, which we never write, or lists without end
        return None


def _sum(value: Mapping[str, Any]) -> str:
    """Digits of what ``value`` is when it has been through a file, in whatever order."""
    through = json.loads(json.dumps(value, allow_nan=False))
    return hashlib.sha256(json.dumps(through, sort_keys=True).encode()).hexdigest()[:_DIGITS]
