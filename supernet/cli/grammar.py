"""One grammar for all commands: ``key=value`` and ``--key value`` mean the same everywhere.

Commands with configuration files take what :func:`as_overrides` makes of a command line, the others what
:func:`as_flags` makes of it. A word that is in neither form is answered with the right one. Imports nothing slow.
"""

import argparse
import os
import re
from collections.abc import Iterable, Mapping

from supernet.errors import UserError, suggestion

HYDRA_FLAGS = {
    **dict.fromkeys(("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn"), True),
    **dict.fromkeys(("--config-dir", "-cd", "--experimental-rerun", "--info", "-i"), True),
    **dict.fromkeys(("--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r"), False),
    **dict.fromkeys(("--multirun", "-m", "--shell-completion", "-sc"), False),
}
"""Options of Hydra itself, and whether a value follows."""

_SWITCH_VALUES = ("true", "false", "null")
_KEY = re.compile(r"[A-Za-z_][\w.-]*$")


def as_overrides(words: Iterable[str], options: Mapping[str, str]) -> list[str]:
    """Return a command line in Hydra's form, in which options are ``key=value``.

    Args:
        words: The command line.
        options: Names of all options, nested ones with dots, with their defaults. ``--flip-test`` alone switches an
            option on whose default is true or false, ``--no-flip-test`` off.

    Returns:
        Hydra's own options, then the others: Hydra refuses one of its own between two others.

    Raises:
        UserError: A word is neither an option with a value nor one of Hydra's own.
    """
    rest, flags, result = list(words), list[str](), list[str]()
    while rest:
        word = rest.pop(0)
        name, sign, value = word.partition("=")
        if name in HYDRA_FLAGS:
            flags.append(word)
            if HYDRA_FLAGS[name] and not sign and rest:
                flags.append(rest.pop(0))
        elif word.startswith("--"):
            result.append(_override(word[2:], rest, options))
        elif word.startswith("-"):
            known = _resolved(name.lstrip("-"), options)
            if known is None:
                raise UserError(f"there is no option {name}{suggestion(name, [*HYDRA_FLAGS, *options])}")
            raise UserError(f"{word} is not an option; write {_example(known, options, [value, *rest])}")
        elif sign and _KEY.match(name):
            if not value and rest and "=" not in rest[0] and not rest[0].startswith("-"):
                raise UserError(f"{word} {rest[0]} is not an option; write {_example(name, options, rest)}")
            result.append(f"{_resolved(name, options) or name}={value}")
        elif sign or word.startswith("~"):  # Hydra's own forms: +key=value, ~key, group@place=choice
            result.append(word)
        else:
            raise UserError(_stray(word, rest, options))
    return [*flags, *result]


def option_of(override: str) -> str:
    """Return the option that ``override``, in Hydra's form (``key=value``, ``+key=value``, ``~key``), sets."""
    return override.lstrip("+~").partition("=")[0]


def _override(flag: str, rest: list[str], options: Mapping[str, str]) -> str:
    """Return ``key=value`` for ``--flag`` (without the dashes), whose value may be the first word of ``rest``."""
    name, sign, value = flag.partition("=")
    known = _resolved(name, options)
    if sign:
        return f"{known or name.replace('-', '_')}={value}"
    if known is None and name.startswith("no-") and options.get(_resolved(name[3:], options) or "") in _SWITCH_VALUES:
        return f"{_resolved(name[3:], options)}=false"
    default = options.get(known or "", "")
    if default in ("true", "false"):
        return f"{known}={rest.pop(0) if rest and rest[0] in _SWITCH_VALUES else 'true'}"
    begins = rest[0].partition("=")[0] if rest else ""
    if not rest or rest[0].startswith("--") or ("=" in rest[0] and _resolved(begins, options) is not None):
        if known is None:
            flags = [f"--{option.replace('_', '-')}" for option in options]
            raise UserError(f"there is no option --{name}{suggestion(f'--{name}', [*flags, *HYDRA_FLAGS])}")
        if default == "null":  # such as flip_test, which is as it was when the weights were measured
            return f"{known}=true"
        raise UserError(f"--{name} needs a value; write {_example(known, options, [])}")
    return f"{known or name.replace('-', '_')}={rest.pop(0)}"


def _resolved(name: str, options: Mapping[str, str]) -> str | None:
    """Return the option that is meant by a name with dashes, or with dashes in place of dots; None if there is none."""
    plain = name.replace("-", "_")
    for known in (name, plain):
        if known in options:
            return known
    return next((option for option in options if option.replace(".", "_") == plain), None)


def _stray(word: str, rest: list[str], options: Mapping[str, str]) -> str:
    """Return the message about a word that is no option."""
    known = _resolved(word.rstrip(":"), options)
    if known is not None:
        return f"{word} has no value here; write {_example(known, options, rest)}"
    return f"{word!r} is not an option{suggestion(word, options)}; write key=value, such as {_first(options)}"


def _example(name: str, options: Mapping[str, str], rest: list[str]) -> str:
    """Return an option in the right form, with the value that was meant if it is among the next words."""
    given = next((word for word in rest[:2] if word not in ("", "=", ":") and not word.startswith("-")), None)
    known = _resolved(name, options) or name
    default = options.get(known, "")
    value = given.lstrip("=") if given is not None else (default if default not in ("", "null") else "VALUE")
    return f"{known}={value}"


def _first(options: Mapping[str, str]) -> str:
    """Return an example of an option: the first with a number."""
    return next((f"{name}={value}" for name, value in options.items() if re.fullmatch(r"\d+", value)), "key=value")


def as_flags(words: Iterable[str], parser: argparse.ArgumentParser) -> list[str]:
    """Return a command line in the form of ``argparse``, in which options are ``--key value``.

    A word ``key=value`` is an option if the parser has one of this name and no file has the word as its path. Words
    ``dataset.KEY=VALUE`` stay as they are where the parser takes them, and ``--dataset.KEY VALUE`` becomes such a word.

    Raises:
        UserError: A word is an option's name without a value, or ``key=value`` of an option that does not exist.
    """
    rest, result, lists = list(words), list[str](), list[str]()
    while rest:
        word = rest.pop(0)
        commands = _commands(parser)
        if word in commands:
            return [*result, word, *as_flags(rest, commands[word])]
        if word == "--":
            return [*result, *lists, word, *rest]
        name, sign, value = word.partition("=")
        action, flag = _action(parser, name)
        takes_overrides = any(action.dest == "overrides" for action in parser._actions)
        if takes_overrides and re.match(r"(--)?dataset\.", word):
            is_complete = sign or not word.startswith("-")
            result.append(word.lstrip("-") if is_complete else f"{word[2:]}={rest.pop(0) if rest else ''}")
        elif action is None or (not word.startswith("-") and (not sign or os.path.exists(word))):
            _check_word(word, rest, parser, takes_overrides)
            result.append(word)
        elif action.nargs == 0:
            wanted = value if sign else (rest.pop(0) if rest and rest[0] in ("true", "false") else "true")
            if wanted not in ("true", "false"):
                raise UserError(f"{flag} is true or false, got {wanted!r}")
            result += [flag] if wanted == "true" else []
        elif action.nargs is not None:  # a list; at the end, where it takes no word that belongs to the command
            values = re.sub(r"^\[(.*)\]$", r"\1", value).split(",") if sign else []
            while not sign and rest and not rest[0].startswith("--") and not _is_assignment(rest[0], parser):
                values.append(rest.pop(0))
            lists += [flag, *values]
        else:
            result.append(f"{flag}={value}" if sign else flag)
            if not sign and rest:
                result.append(rest.pop(0))
    return [*result, *lists]


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the parsers of the subcommands of ``parser``."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _action(parser: argparse.ArgumentParser, name: str) -> tuple[argparse.Action | None, str]:
    """Return the action of an option, with dashes before it or not, and how the parser spells it."""
    flags = parser._option_string_actions
    if name in flags:
        return flags[name], name
    flag = f"--{name.lstrip('-').replace('_', '-').replace('.', '-')}"
    return flags.get(flag), flag


def _is_assignment(word: str, parser: argparse.ArgumentParser) -> bool:
    name, sign, _ = word.partition("=")
    return bool(sign) and _action(parser, name)[0] is not None


def _check_word(word: str, rest: list[str], parser: argparse.ArgumentParser, takes_overrides: bool) -> None:
    """Raise UserError for a word that is meant as an option but is not in its form."""
    name, sign, _ = word.partition("=")
    if word.startswith("-") or os.path.exists(word):
        return
    action, flag = _action(parser, name)
    if action is not None and not sign:
        value = rest[0] if rest and not rest[0].startswith("-") else (action.metavar or "VALUE")
        form = flag if action.nargs == 0 else f"{flag} {value} or {flag[2:].replace('-', '_')}={value}"
        raise UserError(f"{word} is not an option; write {form}")
    if not sign or not _KEY.match(name) or name.startswith("dataset."):
        return
    known = [option[2:].replace("-", "_") for option in parser._option_string_actions if option.startswith("--")]
    similar = suggestion(name, known)
    if takes_overrides or similar:
        raise UserError(f"there is no option {name}{similar}")
