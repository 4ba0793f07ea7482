"""Train a supernet: ``python -m supernet.train`` (options: ``--help`` and ``conf/train.yaml``)."""

from typing import Any

from supernet.cli.interrupts import command


@command
def main() -> None:
    """Run the entry point."""
    from supernet.cli.config_command import run_with_config

    run_with_config("train", _job)


def _job(config: dict[str, Any]) -> None:
    from supernet.cli.extras import TRAINING, require
    from supernet.cli.hydra_app import command_line_overrides

    require("train", "training", TRAINING)

    from supernet.training.launch import start_or_resume  # keeps --help free of torch

    start_or_resume(config, command_line_overrides())


if __name__ == "__main__":
    main()
