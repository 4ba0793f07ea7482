"""From the arguments of :mod:`search.api` to the configurations that the commands compose from files and options."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from supernet.errors import UserError

Values = str | Mapping[str, Any] | None
"""The name of a file in a folder of ``conf/``, or a mapping in its place."""
ENGINES = {"evolution": "evolve", "optuna": "optuna_search"}
"""Names of the configurations of the two engines of a search."""


def plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with paths as text, as configurations hold them."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}


def dataset_values(chosen: Values, changes: Mapping[str, Any] | None, own: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the description of the data set that is chosen, or of ``own`` with changes; None for ``own`` as it is."""
    if chosen is None and changes is None:
        return None
    from supernet.cli.hydra_app import compose_values

    described = compose_values(None, {"dataset": own if chosen is None else chosen}, {"dataset": dict(changes or {})})
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

    if engine not in ENGINES:
        raise UserError(f"engine must be {' or '.join(ENGINES)}, got {engine!r}")
    bounds = {**bounds, **{name: options[name] for name in BOUND_NAMES if name in options}}
    bounds = {name: value for name, value in bounds.items() if value is not None}
    values = plain({name: value for name, value in options.items() if name not in BOUND_NAMES})
    config = compose_values(ENGINES[engine], groups, values | {"constraint": bounds})
    given = [f"{group}={value}" for group, value in groups.items() if value is not None]
    given += [f"constraint.{bound}={value}" for bound, value in bounds.items()]
    return config, given + [f"{option}={value}" for option, value in values.items()]
