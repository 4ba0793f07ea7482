"""Evolutionary search of a trained supernet: ``python -m search.evolve constraint.macs=60M`` (options: ``--help``)."""

from typing import Any

from supernet.cli.hydra_app import command_line_overrides, run_with_config


def main() -> None:
    """Run the entry point."""
    run_with_config("evolve", _job)


def _job(config: dict[str, Any]) -> None:
    from search.runs.evolution_run import start_or_resume  # here, so that --help does not import torch

    start_or_resume(config, command_line_overrides())


if __name__ == "__main__":
    main()
