"""Bring measurements of a kit back: each file is checked like any stranger's."""

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from search.lut.measurements import LARGEST_BYTES, read_measurements, table_from
from supernet.costs.latency_table import LatencyTable
from supernet.errors import UserError

SUFFIX = ".jsonl"


def merge(paths: Sequence[Path]) -> LatencyTable:
    """Make one table of measurements of the same blocks on the same device; rounds of all files count.

    Args:
        paths: Files that ``measure.py`` wrote, or zips that hold one each.

    Raises:
        UserError: A file cannot be read, files differ in what was measured or how, or something in them is wrong.
    """
    header: dict[str, Any] = {}
    visits: list[dict[str, Any]] = []
    for path in paths:
        found, more = read_measurements_in(path)
        if not header:
            header = found
        for field, value in found.items():
            if value != header[field]:
                name = _difference(header[field], value, field)
                raise UserError(f"{name} of {path} differs from that of {paths[0]}; merge files of one kit and device")
        visits += [_in_later_round(visit, len(visits)) for visit in more] if visits else more
    try:
        return table_from(header, visits)
    except UserError as error:
        raise UserError(f"measurements {', '.join(map(str, paths))}: {error}") from error


def read_measurements_in(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Read a file of measurements, or the one in a zip.

    Raises:
        UserError: See :func:`search.lut.measurements.read_measurements`; or a zip that leads outside itself, is too
            large, damaged, or holds no such file or several.
    """
    if not zipfile.is_zipfile(path):
        return read_measurements(path)
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                name = PurePosixPath(info.filename.replace("\\", "/"))
                if name.is_absolute() or ".." in name.parts or ":" in info.filename:
                    raise UserError(f"{path} holds {info.filename!r}, which leads outside it; do not trust this file")
            found = [info for info in archive.infolist() if info.filename.endswith(SUFFIX)]
            if len(found) != 1:
                raise UserError(f"{path} holds {len(found)} files *{SUFFIX}; give a zip with one, or that file itself")
            if found[0].file_size > LARGEST_BYTES:
                raise UserError(
                    f"{found[0].filename} in {path} is larger than {LARGEST_BYTES:,} bytes; give measurements of a kit"
                )
            with TemporaryDirectory() as place:
                plain = Path(place) / "measurements"
                plain.write_bytes(archive.read(found[0]))
                return read_measurements(plain)
    except (zipfile.BadZipFile, zlib.error, OSError, RuntimeError, NotImplementedError) as error:
        raise UserError(f"cannot read the zip {path} ({error}); bring it over again") from error


def _difference(first: Any, second: Any, field: str) -> str:
    if isinstance(first, dict) and isinstance(second, dict):
        for name in first | second:
            if first.get(name) != second.get(name):
                return _difference(first.get(name), second.get(name), f"{field}.{name}")
    return field


def _in_later_round(visit: dict[str, Any], offset: int) -> dict[str, Any]:
    """Number the rounds of a further file after those of the files before it; a wrong number is told later."""
    number = visit.get("round")
    return {**visit, "round": number + offset} if type(number) is int else visit
