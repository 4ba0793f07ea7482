"""A cache of scores on disk that searches share, keyed by arch, weights and data (no torch)."""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from supernet.arch import Arch
from supernet.errors import UserError
from supernet.io import files, jsonl

DIGITS = 16


def digest_of(value: Any) -> str:
    """Return the first hexadecimal digits of a checksum of a plain value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode()).hexdigest()[:DIGITS]


def file_digest(path: str | Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal digits.

    Raises:
        UserError: The file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}; check the path") from error


class ScoreCache:
    """Metrics of archs for one set of weights, one set of images and one evaluation protocol.

    Each such combination has a file, to which several processes may append at once. A damaged line is ignored, so that
    only its score is computed again.

    Args:
        folder: Folder of the files; None keeps scores in memory only.
        weights: Checksum of the weights.
        data: Checksum of the images and of all settings that a score depends on.
    """

    def __init__(self, folder: str | Path | None, weights: str, data: str) -> None:
        self.path = None if folder is None else Path(folder) / f"{weights[:DIGITS]}-{data[:DIGITS]}.jsonl"
        self._known: dict[Arch, dict[str, float]] = {}
        self._matches: dict[Arch, str] = {}
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"cannot create the folder {self.path.parent}: {error.strerror}; set another cache"
            ) from error
        files.check_writable(self.path)
        self.read()

    def read(self) -> None:
        """Read the file, where other processes may have added scores since it was read last."""
        for row in [] if self.path is None else jsonl.read_whole_lines(self.path, "score cache"):
            try:
                metrics = {str(name): float(value) for name, value in row["metrics"].items()}
                if not math.isfinite(metrics["AP"]):
                    continue
                arch, matches = Arch.from_dict(row["arch"]), row.get("matches")
                self._known[arch] = metrics
                if isinstance(matches, str):
                    self._matches[arch] = matches
            except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
                continue  # a valid line that is no score, written by another program

    def get(self, arch: Arch) -> dict[str, float] | None:
        """Return the metrics of ``arch``, None if it is not in the cache."""
        return self._known.get(arch)

    def matches(self, arch: Arch) -> str | None:
        """Return the matches of ``arch`` image by image, as text; None if they are unknown."""
        return self._matches.get(arch)

    def put(self, arch: Arch, metrics: Mapping[str, float], matches: str | None = None) -> None:
        """Add the metrics of ``arch`` and, where there are any, its matches image by image."""
        self._known[arch] = dict(metrics)
        row: dict[str, Any] = {"arch": arch.to_dict(), "metrics": dict(metrics)}
        if matches is not None:
            self._matches[arch] = row["matches"] = matches
        if self.path is not None:
            jsonl.append(self.path, row)
