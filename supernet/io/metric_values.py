"""Metrics in files: null, not COCO's -1, stands for a stratum without people, whom nothing could be measured on."""

import re
from collections.abc import Mapping
from typing import Any

_METRIC = re.compile("A[PR](50|75|M|L|_easy|_medium|_hard)?")
_EMPTY = -1.0


def with_null(value: Any) -> Any:
    """Return a plain value with None for every metric of -1, however deep."""
    if isinstance(value, Mapping):
        return {key: None if _is_empty(key, entry) else with_null(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [with_null(entry) for entry in value]
    return value


def without_null(metrics: Any) -> Any:
    """Return metrics as read from a file with -1 for None, the reverse of :func:`with_null`; or another value as is."""
    if not isinstance(metrics, Mapping):
        return metrics
    return {name: _EMPTY if value is None else value for name, value in metrics.items()}


def _is_empty(key: Any, value: Any) -> bool:
    return isinstance(key, str) and isinstance(value, float) and value == _EMPTY and bool(_METRIC.fullmatch(key))
