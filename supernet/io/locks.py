"""Locks by which one process keeps others out of a run; the operating system releases them when the process ends."""

import fcntl
import logging
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from supernet.errors import UserError
from supernet.io import files

logger = logging.getLogger(__name__)


@contextmanager
def locked(path: Path, what: Path, *, is_temporary: bool = False) -> Iterator[None]:
    """Hold the lock file ``path``, which names this process; a killed process leaves the file, but not the lock.

    Args:
        path: The lock file, in a folder that exists.
        what: What the lock protects, for messages.
        is_temporary: Remove the file at the end.

    Raises:
        UserError: Another process holds the lock, or the file cannot be written.
    """
    lock = _opened(path, what)
    try:
        with suppress(OSError):  # only for the error message of others
            os.ftruncate(lock, 0)
            os.write(lock, _holder(os.getpid()))
        yield
    finally:
        if is_temporary:
            with suppress(OSError):
                path.unlink()  # before it is released: afterwards, it may be another process's
        os.close(lock)


def sweep(folder: Path) -> None:
    """Remove the temporary lock files ``.NAME.lock`` in ``folder`` that killed processes of this machine left there."""
    for path in folder.glob(".*.lock"):
        with suppress(OSError):
            lock = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
            try:
                content = os.read(lock, 200)
                match = re.match(rb"process (\d+) on ", content)
                # A lock of this process would be granted again, and those of other machines may not be seen from here.
                if match and content == _holder(int(match[1])) and int(match[1]) != os.getpid():
                    fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
            finally:
                os.close(lock)


def _holder(process: int) -> bytes:
    """Return what the lock file of a process on this machine holds."""
    return f"process {process} on {socket.gethostname()}\n".encode()


def _opened(path: Path, what: Path) -> int:
    """Return a descriptor of the file at ``path`` that holds its lock."""
    while True:
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise files.refused(what, error) from error
        try:
            # Not flock: processes that load images would inherit it and hold it for a while after a kill.
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # either may be what a held lock gives
            holder = os.read(lock, 200).decode(errors="replace").strip() or "another process"
            os.close(lock)
            raise UserError(
                f"{what} is in use by {holder}; wait for it, stop it, or start a run with another name"
            ) from None
        except OSError as error:  # some network file systems
            logger.warning(f"{what} cannot be locked ({error.strerror}); start no second run in it")
            return lock
        if os.fstat(lock).st_nlink:
            return lock
        os.close(lock)  # its holder removed the file between the two calls above
