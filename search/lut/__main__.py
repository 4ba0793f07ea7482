"""Latency tables: ``python -m search.lut build|verify|show|merge|kit`` (options: ``--help``)."""

from search.lut.arguments import parse


def main() -> None:
    """Run the entry point."""
    options = parse()

    from search.lut.commands import COMMANDS  # keeps --help free of torch
    from supernet.cli.console import run_command

    run_command(lambda: COMMANDS[options.command](options))


if __name__ == "__main__":
    main()
