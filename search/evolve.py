"""Evolutionary search of a trained supernet: ``python -m search.evolve constraint.macs=60M`` (options: ``--help``)."""

from typing import Any

from supernet.cli.interrupts import command


@command
def main() -> None:
    """Run the entry point."""
    from supernet.cli.config_command import run_with_config

    run_with_config("evolve", _job)


def _job(config: dict[str, Any]) -> None:
    from supernet.cli.extras import SEARCH, require
    from supernet.compute.cpu_tuning import prefer_throughput

    require("search", "a search", SEARCH)
    prefer_throughput()
    from search.runs.evolution_run import start_or_resume  # here, so that --help does not import torch
    from supernet.cli.hydra_app import command_line_overrides

    start_or_resume(config, command_line_overrides())


if __name__ == "__main__":
    main()
