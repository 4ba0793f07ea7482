"""Help of the commands with configuration files, made from the comments in ``conf``. Imports nothing slow."""

import shutil
import textwrap
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from supernet.cli.commands import COMMANDS, SCRIPT, Command, called, spelled
from supernet.cli.option_docs import (
    Group,
    Option,
    Page,
    choices,
    command_page,
    first_sentence,
    group_options,
    read_page,
)

_WIDEST = 120
_COLUMN = 30
"""Where the meanings of options begin."""

_SHARED = (
    ("--config-dir=FOLDER", "look for configuration files of your own, such as FOLDER/experiment/NAME.yaml, too"),
    ("--cfg=job", "print the configuration and stop"),
    ("--multirun", "run once for each value of lists such as seed=0,1,2"),
    ("--help, -h", "show this text and stop; with dataset=coco, the options of that choice"),
)


def help_text(command: Command, words: Sequence[str] = ()) -> str:
    """Return the help of a command with configuration files.

    Args:
        command: The command.
        words: Its command line, in Hydra's form; the options of the choices in it are described.
    """
    assert command.config is not None
    page, folders = command_page(command.config), config_folders(words)
    chosen = chosen_groups(page, words)
    lines = [
        f"usage: {called(command)} [key=value ...]",
        "",
        *_wrapped(spelled(page.summary), 0),
        *("", "examples:", *(f"  {example}" for example in map(_example, page.examples))),
        *("", *_wrapped("Options with their defaults; --key value means the same as key=value.", 0)),
    ]
    for group in page.groups:
        lines += ["", *_group(group, folders)]
    for title, options in _sections(page, chosen, folders):
        lines += ["", f"{title}:", *(line for option in options for line in _entry(_shown(option), option.meaning))]
    lines += ["", "Configuration and help:", *(line for form, meaning in _SHARED for line in _entry(form, meaning))]
    return "\n".join(spelled(line) for line in lines)


def chosen_groups(page: Page, words: Sequence[str]) -> dict[str, str]:
    """Return the choice of each group of a command, as a command line has it."""
    given = dict(word.split("=", 1) for word in words if "=" in word)
    return {group.name: given.get(group.name, group.default) for group in page.groups}


def config_folders(words: Sequence[str]) -> tuple[Path, ...]:
    """Return the folders of configuration files that a command line adds with ``--config-dir``."""
    flags = ("--config-dir", "-cd")
    values = [value for word, value in pairwise(words) if word in flags]
    values += [word.partition("=")[2] for word in words if word.partition("=")[0] in flags and "=" in word]
    return tuple(Path(value).expanduser() for value in values)


def _example(example: str) -> str:
    """Return an example of ``conf``, which is written for the console script, for how this process was started."""
    script, name, *rest = example.split(" ", 2)
    module = next((command.module for command in COMMANDS if command.name == name), None)
    return spelled(f"python -m {module} {' '.join(rest)}") if script == SCRIPT and module else example


def _group(group: Group, folders: Sequence[Path]) -> Iterator[str]:
    """Yield the choices of a group of configuration files."""
    yield from _entry(f"{group.name}={group.default}", group.meaning, indent=0)
    for name, path in sorted(choices(group.name, folders).items()):
        yield from _entry(f"{group.name}={name}", first_sentence(read_page(path).summary))


def _sections(page: Page, chosen: dict[str, str], folders: Sequence[Path]) -> Iterator[tuple[str, list[Option]]]:
    """Yield headings and their options; what only holds other options, or has no description, is left out."""
    sections: dict[str, list[Option]] = {}
    for option in page.options:
        if option.default:
            sections.setdefault(option.section or "Options", []).append(option)
    for group, choice in chosen.items():
        options = [option for option in group_options(group, choice, folders) if option.default and option.meaning]
        if options:
            sections[f"Options of {group}={choice}"] = options
    yield from sections.items()


def _shown(option: Option) -> str:
    return f"{option.name}={option.default}"


def _entry(form: str, meaning: str, indent: int = 2) -> list[str]:
    """Return the lines of an option: its form, and its meaning in a column beside or below it."""
    lines = _wrapped(meaning, _COLUMN)
    head = " " * indent + form
    if not lines:
        return [head]
    return [f"{head:{_COLUMN}}{lines[0].lstrip()}", *lines[1:]] if len(head) < _COLUMN - 1 else [head, *lines]


def _wrapped(text: str, indent: int) -> list[str]:
    width = max(40, min(shutil.get_terminal_size().columns, _WIDEST) - 1)
    margin = " " * min(indent, width // 2)
    return textwrap.wrap(text, width, initial_indent=margin, subsequent_indent=margin, break_on_hyphens=False)
