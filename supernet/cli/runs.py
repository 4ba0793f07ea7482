"""Run folders: their names, the `latest` link and `summary.json`."""

import os
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from supernet.compute import machine
from supernet.errors import UserError
from supernet.io import files


def create_run(runs: str | Path, command: str, name: str | None = None) -> Path:
    """Create ``runs/<command>/<name or time>``; of several runs in one second all but the first get a number.

    Raises:
        UserError: The folder exists already (a run never overwrites another) or cannot be made or written, or ``name``
            is not that of a folder.
    """
    if name is not None and (Path(name).name != name or name.startswith(".") or name == "latest"):
        raise UserError(f"name is {name!r}; it must be a plain folder name, not hidden and not 'latest'")
    first = Path(runs) / command / (name or f"{datetime.now():%Y-%m-%d_%H-%M-%S}")
    folder, number = first, 1
    while True:
        try:
            folder.mkdir(parents=True)
            break
        except FileExistsError:
            if name is not None or not folder.is_dir():
                raise UserError(f"the run folder {folder} exists already; choose another name or remove it") from None
            number += 1
            folder = first.with_name(f"{first.name}_{number}")
        except OSError as error:
            raise UserError(f"cannot create the run folder {folder}: {error.strerror}; choose another place") from error
    return folder


def discard_empty(folder: Path) -> None:
    """Remove the folder of a run that ended with nothing to show; one that holds anything stays."""
    with suppress(OSError):
        folder.rmdir()


def point_latest(folder: Path) -> None:
    """Let ``latest`` beside ``folder`` point to it, replacing the link in one step; for a run with something to show.

    What killed runs left half-written beside it is removed.

    Raises:
        UserError: Something else than a link is in its place, or there can be no links.
    """
    files.sweep(folder.parent)
    temporary, link = folder.parent / f".latest.tmp{os.getpid()}", folder.parent / "latest"
    try:
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(folder.name)
        os.replace(temporary, link)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(
            f"cannot let {link} point to {folder}: {error.strerror}; remove what is in its place"
        ) from error


def write_summary(folder: Path, summary: dict[str, Any]) -> None:
    """Write ``summary.json``: the run's figures plus the versions they were measured with."""
    files.write_json(folder / "summary.json", summary | {"versions": machine.versions()})
