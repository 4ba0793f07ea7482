"""The lock of a fine-tuning run, beside its checkpoint: one process trains it at a time."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from supernet.cli.runs import discard_empty
from supernet.io import files, locks


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from the run whose result will be ``folder``; nothing is left of the lock afterwards.

    Raises:
        UserError: Another process has the run, or nothing can be written there.
    """
    path = _lock_of(folder)
    made = [parent for parent in path.parents if not parent.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise files.refused(folder, error) from error
    try:
        with locks.locked(path, folder, is_temporary=True):
            yield
    finally:
        for parent in made:
            discard_empty(parent)


def take_free_folder(options: argparse.Namespace) -> None:
    """Give a default folder a number if another run, which makes its folder at its end, began in the same second."""
    first: Path = options.folder
    number = 1
    while options.is_default_folder and _lock_of(options.folder).exists():
        number += 1
        options.folder = first.with_name(f"{first.name}_{number}")


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.lock")
