"""Builds frozen dataclasses from plain configuration and checks the numbers in them."""

import math
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from numbers import Real
from typing import Any, TypeVar

from supernet.errors import UserError, suggestion

T = TypeVar("T")
_LARGEST_FLOAT = 10**300
"""Limit on whole numbers that become floats; not far above it, ``float`` raises OverflowError."""


def from_mapping(kind: type[T], value: Any, place: str) -> T:
    """Build the dataclass ``kind`` from a mapping, and its nested dataclasses and tuples with it.

    Args:
        kind: A dataclass whose fields are int, float, str, bool, None, mappings, dataclasses or tuples of these.
        value: Plain mapping, as read from YAML.
        place: What to call the mapping in error messages; empty at the top.

    Raises:
        UserError: An unknown key (with the nearest known one), a missing key, or a value of the wrong type.
    """
    if not isinstance(value, Mapping):
        raise UserError(f"{place or 'the configuration'} must be a mapping, got {value!r}")
    hints = typing.get_type_hints(kind)
    known = {field.name: field for field in fields(typing.cast(Any, kind))}
    prefix = f"{place}." if place else ""
    for key in value:
        if key not in known:
            hint = suggestion(f"{prefix}{key}", [f"{prefix}{name}" for name in known])
            raise UserError(f"there is no option {prefix}{key}{hint or f'; choose among {sorted(known)}'}")
    arguments = {}
    for name, field in known.items():
        if name in value:
            arguments[name] = _convert(hints[name], value[name], f"{prefix}{name}")
        elif field.default is MISSING and field.default_factory is MISSING:
            raise UserError(f"the option {prefix}{name} is missing; set it")
    return kind(**arguments)


def check_number(
    name: str,
    value: Any,
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    whole: bool = False,
    remedy: str = "",
) -> None:
    """Raise UserError if a number is not finite or outside its bounds.

    Args:
        name: What to call the number in the message.
        value: The number.
        least: Smallest allowed value.
        most: Largest allowed value.
        above: Bound below all allowed values.
        below: Bound above all allowed values.
        whole: Whether the value must also be an ``int``.
        remedy: What else may be given, such as "use 0 to switch it off".
    """
    is_number = type(value) is int if whole else isinstance(value, Real)
    if (
        is_number
        and -math.inf < value < math.inf
        and (least is None or least <= value)
        and (most is None or value <= most)
        and (above is None or above < value)
        and (below is None or value < below)
    ):
        return
    low = f"above {above}" if above is not None else f"at least {least}" if least is not None else ""
    high = f"below {below}" if below is not None else f"at most {most}" if most is not None else ""
    rule = " and ".join(filter(None, (low, high))) or "finite"
    if least is not None and high:
        rule = f"from {least} to {high.removeprefix('at most ')}"
    if whole:
        rule = f"a whole number {'of ' * rule.startswith('at ')}{rule}"
    raise UserError(f"{name} must be {rule}, got {value!r:.80}" + (f"; {remedy}" if remedy else ""))


def check_numbers(settings: object, *names: str, place: str = "", **rule: Any) -> None:
    """Check attributes of ``settings`` as :func:`check_number` does; None, an unset option, passes.

    Args:
        settings: What holds the numbers.
        *names: The attributes.
        place: What stands before their names in messages, such as "prediction.".
        **rule: Bounds and remedy of :func:`check_number`.
    """
    for name in names:
        value = getattr(settings, name)
        if value is not None:
            check_number(f"{place}{name}", value, **rule)


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
            raise UserError(f"{place} must be a list, got {value!r}")
        return tuple(_convert(inner[0], entry, f"{place}[{i}]") for i, entry in enumerate(value))
    if origin in (dict, Mapping) or hint is dict:
        if not isinstance(value, Mapping):
            raise UserError(f"{place} must be a mapping, got {value!r}")
        entry = inner[1] if len(inner) == 2 else Any
        return {key: _convert(entry, inner_value, f"{place}.{key}") for key, inner_value in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST_FLOAT:
        return float(value)
    if origin is typing.Literal:
        if value not in inner:
            raise UserError(f"{place} is {value!r}; choose among {list(inner)}")
        return value
    if hint is Any:
        return value
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{place} must be finite, got {value!r}")
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        name = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}.get(hint, str(hint))
        raise UserError(f"{place} must be {name}, got {value!r}")
    return value
