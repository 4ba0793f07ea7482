"""Folders that appear whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from supernet.errors import UserError
from supernet.io import files


def check_new(folder: str | Path) -> None:
    """Raise UserError if ``folder`` exists; to be told before any work is done."""
    # A link at this place counts, wherever it points.
    if os.path.lexists(folder):
        raise UserError(f"{folder} exists already and is never overwritten; choose another folder or remove it")


@contextmanager
def new_folder(folder: str | Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``folder``; on success it is renamed to ``folder``.

    On an exception the temporary folder is removed with all that is in it, and ``folder`` never exists half-written.
    What is in it must have been written durably (:mod:`supernet.io.files`).

    Raises:
        UserError: ``folder`` exists already, or the operating system refuses the write.
    """
    check_new(folder)
    folder = Path(os.path.abspath(folder))
    temporary = folder.with_name(f".{folder.name}.tmp{os.getpid()}")
    files.sweep(folder.parent, folder.name)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        os.rename(temporary, folder)
        parent = os.open(folder.parent, os.O_RDONLY)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)
    except OSError as error:
        raise UserError(
            f"cannot write {folder}: {error.strerror or error}; free space or choose another folder"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
