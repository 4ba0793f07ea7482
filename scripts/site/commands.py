"""The page of all commands, as they answer ``--help``."""

import contextlib
import importlib
import io
import os
import sys

from scripts.site.configuration import COMMANDS as CONFIGURED

MODULES = (
    "subnet_export.__main__",
    "subnet_export.predict",
    "subnet_export.finetune",
    "subnet_export.benchmark",
    "subnet_export.import_litepose",
)
"""Commands without configuration files."""
LUT = ("build", "verify", "show", "merge", "kit")
"""Subcommands of ``search.lut``."""
_INTRODUCTION = """# Commands

Every command writes `runs/<command>/<time>/` with a `summary.json`, and `runs/<command>/latest` points to the newest
run. [Exit statuses](exit-status.md) are the same for all.
"""


def page() -> str:
    """Return the page."""
    parts = [_INTRODUCTION, "| command | what it does | options |", "|---|---|---|"]
    for name, module in CONFIGURED.items():
        anchor = module.replace(".", "")
        options = f"[`conf/{name}.yaml`](configuration.md#{anchor})"
        parts.append(f"| `python -m {module}` | {_purpose(module)} | {options} |")
    for module in (*MODULES, "search.lut.__main__", "supernet.doctor"):
        shown = module.removesuffix(".__main__")
        options = f"[below](#{shown.replace('.', '')})" if module != "supernet.doctor" else "none"
        parts.append(f"| `python -m {shown}` | {_purpose(module)} | {options} |")
    for module in MODULES:
        parts.append(f"\n## {module.removesuffix('.__main__')}\n\n```text\n{help_of(module)}```")
    parts.append("\n## search.lut\n")
    parts += [f"\n### search.lut {name}\n\n```text\n{help_of('search.lut.__main__', name)}```" for name in LUT]
    return "\n".join(parts) + "\n"


def help_of(module: str, *words: str) -> str:
    """Return what a command prints for ``--help``."""
    before, columns, shown = sys.argv, os.environ.get("COLUMNS"), io.StringIO()
    sys.argv, os.environ["COLUMNS"] = [module, *words, "--help"], "88"
    try:
        with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
            importlib.import_module(module).main()
    finally:
        sys.argv = before
        if columns is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = columns
    return shown.getvalue()


def _purpose(module: str) -> str:
    """Return the first sentence of a module's docstring without the command in it."""
    text = (importlib.import_module(module).__doc__ or "").strip().splitlines()[0]
    return text.partition(": ``")[0].rstrip(".")
