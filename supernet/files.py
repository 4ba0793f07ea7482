"""Durable files: written under a temporary name, synchronised, then renamed into place."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from supernet.errors import UserError


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is synchronised and renamed to ``path``.

    On an exception the temporary file is removed and ``path`` keeps its old content, so a reader sees either the
    old file or the whole new one. The temporary name keeps the suffix, which some writers go by.

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
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; free space or choose another folder"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` to ``path`` as UTF-8, all or nothing."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write plain ``value`` to ``path`` as indented JSON, all or nothing; NaN is refused (it is not JSON)."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: str | Path, what: str) -> Any:
    """Read JSON from ``path``; ``what`` names the file's purpose in error messages.

    Raises:
        UserError: The file is missing, unreadable or not JSON.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"cannot read {what} {path}: {error.strerror or error}; check the path") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{what} {path} is not UTF-8 text (byte {error.start}); give a JSON file") from error
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # a ValueError of its own for a number of thousands of digits
        raise UserError(f"{what} {path} is not valid JSON ({error}); restore it from where it was made") from error
