"""Changes valid files at random and reads the results.

A reader keeps its promise if it returns or raises a UserError that names the file. The changes are drawn through
``choose``, so that any source of randomness drives them: hypothesis in the tests, atheris in ``scripts/fuzz.py``.
"""

import copy
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supernet.errors import UserError

Choose = Callable[[int], int]
"""Given n, returns a number from 0 to n - 1."""
DEEP: Any = json.loads("[" * 120 + "]" * 120)
HUGE = 10**400
JUNK: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**63, 10**30, HUGE, 0.5, 1e308, float("nan"), float("inf"), -0.0),
    *("", "x", "\ud800", "\0", "../x", "/etc/passwd", "${oc.env:HOME}", "e" * 2000, "1\n\x1b[2J[/b]", "nan", "coco"),
    *([], [[]], {}, {"a": [1]}, {"_target_": "os.system"}, [0] * 1200, DEEP),
)


@dataclass(frozen=True)
class Target:
    """A reader of files.

    Attributes:
        file: Name of the file to change.
        valid: Returns a valid value of the file; may write other files to the folder.
        encode: Turns a value into the file's content.
        read: Reads the file; the result is ignored.
        names_file: Whether errors name the file; a value from a command line has none.
    """

    file: str
    valid: Callable[[Path], Any]
    encode: Callable[[Any], bytes]
    read: Callable[[Path], object]
    names_file: bool = True


def mutated(value: Any, choose: Choose) -> Any:
    """Return a copy of plain ``value`` with a few places changed, removed or repeated."""
    value = copy.deepcopy(value)
    for _ in range(1 + choose(4)):
        places = _places(value)
        if not places:
            return JUNK[choose(len(JUNK))]
        container, key = places[choose(len(places))]
        action = choose(5)
        if action == 0:
            del container[key]
        elif action == 1 and isinstance(container, list):
            container.append(copy.deepcopy(container[key]))
        elif action == 2 and isinstance(container, dict):
            container[("_target_", "x", "", key + "x")[choose(4)] if isinstance(key, str) else 7] = container.pop(key)
        elif action == 3 and type(container[key]) in (int, float) and abs(container[key]) < 1e15:
            container[key] += (-1, 1, 0.5, 1e9)[choose(4)]
        else:
            container[key] = copy.deepcopy(JUNK[choose(len(JUNK))])
    return value


def mutated_bytes(content: bytes, choose: Choose) -> bytes:
    """Return ``content`` with a few bytes changed, cut out or repeated."""
    changed = bytearray(content)
    for _ in range(1 + choose(4)):
        start = choose(len(changed)) if changed else 0
        end = start + choose(min(64, len(changed) - start) + 1)
        action = choose(4)
        if action == 0 and changed:
            changed[start] = choose(256)
        elif action == 1:
            del changed[start:end]
        elif action == 2:
            changed[start:start] = changed[start:end]
        else:
            del changed[start:]
    return bytes(changed)


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Return every place (container, key) of a plain value."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    return [(value, key) for key in keys] + [place for key in keys for place in _places(value[key])]


def run(target: Target, folder: Path, content: bytes) -> bool:
    """Let ``target`` read ``content``; returns whether it succeeded.

    Raises:
        AssertionError: The error does not name the file, or takes more than one line.
        Exception: Any other error of the reader.
    """
    path = folder / target.file
    path.write_bytes(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target.read(path)
    except UserError as error:
        message = str(error)
        assert message.isprintable()
        assert len(message) < 1500
        assert not target.names_file or path.name in message or str(folder) in message, message
        return False
    return True
