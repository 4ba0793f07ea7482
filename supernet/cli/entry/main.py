"""The console script ``litepose``: lists the commands, or starts one of them.

It imports the module of a command only to start it, so that ``litepose --help`` answers at once.
"""

import os
import sys
from importlib import import_module
from pathlib import Path

from supernet.cli.commands import SCRIPT, Command, importable, installed, started_as_script
from supernet.cli.interrupts import INTERRUPTED
from supernet.errors import suggestion
from supernet.version import VERSION

EXAMPLES = (
    f"{SCRIPT} predict photo.jpg",
    f"{SCRIPT} train minutes=15",
    f"{SCRIPT} search constraint.macs=80M",
    f"{SCRIPT} export format=onnx",
)


def main() -> None:
    """Run the command that the first word of the command line names, as ``python -m`` would run its module."""
    started_as_script(True)
    _leave_working_folder_out()
    words = sys.argv[1:]
    if words[:1] == ["help"]:
        words = [*words[1:2], "--help"]
    try:
        if not words or words[0] in ("--help", "-h"):
            _print(overview())
        elif words[0] in ("--version", "-V"):
            _print(f"{SCRIPT} {VERSION}")
        else:
            _start(words)
    except KeyboardInterrupt:  # before a command handles it
        print("error: stopped by Ctrl-C", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    finally:
        started_as_script(False)


def overview() -> str:
    """Return the list of all commands by subject, with examples."""
    lines = [f"usage: {SCRIPT} COMMAND [key=value ... | --key value ...]", ""]
    lines += ["Train one weight-shared pose network and extract a model for every device.", "", "examples:"]
    lines += [f"  {example}" for example in EXAMPLES]
    parts: dict[str, list[Command]] = {}
    for command in installed().values():
        parts.setdefault(command.part, []).append(command)
    for part, commands in parts.items():
        lines += ["", f"{part}:", *(f"  {command.name:12} {command.purpose}" for command in commands)]
    lines += ["", f"{SCRIPT} COMMAND --help explains a command; {SCRIPT} --version prints the version."]
    return "\n".join(lines)


def _start(words: list[str]) -> None:
    """Start the command that the first word names, with the others as its command line."""
    known = installed()
    command = known.get(words[0])
    if command is None:
        if "=" in words[0] or words[0].startswith("-"):
            meant = suggestion(words[0], ("--help", "--version"), likeness=0.8)
            reason = f"{words[0]} is not a command{meant or f'; write {SCRIPT} COMMAND {words[0]}'}"
        else:
            reason = f"there is no command {words[0]}{suggestion(words[0], known)}"
        print(f"error: {reason}; {SCRIPT} --help lists the commands", file=sys.stderr)
        raise SystemExit(2)
    module = importable(command)
    assert module is not None, command
    before = sys.argv[:]
    sys.argv[:] = [f"{SCRIPT} {command.name}", *words[1:]]
    try:
        import_module(module).main()
    finally:
        sys.argv[:] = before


def _leave_working_folder_out() -> None:
    """Import nothing from the working folder, whose files may have the names of our packages, such as ``search.py``.

    ``litepose`` itself lies elsewhere, but an empty entry of ``PYTHONPATH`` adds the working folder.
    """
    ours, here = Path(__file__).resolve().parents[3], Path.cwd()
    if ours != here:
        sys.path[:] = [entry for entry in sys.path if entry and Path(os.path.abspath(entry)) != here]


def _print(text: str) -> None:
    from supernet.cli.broken_pipe import exit_on_broken_pipe

    with exit_on_broken_pipe():
        print(text)


if __name__ == "__main__":
    main()
