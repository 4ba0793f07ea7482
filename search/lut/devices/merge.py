"""Reads measurements that kits brought back, as untrusted files, and makes one table of them."""

import lzma
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

from search.lut.measurements import LARGEST_BYTES, parse_measurements, table_from
from supernet.costs.latency_table import LatencyTable
from supernet.errors import UserError
from supernet.io import files

SUFFIX = ".jsonl"
_OF_MACOS = "__MACOSX/"
"""Folder that macOS adds to zips, of files with the names of the others."""
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError)
"""What a damaged zip raises."""


def merge(paths: Sequence[Path]) -> LatencyTable:
    """Make one table of all rounds of files that measured the same blocks on the same device.

    Args:
        paths: Files that ``measure.py`` wrote, or zips that hold one each.

    Raises:
        UserError: A file cannot be read or is malformed, or repeats another, or files differ in what was measured or
            how.
    """
    header: dict[str, Any] = {}
    visits: list[dict[str, Any]] = []
    earlier: dict[Path, Sequence[Any]] = {}
    for path in paths:
        next_header, next_visits = read_measurements_in(path)
        if not header:
            header = next_header
        for field, value in next_header.items():
            if value != header[field]:
                name = _difference(header[field], value, field)
                raise UserError(f"{name} of {path} differs from that of {paths[0]}; merge files of one kit and device")
        refuse_repetition(path, next_visits, earlier)
        earlier[path] = next_visits
        visits += [_in_later_round(visit, len(visits)) for visit in next_visits] if visits else next_visits
    try:
        return table_from(header, visits)
    except UserError as error:
        raise UserError(f"measurements {', '.join(map(str, paths))}: {error}") from error


def read_measurements_in(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Read a file of measurements, or a zip that holds one.

    Raises:
        UserError: See :func:`search.lut.measurements.read_measurements`; or the zip has paths outside itself, is too
            large or damaged, or does not hold exactly one such file.
    """
    content = files.read_bytes(path, "measurements", LARGEST_BYTES)
    if not zipfile.is_zipfile(BytesIO(content)):
        return parse_measurements(content, path)
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            for info in archive.infolist():
                name = PurePosixPath(info.filename.replace("\\", "/"))
                if name.is_absolute() or ".." in name.parts or ":" in info.filename:
                    raise UserError(f"{path} holds {info.filename!r}, a path outside the zip; do not trust this file")
            members = [
                info
                for info in archive.infolist()
                if info.filename.endswith(SUFFIX) and not info.filename.startswith(_OF_MACOS)
            ]
            if len(members) != 1:
                raise UserError(f"{path} must have exactly one file *{SUFFIX}, got {len(members)}; give such a zip")
            (member,) = members
            if member.file_size > LARGEST_BYTES:
                raise UserError(
                    f"{member.filename} in {path} is larger than {LARGEST_BYTES:,} bytes; give those of a kit"
                )
            return parse_measurements(archive.read(member), f"{member.filename} in {path}")
    except ZIP_ERRORS as error:
        raise UserError(f"cannot read the zip {path} ({error}); copy it again") from error


def refuse_repetition(path: Path, visits: Sequence[Any], earlier: Mapping[Path, Sequence[Any]]) -> None:
    """Raise UserError if a file holds the visits of an ``earlier`` one, which would count twice.

    It is the same file, or one is a copy of the other from before it was continued.
    """
    for other, others in earlier.items():
        num = min(len(visits), len(others))
        if num and visits[:num] == others[:num]:
            raise UserError(f"{path} repeats the visits of {other}; give only the longer of the two")


def _difference(first: Any, second: Any, field: str) -> str:
    """Return the name of the first nested field that differs."""
    if isinstance(first, dict) and isinstance(second, dict):
        for name in first | second:
            if first.get(name) != second.get(name):
                return _difference(first.get(name), second.get(name), f"{field}.{name}")
    return field


def _in_later_round(visit: dict[str, Any], offset: int) -> dict[str, Any]:
    """Number the rounds of a file after those of earlier files; a malformed number is refused later."""
    number = visit.get("round")
    return {**visit, "round": number + offset} if type(number) is int else visit
