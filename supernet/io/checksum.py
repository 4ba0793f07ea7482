"""A checksum inside a JSON object: it detects a changed digit, and other programs can still read the file."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

KEY = "checksum"
_DIGITS = 16


def with_checksum(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain ``value`` with the checksum of its other entries under ``KEY``."""
    return {**value, KEY: _sum(value)}


def without_checksum(value: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return ``value`` without its checksum, if it has one; None if the checksum is wrong."""
    rest = {key: inner for key, inner in value.items() if key != KEY}
    try:
        return rest if KEY not in value or value[KEY] == _sum(rest) else None
    except (ValueError, RecursionError):  # NaN, which this project never writes, or lists nested too deep
        return None


def _sum(value: Mapping[str, Any]) -> str:
    """Return the checksum of ``value`` as a file would hold it, in any order of its keys."""
    read_back = json.loads(json.dumps(value, allow_nan=False))
    return hashlib.sha256(json.dumps(read_back, sort_keys=True).encode()).hexdigest()[:_DIGITS]
