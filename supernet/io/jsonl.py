"""Files of JSON lines that are only appended to, also by several processes at once.

A killed process or a full disk leaves at most one incomplete line at the end, which counts as not written. Each line
ends with its checksum; lines of older releases have none.
"""

import fcntl
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from supernet.errors import UserError
from supernet.io import checksum

logger = logging.getLogger(__name__)


def append(path: str | Path, row: Mapping[str, Any]) -> None:
    """Append ``row`` as a line, which is on disk on return. An incomplete last line is ended first.

    Raises:
        UserError: The operating system refuses the write (full disk, missing permission).
    """
    line = json.dumps(checksum.with_checksum(row), allow_nan=False).encode() + b"\n"
    try:
        with open(path, "ab+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            size = file.seek(0, os.SEEK_END)
            if size and os.pread(file.fileno(), 1, size - 1) != b"\n":
                line = b"\n" + line
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; free space or choose another folder"
        ) from error


def read(path: str | Path, what: str) -> list[dict[str, Any]]:
    """Return all rows. An incomplete last line is removed from the file, with a warning.

    Raises:
        UserError: The file, called ``what`` in the message, cannot be read, or another line is not a JSON object or
            does not match its checksum; the file is not changed.
    """
    path = Path(path)
    content = _content(path, what)
    whole, newline, rest = content.rpartition(b"\n")
    rows = []
    for number, line in enumerate(whole.split(b"\n") if whole else [], start=1):
        row = _parsed(line)
        if row is None:
            raise UserError(f"{what} {path}, line {number} is damaged; restore the file or start again without it")
        rows.append(row)
    if rest:
        logger.warning("%s: the last line was incomplete and has been removed", path)
        with path.open("rb+") as file:
            file.truncate(len(whole) + len(newline))
    return rows


def read_whole_lines(path: str | Path, what: str) -> list[dict[str, Any]]:
    """Return the rows of all undamaged lines, for files whose rows can be computed again; the file is not changed.

    Raises:
        UserError: The file, called ``what`` in the message, exists but cannot be read.
    """
    path = Path(path)
    if not path.exists():
        return []
    rows = [_parsed(line) for line in _content(path, what).split(b"\n")]
    return [row for row in rows if row is not None]


def _content(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {what} {path}: {error.strerror or error}; check the path") from error


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return checksum.without_checksum(row) if isinstance(row, dict) else None
