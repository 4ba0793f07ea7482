"""Optuna's journal file, made to survive killed workers and full disks (no torch).

Optuna guards its journal by a symbolic link that outlives a killed process, so that the next one waits half a minute;
and a line that was cut off makes the whole file unreadable at the next write. Here the operating system holds the
lock, which ends with its process, and a cut line is taken off before anything is added. Optuna's own link is kept as
well, for programs that know only that, such as optuna-dashboard.
"""

import fcntl
import json
import os
import warnings
from pathlib import Path
from typing import IO, Any

from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from supernet.errors import UserError

FOREIGN_GRACE_SECONDS = 5
"""After this time without change, the link of another program is taken for a killed one's: it is held for one write."""


class JournalLock(JournalFileSymlinkLock):
    """Lock of a journal file that a killed process does not leave behind; whoever gets it finds the file whole."""

    def __init__(self, path: Path) -> None:
        # A spelling of the path that nobody else uses tells our links from other programs'.
        self._ours = f"{path.parent.resolve()}/.//{path.name}"
        super().__init__(self._ours, grace_period=FOREIGN_GRACE_SECONDS)
        self._path = path
        self._link = path.with_name(f"{path.name}.lock")
        self._file: IO[bytes] | None = None

    def acquire(self) -> bool:
        """Wait for the lock and mend the file's end."""
        file = self._path.open("rb+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            if self._link.is_symlink() and os.readlink(self._link) == self._ours:
                self._link.unlink()  # its process is dead, or it would hold the lock
            super().acquire()
        except BaseException:
            file.close()
            raise
        self._file = file
        _take_off_cut_line(self._path, file)
        return True

    def release(self) -> None:
        """Let others go on."""
        assert self._file is not None
        try:
            super().release()
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)  # said, not only closed: a forked process may hold the file open
            self._file.close()
            self._file = None


class Journal(JournalFileBackend):
    """Optuna's journal file with our lock; what the operating system refuses becomes a UserError."""

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Add a line for each of ``logs``, on disk when this returns."""
        try:
            super().append_logs(logs)
        except OSError as error:
            raise UserError(
                f"cannot write {self._file_path}: {error.strerror or error}; free space or choose another place"
            ) from error


def open_journal(path: str | Path) -> Journal:
    """Open a journal file, made if there is none, for any number of processes at once.

    A last line that was cut off is taken away with a warning; its bytes stay in ``<name>.bak``.

    Raises:
        UserError: The file cannot be opened, or one of its lines is no entry of a journal; it is then left as it is.
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
                    f"line {number} of the study {path} is damaged; restore the file or name another storage"
                )


def _take_off_cut_line(path: Path, file: IO[bytes]) -> None:
    size = file.seek(0, os.SEEK_END)
    if not size or os.pread(file.fileno(), 1, size - 1) == b"\n":
        return
    file.seek(0)
    content = file.read()
    whole = content.rfind(b"\n") + 1
    kept = path.with_name(f"{path.name}.bak")
    with kept.open("ab") as backup:
        backup.write(content[whole:] + b"\n")
        backup.flush()
        os.fsync(backup.fileno())
    file.truncate(whole)
    os.fsync(file.fileno())
    warnings.warn(f"{path}: the last line was cut off and is now in {kept}", stacklevel=2)
