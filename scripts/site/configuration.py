"""The page of all options: what the comments in ``conf`` say about each, and the files of every group."""

from collections.abc import Sequence
from pathlib import Path

from supernet.cli.commands import COMMANDS, SCRIPT
from supernet.cli.option_docs import Group, Option, command_page
from supernet.io.conf_folder import CONF_FOLDER

_INTRODUCTION = """# Configuration

Options are given as `key=value` or `--key value`, nested ones with dots (`augmentation.scale_min=0.8`), groups by the
name of a file (`space=nano`). `null` means that an option is not set. From Python, options have the same names:
`train(steps=2000, augmentation={"scale_min": 0.8})`.

A file of your own in `FOLDER/GROUP/NAME.yaml` becomes a choice with `--config-dir=FOLDER GROUP=NAME`.
"""


def page() -> str:
    """Return the page."""
    parts = [_INTRODUCTION]
    for command in (command for command in COMMANDS if command.config is not None):
        assert command.config is not None
        described = command_page(command.config)
        parts.append(f"## {SCRIPT} {command.name}\n\n{described.summary}\n")
        parts.append(_groups(described.groups))
        parts.append(_options(described.options))
    for group in sorted(folder for folder in CONF_FOLDER.iterdir() if any(folder.glob("*.yaml"))):
        parts.append(f"## {group.name}\n")
        parts += [f"### {group.name}={path.stem}\n\n{_block(path)}" for path in sorted(group.glob("*.yaml"))]
    return "\n".join(parts)


def _groups(groups: Sequence[Group]) -> str:
    """Return a table of the choices among files, each with a link to them."""
    rows = [f"| [`{group.name}`](#{group.name}) | `{group.default}` | {_cell(group.meaning)} |" for group in groups]
    return "\n".join(["| choice | default | meaning |", "|---|---|---|", *rows, ""]) if rows else ""


def _options(options: Sequence[Option]) -> str:
    """Return a table of options for each section."""
    parts: list[str] = []
    section = None
    for option in options:
        if option.section != section:
            section = option.section
            parts += ["", f"**{section}**" if section else "", "", "| option | default | meaning |", "|---|---|---|"]
        default = f"`{option.default}`" if option.default else ""
        parts.append(f"| `{option.name}` | {default} | {_cell(option.meaning)} |")
    return "\n".join([*parts, ""])


def _cell(text: str) -> str:
    """Return text that may stand in a table."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def _block(path: Path) -> str:
    """Return a file without what only Hydra reads."""
    text = path.read_text(encoding="utf-8").partition("\nhydra:\n")[0].strip()
    lines = [line for line in text.splitlines() if "override hydra/" not in line and "@package" not in line]
    return "```yaml\n" + "\n".join(lines) + "\n```\n"
