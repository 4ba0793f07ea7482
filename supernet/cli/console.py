"""The terminal: output, logs, progress bars, and how a UserError ends a command."""

import logging
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from supernet.cli.broken_pipe import exit_on_broken_pipe
from supernet.cli.interrupts import begin_work
from supernet.errors import UserError, printable

CONSOLE = Console(markup=False, emoji=False)
"""Standard output. Markup is off, because the names of files, spaces and images that it prints may look like markup."""

LOGGERS = ("supernet", "search", "subnet_export")
"""Parent loggers of all modules of this project."""


class _ConsoleHandler(logging.Handler):
    """Shows information as plain lines on a console, and warnings on standard error, each different one once.

    Of several processes, only that of rank 0 shows information; every process shows its warnings.

    Args:
        console: Shows the information.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self._console = console
        self._warnings: set[tuple[str, str]] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Show ``record``; errors of writing, such as a closed output, end the command as those of ``print`` do."""
        text = "\n".join(printable(line) for line in self.format(record).split("\n"))
        if record.levelno < logging.WARNING:
            if os.environ.get("RANK", "0") == "0":
                self._console.print(text, highlight=False, soft_wrap=True)
        elif (record.name, text) not in self._warnings:
            self._warnings.add((record.name, text))
            level = "warning" if record.levelno < logging.ERROR else "error"
            print(f"{level}: {text}", file=sys.stderr)


def show_logs(console: Console = CONSOLE) -> None:
    """Show what this project's modules log, from level INFO, as a command's output.

    Commands call this when they start. Programs that use the modules as a library do not need it: without it the
    records go where the standard ``logging`` module sends them. A second call replaces the first.

    Args:
        console: Shows information; warnings go to standard error.
    """
    handler = _ConsoleHandler(console)
    for name in LOGGERS:
        logger = logging.getLogger(name)
        for previous in [other for other in logger.handlers if isinstance(other, _ConsoleHandler)]:
            logger.removeHandler(previous)
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)


def fail(error: UserError) -> NoReturn:
    """Print a user error on standard error and exit with status 2."""
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(2)


def run_command(job: Callable[[], None]) -> None:
    """Run an entry point without configuration files and show its logs; a UserError ends it with exit status 2."""
    show_logs()
    try:
        with exit_on_broken_pipe():
            begin_work()
            job()
    except UserError as error:
        fail(error)


def progress_bar(console: Console = CONSOLE, *, disable: bool = False) -> Progress:
    """Return a progress bar with counts and times; tasks may show a ``note`` field. ``disable`` shows nothing."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=console,
        disable=disable,
    )
