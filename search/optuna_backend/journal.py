"""A journal file of Optuna that survives killed workers and full disks (no torch).

Optuna locks its journal with a symbolic link. A killed process leaves the link behind, and the next process waits half
a minute for it; and a last line that was cut off makes the file unreadable after the next write. Here the operating
system holds the lock and frees it when the process ends, and a cut line is removed before anything is added. The link
is made as well, for programs that know only it, such as optuna-dashboard.
"""

import fcntl
import json
import logging
import os
from pathlib import Path
from typing import IO, Any

from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from supernet.errors import UserError

FOREIGN_GRACE_SECONDS = 5
"""After this time without change, the link of another program counts as left behind: links are held for one write."""

logger = logging.getLogger(__name__)


class JournalLock(JournalFileSymlinkLock):
    """Lock of a journal file that ends with its process; :meth:`acquire` also removes a cut last line."""

    def __init__(self, path: Path) -> None:
        # An unusual spelling of the path distinguishes our links from those of other programs.
        self._own_target = f"{path.parent.resolve()}/.//{path.name}"
        super().__init__(self._own_target, grace_period=FOREIGN_GRACE_SECONDS)
        self._path = path
        self._link = path.with_name(f"{path.name}.lock")
        self._file: IO[bytes] | None = None

    def acquire(self) -> bool:
        """Wait for the lock, then remove a cut last line."""
        file = self._path.open("rb+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            if self._link.is_symlink() and os.readlink(self._link) == self._own_target:
                self._link.unlink()  # left by a killed process, which else would hold the lock
            super().acquire()
        except BaseException:
            file.close()
            raise
        self._file = file
        _remove_cut_line(self._path, file)
        return True

    def release(self) -> None:
        """Release the lock."""
        assert self._file is not None
        try:
            super().release()
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)  # explicitly: a forked process may hold the file open
            self._file.close()
            self._file = None


class Journal(JournalFileBackend):
    """A journal file of Optuna whose write errors are UserErrors."""

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append a line for each of ``logs``; they are on disk when this returns."""
        try:
            super().append_logs(logs)
        except OSError as error:
            raise UserError(
                f"cannot write {self._file_path}: {error.strerror or error}; free space or choose another storage"
            ) from error


def open_journal(path: str | Path) -> Journal:
    """Open or create a journal file, which any number of processes may use at once.

    A cut last line is moved to ``<name>.bak``, with a warning.

    Raises:
        UserError: The file cannot be opened, or a line is not an entry of a journal; the file is then not changed.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("ab").close()
        _check_lines(path)
        lock = JournalLock(path)
        lock.acquire()
        lock.release()
    except OSError as error:
        raise UserError(f"cannot open the study {path}: {error.strerror or error}; check the path") from error
    return Journal(str(path), lock_obj=lock)


def _check_lines(path: Path) -> None:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                entry = None
            if not isinstance(entry, dict) or "op_code" not in entry:
                raise UserError(
                    f"line {number} of the study {path} is damaged; restore the file or choose another storage"
                )


def _remove_cut_line(path: Path, file: IO[bytes]) -> None:
    size = file.seek(0, os.SEEK_END)
    if not size or os.pread(file.fileno(), 1, size - 1) == b"\n":
        return
    file.seek(0)
    content = file.read()
    whole = content.rfind(b"\n") + 1
    backup_path = path.with_name(f"{path.name}.bak")
    with backup_path.open("ab") as backup:
        backup.write(content[whole:] + b"\n")
        backup.flush()
        os.fsync(backup.fileno())
    file.truncate(whole)
    os.fsync(file.fileno())
    logger.warning("%s: the last line was incomplete and has been moved to %s", path, backup_path)
