"""What ``conf`` says about each option: its meaning, its default and its section, read from the comments.

The files are read as text, line by line, in the form that this project writes them in: a comment at the head of a file
describes it and may hold examples, a comment alone at the left margin begins a section, and the comment behind an
option says what it means, with its unit, and goes on in the lines below. Imports nothing slow.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from supernet.io.conf_folder import CONF_FOLDER

_OPTION = re.compile(r"( *)([A-Za-z_]\w*):(?: +(.*))?$")
_GROUP = re.compile(r"\s+- (\w+): *([\w-]+) *(?:# *(.*))?$")
_BASE = re.compile(r"\s+- (\w+)$")
_VALUE = re.compile(r"""(?:'[^']*'|"[^"]*"|(?!(?:^|(?<=\s))#).)*""")
"""A value: in quotes, or up to a # behind a space."""
_PAIR = re.compile(r"(\w+): *((?:\[[^\]]*\]|'[^']*'|[^,\[\]'])+)")


@dataclass(frozen=True)
class Option:
    """An option of a command.

    Attributes:
        name: Its name, with dots for nested ones.
        default: Its value in the file, as it is written there; "" for what only holds other options.
        meaning: What it means.
        section: The heading that it is under.
    """

    name: str
    default: str
    meaning: str
    section: str


@dataclass(frozen=True)
class Group:
    """A choice among the files of a folder of ``conf``: its default ("null" for none) and what is chosen."""

    name: str
    default: str
    meaning: str


@dataclass(frozen=True)
class Page:
    """A file of ``conf``."""

    summary: str
    examples: tuple[str, ...]
    bases: tuple[str, ...]
    groups: tuple[Group, ...]
    options: tuple[Option, ...]


def read_page(path: Path) -> Page:
    """Read a file of ``conf``, without the files that it is based on."""
    reader = _Reader()
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        text = line.strip()
        if text.startswith("#"):
            reader.read_comment(text, is_aside=line != text)
        elif match := _OPTION.match(line):
            reader.read_option(len(match[1]), match[2], *_value_and_comment(match[3] or ""))
        elif text.startswith("- "):
            reader.read_item(line)
    return reader.page()


@dataclass
class _Parent:
    """What lines further to the right belong to: an option, or with the key "-" the entry of a list."""

    indent: int
    key: str
    comment: str


class _Reader:
    """Takes the lines of a file one by one."""

    def __init__(self) -> None:
        self._head: list[str] = []
        self._bases: list[str] = []
        self._groups: list[Group] = []
        self._options: list[Option] = []
        self._parents: list[_Parent] = []
        self._section = ""
        self._part = "head"

    def read_comment(self, text: str, is_aside: bool) -> None:
        """Take a line that is only a comment; one aside goes on with that of the line above."""
        words = text.lstrip("#").strip()
        if self._part == "head":
            self._head.append(text[1:])
        elif not is_aside:
            self._section = words
        elif self._part == "options" and self._options:
            self._options[-1] = replace(self._options[-1], meaning=f"{self._options[-1].meaning} {words}")
        elif self._part == "defaults" and self._groups:
            self._groups[-1] = replace(self._groups[-1], meaning=f"{self._groups[-1].meaning} {words}")

    def read_option(self, indent: int, key: str, value: str, comment: str) -> None:
        """Take the line of an option."""
        if indent == 0:
            self._part = key if key in ("defaults", "hydra") else "options"
        if self._part == "defaults":
            self._bases += re.findall(r"[\w-]+", value)
        if self._part != "options":
            return
        self._leave(indent)
        if any(parent.key == "-" for parent in self._parents):
            return  # part of a list
        name = ".".join([*(parent.key for parent in self._parents), key])
        inherited = next((parent.comment for parent in reversed(self._parents) if parent.comment), "")
        for nested, default in _flattened(name, value):
            self._options.append(Option(nested, default, comment or inherited, self._section))
        self._parents.append(_Parent(indent, key, comment))

    def read_item(self, line: str) -> None:
        """Take the line of an entry of a list, which belongs to its option, or to the list of defaults."""
        if self._part == "defaults":
            if group := _GROUP.match(line):
                self._groups.append(Group(group[1], group[2], group[3] or ""))
            elif (base := _BASE.match(line)) and base[1] != "_self_":
                self._bases.append(base[1])
        elif self._part == "options":
            indent = len(line) - len(line.lstrip())
            self._leave(indent)
            self._parents.append(_Parent(indent, "-", ""))

    def page(self) -> Page:
        """Return what was read."""
        summary, examples = _summary_and_examples(self._head)
        return Page(summary, examples, tuple(self._bases), tuple(self._groups), tuple(self._options))

    def _leave(self, indent: int) -> None:
        """Forget the parents of which a line with this indent is no part."""
        while self._parents and self._parents[-1].indent >= indent:
            self._parents.pop()


def command_page(config: str) -> Page:
    """Return what ``conf/<config>.yaml`` says about a command."""
    return read_page(CONF_FOLDER / f"{config}.yaml")


def choices(group: str, folders: Sequence[Path] = ()) -> dict[str, Path]:
    """Return the files to choose among for a group, by name; ``folders`` hold more, as ``--config-dir`` adds them."""
    paths = [path for folder in (CONF_FOLDER, *folders) for path in sorted((folder / group).glob("*.yaml"))]
    return {path.stem: path for path in reversed(paths)}


def group_options(group: str, choice: str, folders: Sequence[Path] = ()) -> tuple[Option, ...]:
    """Return the options of a chosen file of a group, with those of the files that it is based on."""
    path = choices(group, folders).get(choice)
    if path is None:
        return ()
    page, options = read_page(path), dict[str, Option]()
    if any(line.startswith("# @package _global_") for line in path.read_text(encoding="utf-8").splitlines()[:1]):
        return ()  # it sets options of the command
    for base in page.bases:
        if base != choice:
            options |= {option.name: option for option in group_options(group, base, folders)}
    for option in page.options:
        name = f"{group}.{option.name}"
        meaning = option.meaning or (options[name].meaning if name in options else "")
        options[name] = Option(name, option.default, meaning, option.section)
    return tuple(options.values())


def all_options(page: Page, folders: Sequence[Path] = ()) -> Mapping[str, str]:
    """Return the defaults of all options of a command by name, those of every choice of its groups among them."""
    known = {option.name: option.default for option in page.options}
    known |= {group.name: group.default for group in page.groups}
    for group in page.groups:
        for choice in sorted(choices(group.name, folders), key=lambda name: name == group.default):
            known |= {option.name: option.default for option in group_options(group.name, choice, folders)}
    return known


def first_sentence(text: str) -> str:
    """Return the first sentence of ``text``."""
    return re.split(r"(?<=\.)\s", text, maxsplit=1)[0]


def _value_and_comment(text: str) -> tuple[str, str]:
    """Split what follows ``key:`` at the comment."""
    value = _VALUE.match(text)
    assert value is not None, "it may be empty"
    return value[0].strip(), text[value.end() :].strip("# \t")


def _flattened(name: str, value: str) -> list[tuple[str, str]]:
    """Return an option as it is, or the options inside a mapping on one line."""
    if value.startswith("{") and value.count("{") == 1 and (pairs := _PAIR.findall(value.strip("{}"))):
        return [(f"{name}.{key}", inner.strip()) for key, inner in pairs]
    return [(name, value)]


def _summary_and_examples(lines: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """Return description and examples of the comment at the head of a file."""
    examples = tuple(line.strip() for line in lines if line.startswith("   ") and line.strip())
    rest = [line.strip() for line in lines if not line.startswith("   ")]
    return " ".join(line for line in rest if line and not line.startswith(("@package", "Examples:"))), examples
