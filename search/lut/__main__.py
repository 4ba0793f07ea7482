"""Latency tables: ``python -m search.lut build|verify|show|kit|merge|transfer|benchncnn`` (options: ``--help``)."""

from supernet.cli.interrupts import command


@command
def main() -> None:
    """Run the entry point."""
    from search.lut.arguments import parse

    options = parse()

    from search.lut.commands import COMMANDS  # keeps --help free of torch
    from supernet.cli.console import run_command

    run_command(lambda: COMMANDS[options.command](options))


if __name__ == "__main__":
    main()
