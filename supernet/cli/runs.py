"""Run folders: their names, the `latest` link and `summary.json`."""

import errno
import logging
import os
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from supernet.compute import machine
from supernet.errors import UserError
from supernet.io import files
from supernet.io.metric_values import with_null

_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS})
"""What file systems without symbolic links (exFAT, some SMB mounts) answer when one is made."""

logger = logging.getLogger(__name__)


def planned_run(runs: str | Path, command: str, name: str | None) -> Path:
    """Return the folder ``runs/<command>/<name or time>``; call it before the work whose results go there.

    Raises:
        UserError: As :func:`create_run`, except that the folder is not created yet.
    """
    if name is not None and (Path(name).name != name or name.startswith(".") or name == "latest"):
        raise UserError(f"name must be a plain folder name, not hidden and not 'latest', got {name!r}")
    folder = Path(runs) / command / (name or f"{datetime.now():%Y-%m-%d_%H-%M-%S}")
    if name is not None and os.path.lexists(folder):
        raise UserError(f"the run folder {folder} exists already; choose another name or remove it")
    return folder


def create_run(runs: str | Path, command: str, name: str | None = None) -> Path:
    """Create ``runs/<command>/<name or time>``; a number is added if another run started in the same second.

    Raises:
        UserError: The folder exists already (a run never overwrites another) or cannot be created, or ``name`` is not
            a plain folder name.
    """
    first = planned_run(runs, command, name)
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
    try:
        files.check_writable(folder / "summary.json")
    except UserError:
        discard_empty(folder)
        raise
    return folder


def find_run(runs: str | Path, command: str, run: str) -> Path:
    """Return the folder of the run that the option ``resume`` names: a path, ``latest``, or the name of a run.

    Args:
        runs: Folder of all runs.
        command: Name of the folder in ``runs`` that the command writes to.
        run: The option's value.
    """
    is_name = Path(run).name == run and (run == "latest" or not Path(run).exists())
    return Path(runs) / command / run if is_name else Path(run)


def discard_empty(folder: Path) -> None:
    """Remove ``folder`` if it is empty."""
    with suppress(OSError):
        folder.rmdir()


def point_latest(folder: Path) -> None:
    """Point the link ``latest`` beside ``folder`` to it, in one step; call it once the run has results.

    Temporary files of killed runs beside it are removed. A file system without links is logged as a warning.

    Raises:
        UserError: ``latest`` is not a link, or cannot be replaced.
    """
    files.sweep(folder.parent)
    temporary, link = folder.parent / f".latest.tmp{os.getpid()}", folder.parent / "latest"
    try:
        temporary.unlink(missing_ok=True)
        try:
            temporary.symlink_to(folder.name)
        except OSError as error:
            if error.errno not in _NO_LINKS or os.path.lexists(link):
                raise
            logger.warning(
                f"there is no {link}, as this file system has no symbolic links; name the run, {folder}, instead"
            )
            return
        os.replace(temporary, link)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(f"cannot point {link} to {folder}: {error.strerror}; remove {link}") from error


def write_summary(folder: Path, summary: dict[str, Any]) -> None:
    """Write ``summary.json``: the run's results, null for metrics without people to measure on, and the versions."""
    files.write_json(folder / "summary.json", with_null(summary) | {"versions": machine.versions()})
