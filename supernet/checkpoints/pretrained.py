"""Names of trained weights that need no training run: ``pretrained:NAME``, wherever a command takes a path.

NAME is one of the files and folders in ``supernet/pretrained``, the URL of a supernet file with its checksum, or a
repository of the Hugging Face Hub (:mod:`supernet.checkpoints.hub`), which ``hf://owner/name`` alone names, too::

    pretrained:photos
    pretrained:https://example.org/supernet.safetensors#sha256=0123...
    pretrained:hf://owner/name@revision

A file from a URL is kept in the user's cache folder under its checksum. Like any file, it is read without executing
anything in it (:mod:`supernet.checkpoints.safe_torch`).
"""

import hashlib
import logging
import re
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException
from os import PathLike
from pathlib import Path

from supernet.checkpoints import hub
from supernet.errors import UserError, suggestion
from supernet.io import files
from supernet.io.cache_folder import cache_folder

PREFIX = "pretrained:"
FOLDER = Path(__file__).parents[1] / "pretrained"
"""Weights that are part of the package."""
DEFAULT_EXPORT = "pretrained:photos_large"
"""The exported model that predicts where no other is at hand."""
MOST_BYTES = 2**28
"""Size limit of a file that is downloaded, in bytes (256 MiB)."""
_SUFFIX = ".pt"
_SAFETENSORS = ".safetensors"
_CHECKSUM = "#sha256="
_TIMEOUT_SECONDS = 30.0

logger = logging.getLogger(__name__)


def is_pretrained(path: str | Path) -> bool:
    """Whether ``path`` is a name that :func:`located` looks up."""
    return str(path).startswith(PREFIX)


def located(path: str | Path, more: Sequence[str] = ()) -> Path:
    """Return the file or folder that a path or a ``pretrained:`` name stands for; other paths stay as they are.

    Args:
        path: A path or a name.
        more: Names of files besides the weights that are wanted of a repository of a hub.

    Raises:
        UserError: There are no weights of that name, or a URL has no checksum, cannot be read, or holds another file.
    """
    if not isinstance(path, str | PathLike):
        raise UserError(f"weights are named by a path or a name such as {DEFAULT_EXPORT}, got {path!r:.80}")
    name = str(path).removeprefix(PREFIX)
    if hub.is_hub(name):
        return hub.fetched(name, more)
    if not is_pretrained(path):
        return Path(path)
    if re.match(r"\w+:/", name):
        return _downloaded(name)
    if name not in names():
        known = ", ".join(names())
        raise UserError(f"there are no weights {path}{suggestion(name, names())}; the shipped ones are {known}")
    folder = FOLDER / name
    return folder if folder.is_dir() else folder.with_suffix(_SUFFIX)


def names() -> list[str]:
    """Return the names of all weights that are part of the package."""
    entries = [entry for entry in FOLDER.iterdir() if not entry.name.startswith(".")]
    return sorted(entry.stem for entry in entries if entry.suffix == _SUFFIX or entry.is_dir())


def without_prefix(path: str | Path) -> str:
    """Return ", did you mean pretrained:...?" if ``path`` is the name of shipped weights alone; empty otherwise."""
    return f", did you mean {PREFIX}{path}?" if str(path) in names() else ""


def _downloaded(name: str) -> Path:
    """Return the file of a URL with a checksum, which is downloaded unless the cache holds it."""
    url, _, checksum = name.partition(_CHECKSUM)
    sha256 = checksum.lower()
    if not url.startswith(("https://", "http://")):
        raise UserError(
            f"{PREFIX}{url} is neither the name of shipped weights nor an http or https URL nor hf://owner/name; give "
            "one of these"
        )
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise UserError(
            f"{PREFIX}{url} needs the SHA-256 of its file, got {checksum!r:.80}; append {_CHECKSUM} and 64 hex digits"
        )
    suffix = _SAFETENSORS if url.partition("?")[0].endswith(_SAFETENSORS) else _SUFFIX
    path = cache_folder() / f"{sha256}{suffix}"
    if path.exists():
        if hashlib.sha256(files.read_bytes(path, "downloaded supernet", MOST_BYTES)).hexdigest() == sha256:
            return path
        logger.warning("%s is damaged and is downloaded again", path)
    logger.info("downloading %s to %s", url, path)
    content = _fetched(url)
    actual = hashlib.sha256(content).hexdigest()
    if actual != sha256:
        raise UserError(
            f"the file at {url} has the SHA-256 {actual}, not {sha256}; nothing was kept, check URL and checksum"
        )
    files.write_bytes(path, content)
    return path


def _fetched(url: str) -> bytes:
    """Return what ``url`` holds, at most ``MOST_BYTES`` bytes."""
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response:
            content: bytes = response.read(MOST_BYTES + 1)
    except (OSError, HTTPException, ValueError) as error:  # ValueError: the URL is malformed
        raise UserError(f"cannot download {url}: {error}; check the URL and the connection") from error
    if len(content) > MOST_BYTES:
        raise UserError(f"the file at {url} is larger than {MOST_BYTES:,} bytes; give a smaller file")
    return content
