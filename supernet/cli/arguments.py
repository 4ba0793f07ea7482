"""Argument parsing of commands without configuration files. Imports nothing slow, so that `--help` is quick."""

import argparse
import difflib
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import NoReturn, TypeVar

T = TypeVar("T")


class FolderCommandLine(argparse.ArgumentParser):
    """An argument parser for a command that writes a folder; it ends a mistake in one sentence and exit status 2.

    Args:
        program: How the command is called.
        command: Name of the folder in RUNS that the command writes to.
        description: What the command does.
    """

    def __init__(self, program: str, command: str, description: str) -> None:
        super().__init__(prog=program, description=description, allow_abbrev=False)
        self.command = command
        self.add_argument("--runs", metavar="FOLDER", default="runs", help="folder of all runs (default: %(default)s)")
        self.place = self.add_argument(
            "--output",
            metavar="FOLDER",
            type=Path,
            help=f"new folder for the results (default: RUNS/{command}/<time>, and RUNS/{command}/latest points to it)",
        )

    def error(self, message: str) -> NoReturn:
        """Print ``message`` and stop."""
        print(f"error: {message}; {self.prog} --help lists the options", file=sys.stderr)
        raise SystemExit(2)

    def parse(self) -> argparse.Namespace:
        """Parse the process's arguments; an unknown option is told with the nearest known one.

        Returns:
            The options, with ``folder`` for the results and ``is_default_folder``, if it is beside ``latest``.
        """
        options, unknown = self.parse_known_args()
        if unknown:
            near = difflib.get_close_matches(unknown[0].partition("=")[0], self._option_string_actions, n=1)
            self.error(f"there is no option {unknown[0]}" + (f", did you mean {near[0]}?" if near else ""))
        options.is_default_folder = options.output is None
        options.folder = options.output or Path(options.runs) / self.command / f"{datetime.now():%Y-%m-%d_%H-%M-%S}"
        return options


def whole_number(least: int) -> Callable[[str], int]:
    """Return a converter to whole numbers of at least ``least``."""

    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"{text!r} must be a whole number of at least {least}")
        return value

    return convert


def number(least: float, most: float) -> Callable[[str], float]:
    """Return a converter to numbers from ``least`` to ``most``."""

    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text!r} must be a number from {least:g} to {most:g}")
        return value

    return convert


def list_of(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Return a converter of lists in one argument, whose ValueErrors are told as they are."""

    def convert(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return convert


class Parser(argparse.ArgumentParser):
    """Ends a mistake in one sentence and exit status 2."""

    def error(self, message: str) -> NoReturn:
        """Print ``message`` and stop."""
        print(f"error: {message}; {self.prog} --help lists the options", file=sys.stderr)
        raise SystemExit(2)

    def refuse(self, unknown: str) -> NoReturn:
        """Stop because of an option that does not exist, naming the nearest that does."""
        near = difflib.get_close_matches(unknown.partition("=")[0], self._option_string_actions, n=1)
        self.error(f"there is no option {unknown}" + (f", did you mean {near[0]}?" if near else ""))
