"""Damage to files, drawn at random: flipped bits, truncation, garbage lines and leftover temporary files."""

import hashlib
import os
import random
from dataclasses import dataclass
from pathlib import Path

FLIP, CUT, GARBAGE, LEFTOVER = "bit flip", "cut", "garbage line", "leftover"
KILL, TERMINATE, LIMIT, FULL_DISK = "SIGKILL", "SIGTERM", "file size limit", "full disk"
KINDS = (KILL, TERMINATE, LIMIT, FULL_DISK, FLIP, CUT, GARBAGE, LEFTOVER)

GARBAGE_LINES = (
    b"garbage",
    b"",
    b"5",
    b"null",
    b"[1, 2]",
    b"{}",
    b'{"step": null}',
    b'{"step": 1, "pha',
    b"\xff\xfe\x00",
)
"""Lines that are not JSON, not objects, unexpected objects, truncated, or not text."""

_NO_PROCESS = 2**22
"""Larger than every process id of Linux."""


@dataclass(frozen=True)
class Damage:
    """A damaged file.

    Attributes:
        path: Path of the file.
        kind: Kind of the damage.
        detail: Description of the damage.
        before: Content of the file before.
        after: Digest of its content afterwards.
    """

    path: Path
    kind: str
    detail: str
    before: bytes
    after: str

    def is_present(self) -> bool:
        """Whether the file still has its damaged content."""
        return self.path.exists() and _digest(self.path.read_bytes()) == self.after

    def restore(self) -> None:
        """Restore the original content."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(self.before)


def damage(path: Path, kind: str, rng: random.Random) -> Damage | None:
    """Damage the file at ``path``; None if it is missing or empty."""
    before = path.read_bytes() if path.is_file() else b""
    if not before:
        return None
    after, detail = {FLIP: flipped, CUT: cut, GARBAGE: with_garbage}[kind](before, rng)
    path.write_bytes(after)
    return Damage(path, kind, detail, before, _digest(after))


def flipped(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Return ``content`` with one bit flipped, and a description."""
    place, bit = rng.randrange(len(content)), rng.randrange(8)
    changed = bytearray(content)
    changed[place] ^= 1 << bit
    return bytes(changed), f"bit {bit} of byte {place} of {len(content)}"


def cut(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Return truncated ``content``: nothing, a random length, or all but the last bytes; and a description."""
    length = rng.choice((0, rng.randrange(len(content)), max(0, len(content) - rng.randint(1, 40))))
    return content[:length], f"cut to {length} of {len(content)} bytes"


def with_garbage(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Return ``content`` with an inserted garbage line, which at the end may lack its newline; and a description."""
    lines = content.splitlines(keepends=True)
    garbage, place = rng.choice(GARBAGE_LINES), rng.randint(0, len(lines))
    newline = b"" if place == len(lines) and rng.random() < 0.5 else b"\n"
    return b"".join([*lines[:place], garbage + newline, *lines[place:]]), f"line {place + 1} is {garbage!r}"


def leave_temporary(target: Path, rng: random.Random) -> Path:
    """Create the temporary file, link or folder that a killed writer of ``target`` leaves."""
    path = target.with_name(f".{target.stem}.tmp{_NO_PROCESS + rng.randrange(2**20)}{target.suffix}")
    if target.suffix:
        path.write_bytes(rng.randbytes(100))
    elif target.is_symlink():
        path.symlink_to("nowhere")
    else:
        path.mkdir()
        (path / "weights.pt").write_bytes(rng.randbytes(100))
    return path


def fill(filler: Path, free: int) -> None:
    """Create a file that takes all space on its disk but ``free`` bytes."""
    with filler.open("wb") as file:
        status = os.statvfs(filler.parent)
        os.posix_fallocate(file.fileno(), 0, max(1, status.f_bavail * status.f_frsize - free))


def leftovers(folder: Path) -> list[Path]:
    """Return all temporary files in ``folder``."""
    return sorted(folder / name for name in os.listdir(folder) if name.startswith(".") and ".tmp" in name)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
