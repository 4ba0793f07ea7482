"""From the arguments of :mod:`search.api` to the configurations that the commands compose from files and options."""

from collections.abc import Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from supernet.errors import UserError

Values = str | Mapping[str, Any] | None
"""The name of a file in a folder of ``conf/``, or a mapping in its place."""
ENGINES = {"evolution": "evolve", "optuna": "optuna_search"}
"""Names of the configurations of the two engines of a search."""


def plain(options: Any, place: str = "") -> dict[str, Any]:
    """Return options as configurations hold them: paths as text, and values of NumPy as those of Python.

    Args:
        options: By name; nested ones are mappings.
        place: What to call the mapping in messages; empty at the top.

    Raises:
        UserError: A value, or ``options`` itself, is of another type.
    """
    if not isinstance(options, Mapping):
        raise UserError(f'{place} must be a mapping such as {{"name": value}}, got {options!r:.80}')
    values = {}
    for name, value in options.items():
        if isinstance(name, str) and "." in name:
            outer, _, inner = name.partition(".")
            raise UserError(f'the option {name} is given as a mapping in Python: {outer}={{"{inner}": ...}}')
        values[name] = _plain_value(value, f"{place}.{name}" if place else str(name))
    return values


def _plain_value(value: Any, place: str) -> Any:
    if type(value).__module__ == "numpy":
        return value.tolist()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, PathLike):
        return fspath(value)
    if isinstance(value, Mapping):
        return plain(value, place)
    if isinstance(value, list | tuple):
        return [_plain_value(entry, f"{place}[{i}]") for i, entry in enumerate(value)]
    raise UserError(f"{place} must be a number, text, a list or a mapping, got {value!r:.80}")


def as_path(value: Any, rule: str) -> Path:
    """Return the path of a file or folder; raise UserError, which begins with ``rule``, for a value of another type."""
    if not isinstance(value, str | PathLike):
        raise UserError(f"{rule}, got {value!r:.80}")
    return Path(value)


def dataset_values(chosen: Values, changes: Mapping[str, Any] | None, own: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the description of the data set that is chosen, or of ``own`` with changes; None for ``own`` as it is."""
    if chosen is None and changes is None:
        return None
    from supernet.cli.hydra_app import compose_values

    choice = own if chosen is None else _plain_value(chosen, "dataset")
    changed = {} if changes is None else plain(changes, "dataset_options")
    described = compose_values(None, {"dataset": choice}, {"dataset": changed})
    dataset: dict[str, Any] = described["dataset"]
    return dataset


def search_config(
    engine: str, groups: Mapping[str, Values], bounds: Mapping[str, Any], options: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Return the configuration of a search, and what was given as a command line would give it.

    Args:
        engine: A name in ``ENGINES``.
        groups: The values of ``constraint`` and ``dataset``, or the names of their files.
        bounds: Bounds of the budget by name; None for no bound.
        options: Other options, and other bounds.

    Raises:
        UserError: There is no such engine, or an option is wrong.
    """
    from search.budget import BOUND_NAMES
    from supernet.cli.hydra_app import compose_values

    if engine not in list(ENGINES):
        raise UserError(f"engine must be {' or '.join(ENGINES)}, got {engine!r}")
    bounds = {**bounds, **{name: options[name] for name in BOUND_NAMES if name in options}}
    bounds = plain({name: value for name, value in bounds.items() if value is not None}, "constraint")
    groups = plain(groups)
    values = plain({name: value for name, value in options.items() if name not in BOUND_NAMES})
    config = compose_values(ENGINES[engine], groups, values | {"constraint": bounds})
    given = [f"{group}={value}" for group, value in groups.items() if value is not None]
    given += [f"constraint.{bound}={value}" for bound, value in bounds.items()]
    return config, given + [f"{option}={value}" for option, value in values.items()]
