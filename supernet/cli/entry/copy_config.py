"""Start a recipe of your own: ``litepose copy-config experiment=coco`` copies a file of ``conf`` (``--help``)."""

import argparse
import re
import shlex
from pathlib import Path

from supernet.cli.arguments import CommandLine
from supernet.cli.commands import COMMANDS, called, spelled
from supernet.cli.interrupts import command
from supernet.cli.option_docs import choices
from supernet.errors import UserError
from supernet.io import files
from supernet.io.conf_folder import CONF_FOLDER
from supernet.io.new_folder import check_new, new_folder

USED_BY = {"experiment": "train", "space": "train", "dataset": "train", "phases": "train", "constraint": "search"}
"""The groups of configuration files, and the command that an example of their use names."""


@command
def main() -> None:
    """Copy the file that the command line names, and say how to use it."""
    parser = CommandLine(
        "python -m supernet.cli.entry.copy_config",
        description="Copy a configuration file to a folder of your own, to change it there. The commands take it by "
        "its new name, with --config-dir.",
    )
    chosen = parser.add_mutually_exclusive_group(required=True)
    for group, user in USED_BY.items():
        names = sorted(choices(group))
        chosen.add_argument(
            f"--{group}", choices=names, metavar="NAME", help=f"conf/{group}/NAME.yaml, for {user}: {', '.join(names)}"
        )
    chosen.add_argument("--all", action="store_true", help="copy the whole folder conf, with the options' defaults")
    parser.add_argument("--name", metavar="NAME", help="name of the copy (default: my_ and the name)")
    parser.add_argument("--folder", metavar="FOLDER", default="recipes", help="where it goes (default: %(default)s)")
    parser.describe(
        ("experiment=coco", "--space nano --name tiny --folder mine"),
        {"what is copied": [*(f"--{group}" for group in USED_BY), "--all"], "where to": ("--folder", "--name")},
    )
    options = parser.parse_args()
    if options.all and options.name:
        parser.error("--name has no effect with --all, which keeps all names; leave it out")

    from supernet.cli.console import run_command

    run_command(lambda: _copy_all(Path(options.folder)) if options.all else _copy_one(options))


def _copy_one(options: argparse.Namespace) -> None:
    """Copy a file of a group."""
    group = next(group for group in USED_BY if getattr(options, group))
    source = choices(group)[getattr(options, group)]
    name = options.name or f"my_{source.stem}"
    if not re.fullmatch(r"[A-Za-z_][\w-]*", name):
        raise UserError(f"name must be of letters, digits, _ and -, got {name!r}")
    if name in choices(group):
        raise UserError(f"name {name} is that of a file of the package, which comes first; choose another")
    folder = Path(options.folder)
    target = folder / group / f"{name}.yaml"
    check_new(target)
    text = source.read_text(encoding="utf-8")
    if group == "space":  # its name is in every file about it
        text = re.sub(r"^name: .*$", f"name: {name}", text, count=1, flags=re.MULTILINE)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise files.refused(target, error) from error
    files.write_text(target, text)
    user = next(entry for entry in COMMANDS if entry.name == USED_BY[group])
    print(f"{target}\nto use it: {called(user)} {shlex.quote(f'--config-dir={folder}')} {group}={name}")


def _copy_all(folder: Path) -> None:
    """Copy all files, with the folders they are in."""
    with new_folder(folder) as copy:
        for source in sorted(CONF_FOLDER.rglob("*.yaml")):
            target = copy / source.relative_to(CONF_FOLDER)
            target.parent.mkdir(exist_ok=True)
            files.write_text(target, source.read_text(encoding="utf-8"))
    print(f"{folder}\nto use it: {spelled('python -m supernet.train')} {shlex.quote(f'--config-path={folder}')}")


if __name__ == "__main__":
    main()
