"""The table of all commands: the name after ``litepose``, the module behind it, and what it does.

It names modules by text, because nothing of it may be imported before a command is chosen.
"""

import importlib.util
import re
from contextlib import suppress
from dataclasses import dataclass

SCRIPT = "litepose"
"""Name of the console script."""


@dataclass(frozen=True)
class Command:
    """A command.

    Attributes:
        name: Name after ``litepose``.
        module: Module with a function ``main`` for ``python -m``.
        purpose: What it does, in a few words.
        part: Heading in the list of commands.
        config: Name of its file in ``conf``; None for a command without configuration files.
    """

    name: str
    module: str
    purpose: str
    part: str
    config: str | None = None


MAKE, USE, CHECK, SHARE = "Make a model", "Use a model", "Measure and check", "Your own recipes"
COMMANDS = (
    Command("train", "supernet.train", "train a supernet", MAKE, "train"),
    Command("search", "search.evolve", "find the best subnet within a budget, by evolution", MAKE, "evolve"),
    Command("optuna", "search.optuna_search", "the same with Optuna's samplers", MAKE, "optuna_search"),
    Command("export", "subnet_export", "write a subnet as a model, in any format", MAKE),
    Command("finetune", "subnet_export.finetune", "train an exported model further", MAKE),
    Command("import", "subnet_export.import_litepose", "take a checkpoint of the published LitePose code", MAKE),
    Command("predict", "subnet_export.predict", "find people in images, videos or a camera's images", USE),
    Command("serve", "subnet_export.serve", "open the browser page of a model", USE),
    Command("publish", "subnet_export.publish", "share a model or a supernet on the Hugging Face Hub", USE),
    Command("evaluate", "supernet.evaluate", "measure the AP of a subnet or a model", CHECK, "evaluate"),
    Command("benchmark", "subnet_export.benchmark", "measure latency and throughput", CHECK),
    Command("lut", "search.lut", "latency tables: build, verify, show, kit, merge, transfer, benchncnn", CHECK),
    Command("report", "search.report", "compare finished searches on one page", CHECK),
    Command("check", "supernet.pose.check", "check a data set for faults", CHECK, "check"),
    Command("doctor", "supernet.doctor", "show versions, devices and packages", CHECK),
    Command("copy-config", "supernet.cli.entry.copy_config", "start a recipe of your own from one in conf", SHARE),
    Command("completion", "supernet.cli.entry.completion", "print the completion script of a shell", SHARE),
)
"""All commands, in the order of their list; those whose module is not installed are not shown."""


class _Start:
    """How this process was started."""

    is_script = False


_start = _Start()


def importable(command: Command) -> str | None:
    """Return the name of the module that holds ``main``; None where it is not installed."""
    with suppress(ModuleNotFoundError):
        spec = importlib.util.find_spec(command.module)
        if spec is not None and spec.submodule_search_locations is None:
            return command.module
        if spec is not None and importlib.util.find_spec(f"{command.module}.__main__") is not None:
            return f"{command.module}.__main__"
    return None


def installed() -> dict[str, Command]:
    """Return the commands that can run here, by name."""
    return {command.name: command for command in COMMANDS if importable(command) is not None}


def started_as_script(is_script: bool) -> None:
    """Note whether this process is ``litepose`` rather than ``python -m``, so that messages name commands so."""
    _start.is_script = is_script


def spelled(text: str) -> str:
    """Return ``text`` with its commands written as this process was started.

    Messages name commands as ``python -m MODULE``, which works everywhere; a user of ``litepose`` reads
    ``litepose NAME``.
    """
    if not _start.is_script:
        return text
    names = {command.module: command.name for command in COMMANDS}

    def renamed(match: re.Match[str]) -> str:
        return f"{SCRIPT} {names[match[1]]}" if match[1] in names else match[0]

    return re.sub(r"python -m ([A-Za-z_]\w*(?:\.\w+)*)", renamed, text)


def called(command: Command) -> str:
    """Return how ``command`` is called in this process: ``python -m MODULE`` or ``litepose NAME``."""
    return spelled(f"python -m {command.module}")
