"""Starts the commands with configuration files: their help without Hydra, their options in either form."""

import os
import sys
from collections.abc import Callable
from typing import Any

from supernet.cli.broken_pipe import exit_on_broken_pipe
from supernet.cli.commands import COMMANDS
from supernet.cli.grammar import as_overrides
from supernet.cli.help_pages import config_folders, help_text
from supernet.cli.option_docs import all_options, command_page
from supernet.errors import UserError


def run_with_config(config_name: str, job: Callable[[dict[str, Any]], None]) -> None:
    """Call ``job`` with ``conf/<config_name>.yaml`` and the options of the command line, as plain values.

    ``--help`` prints the help and exits. The command line is put into Hydra's form in ``sys.argv``, because Hydra
    reads it there; errors end the process as :func:`supernet.cli.hydra_app.run_with_config` says.
    """
    command = next(command for command in COMMANDS if command.config == config_name)
    words = sys.argv[1:]
    options = all_options(command_page(config_name), config_folders(words))
    try:
        words = as_overrides(words, options)
    except UserError as error:
        if not {"--help", "-h"} & set(words):
            print(f"error: {error}; --help lists the options", file=sys.stderr)
            raise SystemExit(2) from None
    if {"--help", "-h"} & set(words):
        with exit_on_broken_pipe():
            print(help_text(command, words))
        raise SystemExit(0)
    sys.argv[1:] = [_absolute(word, words[place - 1 : place]) for place, word in enumerate(words)]

    from supernet.cli.hydra_app import run_with_config as run_with_hydra  # takes a third of a second

    run_with_hydra(config_name, job)


def _absolute(word: str, before: list[str]) -> str:
    """Return a word of the command line with the folder of ``--config-path`` made absolute.

    Hydra takes a relative one from the folder of the program.
    """
    flags = ("--config-path", "-cp")
    if before and before[0] in flags:
        return os.path.abspath(os.path.expanduser(word))
    name, sign, value = word.partition("=")
    return f"{name}={os.path.abspath(os.path.expanduser(value))}" if name in flags and sign else word
