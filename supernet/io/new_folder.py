"""Writes a folder all or nothing."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from supernet.errors import UserError
from supernet.io import files


def check_new(folder: str | Path) -> None:
    """Raise UserError if ``folder`` exists or cannot be made. Call it before the work whose results go there."""
    # A dangling link counts, too.
    if os.path.lexists(folder):
        raise UserError(f"{folder} exists already and is never overwritten; choose another name or remove it")
    files.check_writable(folder)


@contextmanager
def new_folder(folder: str | Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``folder``; on success it is renamed to ``folder``.

    On an exception the temporary folder is removed, and ``folder`` is not created. Files in it must be written with
    :mod:`supernet.io.files`.

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
