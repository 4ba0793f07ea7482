"""Evaluate a subnet or an exported model: ``python -m supernet.evaluate weights=...`` (options: ``--help``)."""

from typing import Any

from supernet.cli.interrupts import command


@command
def main() -> None:
    """Run the entry point."""
    from supernet.cli.config_command import run_with_config

    run_with_config("evaluate", _job)


def _job(config: dict[str, Any]) -> None:
    from supernet.compute.cpu_tuning import prefer_throughput

    prefer_throughput()  # before PyTorch is imported
    from supernet.evaluation.run import run  # keeps --help free of torch

    run(config)


if __name__ == "__main__":
    main()
