"""The page of all options: every file of ``conf`` with its comments."""

from pathlib import Path

from supernet.io.conf_folder import CONF_FOLDER

COMMANDS = {
    "train": "supernet.train",
    "evolve": "search.evolve",
    "optuna_search": "search.optuna_search",
    "evaluate": "supernet.evaluate",
    "check": "supernet.pose.check",
}
"""The command of each file at the top of ``conf``."""
_INTRODUCTION = """# Configuration

Options are given as `key=value`, nested ones with dots (`augmentation.scale_min=0.8`), groups by the name of a file
(`space=nano`). The files below are those of this release; comments say what an option means. `null` means that an
option is not set.

From Python, options have the same names: `train(steps=2000, augmentation={"scale_min": 0.8})`.

A file of your own in `FOLDER/GROUP/NAME.yaml` becomes a choice with `--config-dir=FOLDER GROUP=NAME`.
"""


def page() -> str:
    """Return the page."""
    parts = [_INTRODUCTION]
    for name, command in COMMANDS.items():
        parts.append(f"## {command}\n\n{_block(CONF_FOLDER / f'{name}.yaml')}")
    for group in sorted(folder for folder in CONF_FOLDER.iterdir() if any(folder.glob("*.yaml"))):
        parts.append(f"## {group.name}\n")
        parts += [f"### {group.name}={path.stem}\n\n{_block(path)}" for path in sorted(group.glob("*.yaml"))]
    return "\n".join(parts)


def _block(path: Path) -> str:
    """Return a file without what only Hydra reads."""
    text = path.read_text(encoding="utf-8").partition("\nhydra:\n")[0].strip()
    lines = [line for line in text.splitlines() if "override hydra/" not in line and "@package" not in line]
    return "```yaml\n" + "\n".join(lines) + "\n```\n"
