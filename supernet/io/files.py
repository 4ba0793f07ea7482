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
SMALL = 2**26
"""Bytes; the most of a file that describes something, 64 MiB. JSON takes up to thirty times as much when it is read."""
LARGE = 2**31
"""Bytes; the most of a file with the annotations or results of a whole data set."""
HUGE = 2**34
"""Bytes; the most of a file of weights."""
_TEMPORARY = re.compile(r"\..+\.tmp(\d+)(\.[^.]*)?")


@contextmanager
def atomic(path: str | Path, previous: str | Path | None = None) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is synchronised and renamed to ``path``.

    On an exception the temporary file is removed and ``path`` keeps its old content, so a reader sees either the
    old file or the whole new one. The temporary name keeps the suffix, which some writers go by.

    Args:
        path: Of the file to write.
        previous: Where the old file goes, if there is one, once the new one is whole; by default it is gone. A crash
            between the two renames leaves the old file there and none at ``path``.

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


def refused(path: str | Path, error: OSError) -> UserError:
    """Return the error that tells why ``path`` could not be written and how much space is left there."""
    place = next((parent for parent in Path(path).absolute().parents if parent.is_dir()), Path("/"))
    try:
        left = f" ({shutil.disk_usage(place).free:,} bytes are free)"
    except OSError:
        left = ""
    return UserError(f"cannot write {path}: {error.strerror or error}{left}; free space or choose another folder")


def sweep(folder: str | Path, of: str | None = None) -> list[Path]:
    """Remove what writers that were killed left in ``folder`` under temporary names; returns what was removed.

    Files of processes that live are kept, but for this one's: it writes nothing yet when it starts, and may have got
    the number of one that was killed (in a container it usually does). A folder takes long to write, and a process of
    another machine is not seen from here: unless ``of`` names it, it goes when nothing was added to it for a day.

    Args:
        folder: Where to look; nothing happens if there is none.
        of: Name of the file or folder that they were to become, for folders that may hold others' as well.
    """
    removed: list[Path] = []
    if not Path(folder).is_dir():
        return removed
    for path in sorted(Path(folder).iterdir()):
        found = _TEMPORARY.fullmatch(path.name)
        if not found or _is_another_process(int(found[1])):
            continue
        if of is not None and path.name.replace(f".tmp{found[1]}", "") != f".{of}":
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
    """Raise UserError if ``folder``, in which files are added to, holds a link: it could lead to any other file."""
    for path in sorted(Path(folder).iterdir()):
        if path.is_symlink():
            raise UserError(
                f"{path} is a link, which could lead anywhere; put the file itself in its place, or remove it"
            )


def _is_another_process(number: int) -> bool:
    """Whether another process than this one lives under ``number``."""
    if number == os.getpid():
        return False
    try:
        os.kill(number, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it lives, as another user's
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
    """Read a file whole; ``what`` names its purpose and ``remedy`` what to do without it, in error messages.

    What is no plain file (a pipe, or a link that leads to a device) may hold ``SMALL`` bytes at most.

    Raises:
        UserError: The file is missing, unreadable or larger than ``most`` bytes.
    """
    try:
        # A pipe that nobody writes to would be waited for.
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
    except (OSError, ValueError) as error:  # a ValueError for a name with a zero byte
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UserError(f"cannot read {what} {path}: {reason}; {remedy}") from error
    if is_over:
        raise UserError(f"{what} {path} is larger than {most:,} bytes; give one that is not")
    return content


def read_json(path: str | Path, what: str, most: int = SMALL) -> Any:
    """Read JSON from ``path``; ``what`` names the file's purpose in error messages.

    Raises:
        UserError: The file is missing, unreadable, not JSON, larger than ``most`` bytes, or nested too deep.
    """
    content = read_bytes(path, what, most)
    try:
        value = json.loads(content.decode("utf-8-sig"))
        check_limits(value, len(content))
    except UnicodeDecodeError as error:
        raise UserError(f"{what} {path} is not UTF-8 text (byte {error.start}); give a JSON file") from error
    except (ValueError, RecursionError) as error:  # a ValueError of its own for a number of thousands of digits
        raise UserError(f"{what} {path} is not valid JSON ({error}); restore it from where it was made") from error
    return value
