"""Argument parsing for commands without configuration files. Imports nothing slow, so that `--help` is fast."""

import argparse
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from supernet.cli.broken_pipe import exit_on_broken_pipe
from supernet.cli.commands import spelled
from supernet.cli.grammar import as_flags
from supernet.errors import UserError, suggestion

T = TypeVar("T")

PATHS = ("FOLDER", "FILE", "PATH", "TABLE", "SOURCE", "CHECKPOINT", "ARCH")
"""How options that hold paths are shown."""


class CommandLine(argparse.ArgumentParser):
    """An argument parser that reports an error as one sentence, with exit status 2.

    Options cannot be abbreviated, an unknown option is reported with the most similar known one, and ``key=value`` is
    the same as ``--key value`` (:mod:`supernet.cli.grammar`). Help shows the options by subject.

    Args:
        program: How the command is called, such as ``python -m search.lut``.
        **settings: As for ``argparse.ArgumentParser``.
    """

    def __init__(self, program: str | None = None, **settings: Any) -> None:
        super().__init__(**{"prog": program and spelled(program), "allow_abbrev": False, **settings})
        self._examples: tuple[str, ...] = ()
        self._sections: Mapping[str, Sequence[str]] = {}

    def describe(self, examples: Sequence[str], sections: Mapping[str, Sequence[str]] | None = None) -> None:
        """Say more about this command in its help.

        Args:
            examples: What follows the program in useful command lines.
            sections: The names of options (or of positional arguments) that belong together, by their heading; others
                are shown last.
        """
        self._examples, self._sections = tuple(examples), sections or {}

    def format_usage(self) -> str:
        """Return the form of a command line, without its options."""
        several = {"*": "[{} ...]", "+": "{} ...", "?": "[{}]"}
        words = [
            several.get(str(action.nargs), "{}").format(action.metavar or action.dest)
            for action in self._actions
            if not action.option_strings
        ]
        return f"usage: {' '.join([self.prog, *words, '[--option VALUE | option=VALUE ...]'])}\n"

    def format_help(self) -> str:
        """Return the help: purpose, examples, and the options by subject."""
        formatter = self._get_formatter()
        shown = {name for names in self._sections.values() for name in names}
        for title, names in self._sections.items():
            self._add_section(formatter, title, [action for name in names for action in self._actions_named(name)])
        rest = [action for action in self._actions if not shown & {*action.option_strings, action.dest}]
        self._add_section(formatter, "other options" if shown else "options", rest)
        formatter.add_text(self.epilog)
        width = max(40, shutil.get_terminal_size().columns - 2)
        examples = [f"  {self.prog} {example}".rstrip() for example in self._examples]
        parts = [self.format_usage(), textwrap.fill(self.description or "", width, break_on_hyphens=False) + "\n"]
        parts += ["\n".join(["examples:", *examples, ""])] * bool(examples)
        return spelled("\n".join([*parts, formatter.format_help()]))

    def _actions_named(self, name: str) -> list[argparse.Action]:
        return [action for action in self._actions if name in (*action.option_strings, action.dest)]

    def _add_section(self, formatter: argparse.HelpFormatter, title: str, actions: Sequence[argparse.Action]) -> None:
        formatter.start_section(title)
        formatter.add_arguments(actions)
        formatter.end_section()

    def print_help(self, file: Any = None) -> None:
        """Print the help; a closed pipe ends the process quietly."""
        with exit_on_broken_pipe():
            super().print_help(file)

    def error(self, message: str) -> NoReturn:
        """Print ``message`` and exit."""
        if lacking := re.match(r"argument (?:\S+/)?--([\w-]+): expected (?:at least )?one argument", message):
            action = self._option_string_actions[f"--{lacking[1]}"]
            message = f"--{lacking[1]} needs a value; write --{lacking[1]} {action.metavar or 'VALUE'}"
        print(spelled(f"error: {message}; {self.prog} --help lists the options"), file=sys.stderr)
        raise SystemExit(2)

    def parse_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> Any:
        """Return the parsed options.

        Args:
            args: Words of the command line; those of this process by default.
            namespace: Receives the options; a new one by default.
        """
        if _capture.is_on:
            raise _Captured(self)
        try:
            words = as_flags(sys.argv[1:] if args is None else args, self)
        except UserError as error:
            self.error(str(error))
        options, unknown = self.parse_known_args(words, namespace)
        if unknown:
            parser = self._chosen(options)
            known = parser._option_string_actions
            parser.error(f"there is no option {unknown[0]}{suggestion(unknown[0].partition('=')[0], known)}")
        for action in (*self._actions, *self._chosen(options)._actions):
            if action.metavar in PATHS:  # a shell expands only a ~ that begins a word, not that of --model=~/x
                setattr(options, action.dest, _with_home(getattr(options, action.dest)))
        return options

    def _chosen(self, options: argparse.Namespace) -> argparse.ArgumentParser:
        """Return the parser of the subcommand in ``options``, or this one if there are no subcommands."""
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                parser: argparse.ArgumentParser = action.choices[getattr(options, action.dest)]
                return parser
        return self


class _Captured(BaseException):  # not an error: no handler of errors may stop it
    """Carries the parser out of a command that has built it."""

    def __init__(self, parser: CommandLine) -> None:
        super().__init__()
        self.parser = parser


class _Capture:
    is_on = False


_capture = _Capture()


def command_line_of(main: Callable[[], None]) -> CommandLine | None:
    """Return the parser of the entry point ``main``, which is stopped before it parses; None if it has none."""
    _capture.is_on = True
    try:
        main()
    except _Captured as captured:
        return captured.parser
    finally:
        _capture.is_on = False
    return None


class RunCommandLine(CommandLine):
    """The command line of a command that writes a run folder.

    Args:
        program: How the command is called.
        command: Name of the folder in RUNS that the command writes to.
        description: What the command does.
    """

    def __init__(self, program: str, command: str, description: str) -> None:
        super().__init__(program, description=description)
        self.command = command
        self.add_argument("--runs", metavar="FOLDER", default="runs", help="folder of all runs (default: %(default)s)")
        self.output = self.add_argument(
            "--output",
            metavar="FOLDER",
            type=Path,
            help=f"new folder for the results (default: RUNS/{command}/<time>, and RUNS/{command}/latest points to it)",
        )

    def parse(self) -> argparse.Namespace:
        """Parse the command line of this process.

        Returns:
            The options, with ``folder`` for the results and ``is_default_folder``, whether it is beside ``latest``.
        """
        options: argparse.Namespace = self.parse_args()
        options.is_default_folder = options.output is None
        options.folder = options.output or free_folder(Path(options.runs) / self.command)
        return options


def free_folder(parent: Path) -> Path:
    """Return a folder in ``parent`` named by the time; a run that started in the same second has a number added."""
    first = parent / f"{datetime.now():%Y-%m-%d_%H-%M-%S}"
    folder, number = first, 1
    while os.path.lexists(folder):
        number += 1
        folder = first.with_name(f"{first.name}_{number}")
    return folder


def _with_home(value: Any) -> Any:
    """Return a path or a list of paths, or None, with a ``~`` at the beginning replaced by the user's folder."""
    if isinstance(value, list):
        return [_with_home(part) for part in value]
    return type(value)(os.path.expanduser(value)) if isinstance(value, str | Path) else value


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
    """Return a converter for an argument that holds a list; the messages of its ValueErrors are shown as they are."""

    def convert(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return convert
