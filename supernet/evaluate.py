"""Evaluate a subnet or an exported model: ``python -m supernet.evaluate weights=...`` (options: ``--help``)."""

from typing import Any

from supernet.cli.hydra_app import run_with_config


def main() -> None:
    """Run the entry point."""
    run_with_config("evaluate", _job)


def _job(config: dict[str, Any]) -> None:
    from supernet.evaluation.run import run  # keeps --help free of torch

    run(config)


if __name__ == "__main__":
    main()
