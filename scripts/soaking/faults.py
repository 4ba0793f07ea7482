"""What is done to files: flipped bits, cuts, garbage lines and leftovers, all drawn from a generator."""

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
"""Lines that are no JSON, no object, no object of ours, cut off, or no text."""

_NO_PROCESS = 2**22
"""Above all numbers that Linux gives to processes."""


@dataclass(frozen=True)
class Damage:
    """A file that was changed.

    Attributes:
        path: Of the file.
        kind: Of the change.
        detail: What was changed, for people.
        before: Content of the file before.
        after: Digest of its content afterwards.
    """

    path: Path
    kind: str
    detail: str
    before: bytes
    after: str

    def is_there(self) -> bool:
        """Whether the file is still as the damage left it."""
        return self.path.exists() and _digest(self.path.read_bytes()) == self.after

    def restore(self) -> None:
        """Put the content of before back."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(self.before)


def damage(path: Path, kind: str, rng: random.Random) -> Damage | None:
    """Change the file at ``path``; None if there is none or it is empty."""
    before = path.read_bytes() if path.is_file() else b""
    if not before:
        return None
    after, detail = {FLIP: flipped, CUT: cut, GARBAGE: with_garbage}[kind](before, rng)
    path.write_bytes(after)
    return Damage(path, kind, detail, before, _digest(after))


def flipped(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Return ``content`` with one bit flipped, and which."""
    place, bit = rng.randrange(len(content)), rng.randrange(8)
    changed = bytearray(content)
    changed[place] ^= 1 << bit
    return bytes(changed), f"bit {bit} of byte {place} of {len(content)}"


def cut(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Return ``content`` with its end cut off: everything, a random part, or the last bytes."""
    length = rng.choice((0, rng.randrange(len(content)), max(0, len(content) - rng.randint(1, 40))))
    return content[:length], f"cut to {length} of {len(content)} bytes"


def with_garbage(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Return ``content`` with a line of garbage between two lines or at the end, where it may lack its newline."""
    lines = content.splitlines(keepends=True)
    garbage, place = rng.choice(GARBAGE_LINES), rng.randint(0, len(lines))
    newline = b"" if place == len(lines) and rng.random() < 0.5 else b"\n"
    return b"".join([*lines[:place], garbage + newline, *lines[place:]]), f"line {place + 1} is {garbage!r}"


def leave_temporary(of: Path, rng: random.Random) -> Path:
    """Make what a writer of ``of`` leaves when it is killed: a file, a link if that is what ``of`` is, or a folder."""
    path = of.with_name(f".{of.stem}.tmp{_NO_PROCESS + rng.randrange(2**20)}{of.suffix}")
    if of.suffix:
        path.write_bytes(rng.randbytes(100))
    elif of.is_symlink():
        path.symlink_to("nowhere")
    else:
        path.mkdir()
        (path / "weights.pt").write_bytes(rng.randbytes(100))
    return path


def fill(filler: Path, left: int) -> None:
    """Make a file of the size of all free space on its disk but for some bytes."""
    with filler.open("wb") as file:
        status = os.statvfs(filler.parent)
        os.posix_fallocate(file.fileno(), 0, max(1, status.f_bavail * status.f_frsize - left))


def leftovers(folder: Path) -> list[Path]:
    """Return what lies in ``folder`` under a temporary name."""
    return sorted(folder / name for name in os.listdir(folder) if name.startswith(".") and ".tmp" in name)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
