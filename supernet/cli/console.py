"""The terminal: output, logs, progress bars, and how a UserError ends a command."""

import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn, TextIO

from rich.console import Console
from rich.measure import Measurement
from rich.progress import Progress
from rich.segment import Segments
from rich.table import Table

from supernet.cli.broken_pipe import exit_on_broken_pipe
from supernet.cli.commands import spelled
from supernet.cli.interrupts import begin_work
from supernet.cli.progress import ProgressBars, ProgressLines
from supernet.errors import UserError, printable

CONSOLE = Console(markup=False, emoji=False, highlight=False)
"""Standard output. Markup is off, because the names of files, spaces and images that it prints may look like markup;
so is highlighting, which would colour parts of them."""

STDERR = Console(stderr=True, markup=False, emoji=False, highlight=False)
"""Standard error, for what commands show whose standard output is data."""

_WIDEST = 10_000

logger = logging.getLogger(__name__)

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
        text = "\n".join(printable(line) for line in spelled(self.format(record)).split("\n"))
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
    _keep_python_warnings_off_the_terminal()
    handler = _ConsoleHandler(console)
    for name in LOGGERS:
        logger = logging.getLogger(name)
        for previous in [other for other in logger.handlers if isinstance(other, _ConsoleHandler)]:
            logger.removeHandler(previous)
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)


def _keep_python_warnings_off_the_terminal() -> None:
    """Log the warnings of libraries for debugging only, unless Python's own options (``-W``) ask for them.

    They are addressed to programmers and name files and lines; what concerns a user is logged by this project.
    """
    if not sys.warnoptions:
        warnings.showwarning = _log_python_warning


def _log_python_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Takes the place of ``warnings.showwarning``."""
    logger.debug("%s: %s (%s, line %d)", category.__name__, message, filename, lineno)


def fail(error: UserError) -> NoReturn:
    """Print a user error on standard error and exit with status 2."""
    print(f"error: {spelled(str(error))}", file=sys.stderr)
    raise SystemExit(2)


@contextmanager
def explain_missing_operation() -> Iterator[None]:
    """Turn PyTorch's error about an operation that a device, such as Apple's MPS, does not have into a UserError."""
    try:
        yield
    except NotImplementedError as error:
        match = re.search(r"'(aten::[\w.]+)' is not currently implemented for the (\w+) device", str(error))
        if match is None:
            raise
        raise UserError(
            f"PyTorch has no {match[1]} for device {match[2].lower()} yet; set PYTORCH_ENABLE_MPS_FALLBACK=1, which "
            "computes it on the CPU, or use device=cpu"
        ) from error


def run_command(job: Callable[[], None], logs: Console = CONSOLE) -> None:
    """Run an entry point without configuration files and show its logs; a UserError ends it with exit status 2."""
    show_logs(logs)
    try:
        with exit_on_broken_pipe(), explain_missing_operation():
            begin_work()
            job()
    except UserError as error:
        fail(error)


@contextmanager
def console_shown(is_shown: bool) -> Iterator[None]:
    """Within the block, show what work prints and its progress, or nothing; warnings are logged either way."""
    before, CONSOLE.quiet = CONSOLE.quiet, not is_shown
    try:
        yield
    finally:
        CONSOLE.quiet = before


def progress_bar(console: Console = CONSOLE, *, disable: bool = False) -> Progress:
    """Return a display of progress with counts and times; tasks may show a ``note`` field. ``disable`` shows nothing.

    On a terminal it shows bars; elsewhere a line of plain text now and then (:mod:`supernet.cli.progress`).
    """
    disable = disable or console.quiet
    if disable or console.is_terminal:
        return ProgressBars(console=console, disable=disable)
    return ProgressLines(console)


def print_wide(table: Table) -> None:
    """Print a table that holds paths: where the terminal is too narrow, its lines wrap there, not inside its cells."""
    wide = CONSOLE.options.update(width=_WIDEST)
    width = max(CONSOLE.width, Measurement.get(CONSOLE, wide, table).maximum)
    CONSOLE.print(Segments(CONSOLE.render(table, wide.update(width=width))), soft_wrap=True, end="")
