"""The page of all commands, as they answer ``--help``."""

import contextlib
import io
import os
import sys

from supernet.cli.commands import SCRIPT, Command, installed
from supernet.cli.entry.main import main

LUT = ("build", "verify", "show", "kit", "merge", "transfer", "benchncnn")
"""Subcommands of ``litepose lut``."""
COLUMNS = "88"
_INTRODUCTION = """# Commands

`litepose COMMAND` and `python -m MODULE` are the same. Options are `key=value` or `--key value` everywhere;
`litepose COMMAND --help` explains them, `litepose completion SHELL` prints a completion script, and
`litepose copy-config` starts a recipe of your own.

Commands that compute write `runs/<command>/<time>/` with a `summary.json`, and `runs/<command>/latest` points to the
newest run. [Exit statuses](exit-status.md) are the same for all.
"""


def page() -> str:
    """Return the page."""
    parts = [_INTRODUCTION, "| command | what it does | module |", "|---|---|---|"]
    for command in installed().values():
        place = "configuration.md" if command.config else ""
        parts.append(f"| [`{SCRIPT} {command.name}`]({place}#{SCRIPT}-{command.name}) | {_text(command)} |")
    for command in installed().values():
        if command.config is None:
            parts.append(f"\n## {SCRIPT} {command.name}\n")
            if command.name == "lut":
                parts += [f"\n### {name}\n\n{help_of(command.name, name)}" for name in LUT]
            else:
                parts.append(help_of(command.name))
    return "\n".join(parts) + "\n"


def help_of(*words: str) -> str:
    """Return what ``litepose`` prints for a command and ``--help``, as a block of text."""
    before, columns, shown = sys.argv, os.environ.get("COLUMNS"), io.StringIO()
    sys.argv, os.environ["COLUMNS"] = [SCRIPT, *words, "--help"], COLUMNS
    try:
        with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
            main()
    finally:
        sys.argv = before
        if columns is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = columns
    return f"```text\n{shown.getvalue().rstrip()}\n```\n"


def _text(command: Command) -> str:
    """Return purpose and module of a command."""
    return f"{command.purpose} | `{command.module}`"
