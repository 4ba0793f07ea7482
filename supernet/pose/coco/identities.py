"""Reads ids and file names as annotation tools write them."""

import re
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any

_DIGITS, _MOST_DIGITS = re.compile("[0-9]+"), 40


def whole_number(value: Any) -> int | None:
    """The whole number that a value of JSON stands for without doubt: 17, 17.0 and "000017"; None for other values."""
    if type(value) is int:
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and len(value) <= _MOST_DIGITS and _DIGITS.fullmatch(value):
        return int(value)
    return None


def own_id(value: Any) -> int | str:
    """An id as its file has it, for results that are compared with that file: "000017" stays text, 17.0 becomes 17."""
    return value if isinstance(value, str) else int(value)


def name_below(name: str, folder: Path | None) -> str | None:
    """The name of a file below the image folder, with slashes; None if it leads out of it.

    Args:
        name: As in the annotation file; absolute, if it lies in the folder, or with the backslashes of Windows.
        folder: The image folder; None for an archive.
    """
    if "\\" in name and not _exists(name, folder):
        name = name.replace("\\", "/")
    if folder is not None and PurePath(name).is_absolute():
        for start in (folder.absolute(), folder.resolve()):
            if PurePath(name).is_relative_to(start):
                name = PurePath(name).relative_to(start).as_posix()
                break
    if any(pure.anchor or ".." in pure.parts for pure in (PurePosixPath(name), PureWindowsPath(name))):
        return None
    return name


def _exists(name: str, folder: Path | None) -> bool:
    """Whether there is a file with backslashes in its name, which only Windows forbids."""
    return folder is not None and ".." not in PureWindowsPath(name).parts and (folder / name).exists()
