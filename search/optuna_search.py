"""Search a supernet with Optuna: ``python -m search.optuna_search constraint.macs=60M`` (options: ``--help``)."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from supernet.cli.interrupts import command
from supernet.errors import missing_packages


@command
def main() -> None:
    """Run the entry point."""
    from supernet.cli.config_command import run_with_config

    run_with_config("optuna_search", _job)


def _job(config: dict[str, Any]) -> None:
    search(config)


def search(config: dict[str, Any]) -> Path:
    """Search as :func:`search.runs.optuna_run.run` does; return the run folder.

    Raises:
        UserError: As there, or a package is not installed.
    """
    from supernet.cli.extras import SEARCH, require
    from supernet.compute.cpu_tuning import prefer_throughput

    require("search", "a search", SEARCH)
    if find_spec("optuna") is None:
        raise missing_packages("python -m search.optuna_search", ["optuna"], "optuna")
    prefer_throughput()
    from search.runs.optuna_run import run  # here, so that --help does not import torch

    return run(config)


if __name__ == "__main__":
    main()
