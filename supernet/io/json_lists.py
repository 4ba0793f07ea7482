"""Reads the long lists of a JSON file in batches, in memory that does not grow with the file.

Parsed JSON takes several times the memory of its text, so a file with the annotations of a large data set is never held
as a whole.
"""

import codecs
import json
import os
import re
import stat
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO

BATCH_SIZE = 4096
"""Entries in a batch, at least, except the last one."""
_CHUNK_BYTES = 2**22
"""Read and parsed at a time."""
_BEHIND_VALUES = " \t\n\r,:]}"
_SPACE = re.compile(r"[ \t\n\r]*")


class Unusual(Exception):
    """The file is not an object whose lists can be read in batches; read it as a whole, which finds what is wrong."""


def read_lists(path: str | Path, names: Collection[str], most: int) -> Iterator[tuple[str, list[Any]]]:
    """Yield (name, entries) for the top-level lists called ``names``, each in batches.

    A list yields at least one batch, which is empty for an empty list. Other values are skipped.

    Args:
        path: The file.
        names: The lists.
        most: Size limit in bytes.

    Raises:
        Unusual: The file cannot be read in this way. What was yielded before must not be used.
    """
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_size > most:
                raise Unusual
            yield from _lists(_Text(file), names)
    except (OSError, ValueError, RecursionError) as error:
        raise Unusual from error


def _lists(text: "_Text", names: Collection[str]) -> Iterator[tuple[str, list[Any]]]:
    """Walk over the top-level object."""
    text.expect("{")
    seen: set[str] = set()
    while True:
        key = text.value()
        if not isinstance(key, str) or key in seen:  # of a repeated key, the last value counts
            raise Unusual
        seen.add(key)
        text.expect(":")
        if key not in names:
            text.value()
        elif text.peek() == "[":
            for batch in _batches(text):
                yield key, batch
        else:
            raise Unusual
        if text.peek() == "}":
            break
        text.expect(",")
    text.expect("}")
    if text.peek():
        raise Unusual


def _batches(text: "_Text") -> Iterator[list[Any]]:
    """Walk over a list."""
    text.expect("[")
    batch: list[Any] = []
    while text.peek() != "]":
        batch += text.values()
        if text.peek() == ",":
            text.expect(",")
            if text.peek() == "]":
                raise Unusual
        elif text.peek() != "]":
            raise Unusual
        if len(batch) >= BATCH_SIZE:
            yield batch
            batch = []
    text.expect("]")
    yield batch


class _Text:
    """The text of a file, of which a part is in memory."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._decoder = file, codecs.getincrementaldecoder("utf-8-sig")()
        self._text, self._at, self._ended = "", 0, False
        self._is_cut_well = True
        self._decode = json.JSONDecoder().raw_decode

    def peek(self) -> str:
        """The next character that is no space; empty at the end."""
        while True:
            match = _SPACE.match(self._text, self._at)
            assert match is not None
            self._at = match.end()
            if self._at < len(self._text) or self._ended:
                return self._text[self._at : self._at + 1]
            self._read(_CHUNK_BYTES)

    def expect(self, character: str) -> None:
        """Go on behind ``character``, which must be next."""
        if self.peek() != character:
            raise Unusual
        self._at += 1

    def value(self) -> Any:
        """Parse the next value and go on behind it."""
        self.peek()
        num_bytes = _CHUNK_BYTES
        while True:
            try:
                value, end = self._decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if self._ended:
                    raise Unusual from error
            else:
                # Before any other character, such as the point of 0.5, more of a number is missing.
                if self._ended or (end < len(self._text) and self._text[end] in _BEHIND_VALUES):
                    self._at = end
                    return value
            self._read(num_bytes)
            num_bytes *= 2  # a value of any length is parsed a few times only

    def values(self) -> list[Any]:
        """Parse the next values of a list, as many as are in memory, at least one, and go on behind them."""
        if len(self._text) - self._at < _CHUNK_BYTES // 2 and not self._ended:
            self._read(_CHUNK_BYTES)
        # Objects end with "},". Where that is inside of one, what is before it cannot be parsed.
        end = self._text.rfind("},", self._at) + 1
        if end and self._is_cut_well:
            part = f"[{self._text[self._at : end]}]"
            try:
                values, length = self._decode(part)
            except json.JSONDecodeError:
                self._is_cut_well = False  # trying again and again would take long
            else:
                # Shorter than the part, the list ends in it: before the bracket that ends the values.
                self._at = end if length == len(part) else self._at + length - 2
                if isinstance(values, list) and values:
                    return values
        return [self.value()]

    def _read(self, num_bytes: int) -> None:
        content = self._file.read(num_bytes)
        self._ended = not content
        self._text = self._text[self._at :] + self._decoder.decode(content, final=self._ended)
        self._at = 0
