"""Frozen dataclasses from plain configuration: unknown keys and wrong types are refused in a sentence."""

import difflib
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar

from supernet.errors import UserError

T = TypeVar("T")
_LARGEST_FLOAT = 10**300
"""Whole numbers far beyond are no floats."""


def from_mapping(kind: type[T], value: Any, place: str) -> T:
    """Build the dataclass ``kind`` from a mapping; nested dataclasses and tuples are built likewise.

    Args:
        kind: A dataclass whose fields are int, float, str, bool, None, mappings, dataclasses or tuples of these.
        value: Plain mapping, as read from YAML.
        place: What to call the mapping in error messages; empty at the top.

    Raises:
        UserError: An unknown key (with the nearest known one), a missing key, or a value of the wrong type.
    """
    if not isinstance(value, Mapping):
        raise UserError(f"{place or 'the configuration'} is {value!r}; it must be a mapping")
    hints = typing.get_type_hints(kind)
    known = {field.name: field for field in fields(typing.cast(Any, kind))}
    prefix = f"{place}." if place else ""
    for key in value:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"choose among {sorted(known)}"
            raise UserError(f"there is no option {prefix}{key}; {hint}")
    arguments = {}
    for name, field in known.items():
        if name in value:
            arguments[name] = _convert(hints[name], value[name], f"{prefix}{name}")
        elif field.default is MISSING and field.default_factory is MISSING:
            raise UserError(f"the option {prefix}{name} is missing; set it")
    return kind(**arguments)


def check_least(settings: object, limits: Mapping[str, int], place: str = "") -> None:
    """Raise UserError for a value below its limit; None is never below.

    Args:
        settings: What holds the values.
        limits: Least value of each attribute.
        place: What stands before the names in error messages, such as "prediction.".
    """
    for name, limit in limits.items():
        value = getattr(settings, name)
        if value is not None and value < limit:
            raise UserError(f"{place}{name} is {value}; it must be at least {limit}")


def _convert(hint: Any, value: Any, place: str) -> Any:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in inner:
            return None
        return _convert(next(option for option in inner if option is not type(None)), value, place)
    if is_dataclass(hint) and isinstance(hint, type):
        return from_mapping(hint, value, place)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise UserError(f"{place} is {value!r}; it must be a list")
        return tuple(_convert(inner[0], entry, f"{place}[{i}]") for i, entry in enumerate(value))
    if origin in (dict, Mapping) or hint is dict:
        if not isinstance(value, Mapping):
            raise UserError(f"{place} is {value!r}; it must be a mapping")
        entry = inner[1] if len(inner) == 2 else Any
        return {key: _convert(entry, each, f"{place}.{key}") for key, each in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST_FLOAT:
        return float(value)
    if origin is typing.Literal:
        if value not in inner:
            raise UserError(f"{place} is {value!r}; choose among {list(inner)}")
        return value
    if hint is Any:
        return value
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{place} is {value!r}; it must be finite")
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        name = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}.get(hint, str(hint))
        raise UserError(f"{place} is {value!r}; it must be {name}")
    return value
