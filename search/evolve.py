"""Search a trained supernet: ``python -m search.evolve constraint.macs=60M`` (options: ``--help``)."""

from typing import Any

from supernet.cli import run_with_config


def main() -> None:
    """Run the entry point."""
    run_with_config("evolve", _job)


def _job(config: dict[str, Any]) -> None:
    from search.evolve_run import run  # keeps --help free of torch

    run(config)


if __name__ == "__main__":
    main()
