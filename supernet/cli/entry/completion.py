"""Shell completion: ``litepose completion bash`` prints a script that asks ``litepose completion words`` for words.

Nothing slow is imported for an answer: the options of a command come from ``conf``, or from its parser.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib import import_module

from supernet.cli.arguments import CommandLine, command_line_of
from supernet.cli.commands import SCRIPT, Command, importable, installed
from supernet.cli.entry.shells import SHELLS
from supernet.cli.grammar import as_overrides
from supernet.cli.help_pages import chosen_groups, config_folders
from supernet.cli.interrupts import command
from supernet.cli.option_docs import all_options, choices, command_page, group_options
from supernet.errors import UserError

WORDS = "words"
"""First word of the command line by which a shell asks."""


@command
def main() -> None:
    """Print the script of a shell, or what may come next in a command line."""
    if sys.argv[1:2] == [WORDS]:
        print("".join(f"{word}\n" for word in candidates(sys.argv[2:])), end="")
        return
    parser = CommandLine(
        f"{SCRIPT} completion",
        description="Print the completion script of a shell: commands, options, and the names of configurations.",
        epilog=" ".join(f"For {shell.name}: {shell.how}." for shell in SHELLS.values()),
    )
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help=", ".join(SHELLS))
    parser.describe(("bash", "fish | source"))
    options = parser.parse_args()
    print(SHELLS[options.shell].script, end="")


def candidates(words: Sequence[str]) -> list[str]:
    """Return the words that may stand where the last of ``words`` is, which they begin with; option names end in "=".

    Args:
        words: The words after ``litepose``; the last one is not complete, and may be empty.
    """
    known = installed()
    last = words[-1] if words else ""
    if len(words) < 2:
        possible = iter([*known, "--help", "--version"])
    elif words[0] not in known:
        possible = iter([])
    elif known[words[0]].config is not None:
        possible = _options_of_config(known[words[0]], words[1:])
    else:
        possible = _options_of_parser(known[words[0]], words[1:])
    return sorted({word for word in possible if word.startswith(last)})


def _options_of_config(command: Command, words: Sequence[str]) -> Iterator[str]:
    """Yield what may come next in the command line of a command with configuration files."""
    assert command.config is not None
    page, folders = command_page(command.config), config_folders(words)
    options = all_options(page, folders)
    chosen = chosen_groups(page, words)
    with suppress(UserError):  # as it is for "--steps" alone, whose value comes next
        chosen = chosen_groups(page, as_overrides(words[:-1], options))
    described = [option for group in chosen.items() for option in group_options(*group, folders) if option.meaning]
    groups = {group.name for group in page.groups}
    own = [option.name for option in (*page.options, *described) if option.default]
    last, before = words[-1], words[-2] if len(words) > 1 else ""
    name, sign, _ = last.partition("=")
    asked = (name if sign else before if before.startswith("--") and "=" not in before else "").lstrip("-")
    asked = asked.replace("-", "_")
    if asked in groups or options.get(asked) in ("true", "false"):
        values = choices(asked, folders) if asked in groups else ("true", "false")
        yield from (f"{name}={value}" if sign else value for value in values)
    if sign or (asked in options and options[asked] not in ("true", "false")):
        return
    names = [*groups, *own]
    if last.startswith("-"):
        yield from (f"--{option.replace('_', '-')}" for option in names)
        yield from ("--config-dir", "--help", "--multirun")
    else:
        yield from (f"{option}=" for option in names)


def _options_of_parser(command: Command, words: Sequence[str]) -> Iterator[str]:
    """Yield what may come next in the command line of a command without configuration files."""
    module = importable(command)
    if module == __name__:
        yield from SHELLS
        return
    parser: argparse.ArgumentParser | None = command_line_of(import_module(module).main) if module else None
    if parser is None:
        return
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            chosen = next((word for word in words[:-1] if word in action.choices), None)
            if chosen is None:
                yield from action.choices
                return
            parser = action.choices[chosen]
    assert parser is not None
    flags = {flag[2:]: action for flag, action in parser._option_string_actions.items() if flag.startswith("--")}
    last, before = words[-1], words[-2] if len(words) > 1 else ""
    name, sign, _ = last.partition("=")
    asked = flags.get((name if sign else before if before.startswith("--") else "").lstrip("-").replace("_", "-"))
    if asked is not None and (sign or asked.nargs != 0):
        values = asked.choices or (("true", "false") if asked.nargs == 0 else ())
        yield from (f"{name}={value}" if sign else str(value) for value in values)
    elif last.startswith("-"):
        yield from (f"--{flag}" for flag in flags)
    else:
        yield from (f"{flag}=" for flag in flags if flag != "help")


if __name__ == "__main__":
    main()
