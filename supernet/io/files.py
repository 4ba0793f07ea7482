"""Durable files: written under a temporary name, synchronised, then renamed into place."""

import json
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from supernet.errors import UserError
from supernet.io.limits import check_limits

_DAY_SECONDS = 86_400
_PROBE_BYTES = 4096
SMALL = 2**26
"""Size limit of files that describe something, in bytes (64 MiB). Parsed JSON takes up to thirty times as much."""
LARGE = 2**31
"""Size limit of files with the annotations or results of a data set, in bytes (2 GiB)."""
HUGE = 2**34
"""Size limit of files of weights, in bytes (16 GiB)."""
_TEMPORARY = re.compile(r"\..+\.tmp(\d+)(\.[^.]*)?")


@contextmanager
def atomic(path: str | Path, previous: str | Path | None = None) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is synchronised and renamed to ``path``.

    On an exception the temporary file is removed and ``path`` keeps its old content, so a reader sees either the
    old file or the complete new one. The temporary name keeps the suffix, by which some writers choose the format.

    Args:
        path: The file to write.
        previous: Where the old file is moved once the new one is complete; by default it is replaced. A crash between
            the two renames leaves the old file there and none at ``path``.

    Raises:
        UserError: The operating system refuses the write (full disk, missing permission).
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.tmp{os.getpid()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        if previous is not None:
            with suppress(FileNotFoundError):
                os.replace(path, previous)
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise refused(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def check_writable(path: str | Path) -> None:
    """Raise UserError if no file or folder can be created at ``path``; call it before the work whose results go there.

    A temporary file is written and removed in the folder of ``path``, or where the first missing one would be made.
    """
    path = Path(path).absolute()
    folder = next((parent for parent in path.parents if os.path.lexists(parent)), path.parent)
    temporary = folder / f".{path.stem}.tmp{os.getpid()}{path.suffix}"
    try:
        with temporary.open("wb") as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise refused(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def refused(path: str | Path, error: OSError) -> UserError:
    """Return the UserError for a write to ``path`` that failed, with the free space there."""
    folder = next((parent for parent in Path(path).absolute().parents if parent.is_dir()), Path("/"))
    try:
        free = f" ({shutil.disk_usage(folder).free:,} bytes are free)"
    except OSError:
        free = ""
    return UserError(f"cannot write {path}: {error.strerror or error}{free}; free space or choose another folder")


def sweep(folder: str | Path, of: str | None = None) -> list[Path]:
    """Remove temporary files and folders that killed writers left in ``folder``; returns their paths.

    Those of other running processes are kept. Those with the id of this process are removed: it has written nothing
    yet when it starts, and in a container it usually gets the id of the one that was killed. Temporary folders take
    long to write, perhaps by a process on another machine, which cannot be seen from here: unless ``of`` is given,
    they are removed only when nothing was added for a day.

    Args:
        folder: Where to look; it need not exist.
        of: Name of the file or folder that was being written, for folders that other programs use, too.
    """
    removed: list[Path] = []
    if not Path(folder).is_dir():
        return removed
    for path in sorted(Path(folder).iterdir()):
        match = _TEMPORARY.fullmatch(path.name)
        if not match or _is_another_process(int(match[1])):
            continue
        if of is not None and path.name.replace(f".tmp{match[1]}", "") != f".{of}":
            continue
        with suppress(OSError):
            if path.is_dir() and not path.is_symlink():
                if of is None and time.time() - path.stat().st_mtime < _DAY_SECONDS:
                    continue
                shutil.rmtree(path)
            else:
                path.unlink()
            removed.append(path)
    return removed


def refuse_links(folder: str | Path) -> None:
    """Raise UserError if ``folder`` holds a link: appending to it would change a file elsewhere."""
    for path in sorted(Path(folder).iterdir()):
        if path.is_symlink():
            raise UserError(
                f"{path} is a link, which may point to any file; replace it with the file itself, or remove it"
            )


def _is_another_process(number: int) -> bool:
    """Whether process ``number`` is running and is not this one."""
    if number == os.getpid():
        return False
    try:
        os.kill(number, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it is another user's
        return True
    return True


def write_bytes(path: str | Path, content: bytes | bytearray | memoryview, previous: str | Path | None = None) -> None:
    """Write ``content`` to ``path``, all or nothing; the old file goes to ``previous`` (:func:`atomic`)."""
    with atomic(path, previous) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` to ``path`` as UTF-8, all or nothing."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, value: Any) -> None:
    """Write plain ``value`` to ``path`` as indented JSON, all or nothing; NaN is refused (it is not JSON)."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_bytes(path: str | Path, what: str, most: int = SMALL, remedy: str = "check the path") -> bytes:
    """Return the content of a file. Of a pipe or device, at most ``SMALL`` bytes are read.

    Args:
        path: The file.
        what: What to call the file in messages.
        most: Size limit in bytes.
        remedy: What to do if the file cannot be read, for the message.

    Raises:
        UserError: The file is missing, unreadable or larger than ``most`` bytes.
    """
    try:
        # Opening a pipe without a writer would block.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            os.set_blocking(file.fileno(), True)
            status = os.fstat(file.fileno())
            if stat.S_ISREG(status.st_mode):
                is_over = status.st_size > most
                content = b"" if is_over else file.read()
            else:
                most = min(most, SMALL)
                content = file.read(most + 1)
                is_over = len(content) > most
    except (OSError, ValueError) as error:  # ValueError: the name holds a zero byte
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UserError(f"cannot read {what} {path}: {reason}; {remedy}") from error
    if is_over:
        raise UserError(f"{what} {path} is larger than {most:,} bytes; give a smaller file")
    return content


def read_json(path: str | Path, what: str, most: int = SMALL) -> Any:
    """Read JSON from ``path``; ``what`` names the file's purpose in error messages.

    Raises:
        UserError: The file is missing, unreadable, not JSON, larger than ``most`` bytes, or nested too deeply.
    """
    content = read_bytes(path, what, most)
    try:
        value = json.loads(content.decode("utf-8-sig"))
        check_limits(value, len(content))
    except UnicodeDecodeError as error:
        raise UserError(f"{what} {path} is not UTF-8 text (byte {error.start}); give a JSON file") from error
    except (ValueError, RecursionError) as error:  # also raised for numbers with thousands of digits
        raise UserError(f"{what} {path} is not valid JSON ({error}); restore or recreate it") from error
    return value
