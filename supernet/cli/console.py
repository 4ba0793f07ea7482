"""The terminal: console, progress bars, and how user errors end a command."""

import sys
from collections.abc import Callable
from typing import NoReturn

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from supernet.cli.broken_pipe import exit_on_broken_pipe
from supernet.errors import UserError

CONSOLE = Console(markup=False, emoji=False)
"""Where people read. Names of files, spaces and images stand in what it prints, so that nothing of it is markup."""


def fail(error: UserError) -> NoReturn:
    """Print a user's mistake as one sentence on standard error and exit with status 2."""
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(2)


def run_command(job: Callable[[], None]) -> None:
    """Run an entry point without configuration files; UserErrors end in one sentence and exit status 2."""
    try:
        with exit_on_broken_pipe():
            job()
    except UserError as error:
        fail(error)


def progress_bar(console: Console = CONSOLE) -> Progress:
    """Return a progress bar with counts and times; tasks may show a ``note`` field."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=console,
    )
