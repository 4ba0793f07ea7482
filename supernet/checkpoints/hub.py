"""Weights on the Hugging Face Hub: ``hf://owner/name``, wherever a command takes a path.

``hf://owner/name@revision`` pins a branch, a tag or, best, a commit. Only the files that a supernet or an exported
model consists of are downloaded, and each is compared with the checksum that the hub lists for it; the files' own
checksums are verified when they are read. Nothing in a file is executed. The environment variable HF_ENDPOINT names
another server with the same interface, HF_HOME another folder for downloads.
"""

import hashlib
import importlib.util
import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from supernet.errors import UserError, missing_packages
from supernet.io import files
from supernet.version import PROJECT

PREFIX = "hf://"
MOST_BYTES = 2**30
"""Size limit of a file that is downloaded, in bytes (1 GiB)."""
EXPORT_FILES = ("model.json", "weights.pt")
SUPERNET_FILES = ("supernet.safetensors", "supernet.pt")
"""The first of these is read where a repository holds both."""
_TEXT = re.compile(r"hf:/{1,2}(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class HubName:
    """A repository of a hub, ``owner/name``, and its branch, tag or commit; None for the newest commit."""

    repo: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{PREFIX}{self.repo}" + (f"@{self.revision}" if self.revision else "")


def is_hub(path: str | Path) -> bool:
    """Whether ``path`` names a repository of a hub; a ``Path`` has lost one of the slashes."""
    return str(path).startswith("hf:/")


def parse(path: str | Path) -> HubName:
    """Read ``hf://owner/name`` or ``hf://owner/name@revision``.

    Raises:
        UserError: It is neither.
    """
    match = _TEXT.fullmatch(str(path))
    if match is None or any(part.startswith(".") for part in match["repo"].split("/")):
        raise UserError(f"{path} must be hf://owner/name or hf://owner/name@revision; correct it")
    return HubName(match["repo"], match["revision"])


def fetched(path: str | Path, more: Sequence[str] = ()) -> Path:
    """Return the folder on this machine with the weights of a repository, which are downloaded unless they are here.

    Without a connection, files of an earlier download are used, with a warning unless a commit is pinned.

    Args:
        path: ``hf://owner/name`` or ``hf://owner/name@revision``.
        more: Names of further files that are wanted where the repository has them.

    Raises:
        UserError: There is no such repository, it holds no weights of this project, a file differs from what the hub
            lists, or there is neither a connection nor an earlier download.
    """
    return _fetched(parse(path), tuple(more), endpoint(), os.environ.get("HF_HOME"))


def endpoint() -> str | None:
    """Return the address of the hub from the environment; None for the usual one."""
    return os.environ.get("HF_ENDPOINT") or None


def require_library() -> None:
    """Raise UserError unless the package ``huggingface_hub`` is installed."""
    if importlib.util.find_spec("huggingface_hub") is None:
        raise missing_packages(PREFIX, ["huggingface_hub"], "hub")


@contextmanager
def hub_errors(name: HubName, purpose: str) -> Iterator[None]:
    """Turn the errors of ``huggingface_hub`` into UserErrors that say what could not be done with ``name``."""
    from huggingface_hub import errors

    try:
        yield
    except errors.RevisionNotFoundError as error:
        raise UserError(
            f"{PREFIX}{name.repo} has no revision {name.revision}; name one of its branches, tags or commits"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(
            f"there is no repository {PREFIX}{name.repo}, or it is private; check the name, or log in: hf auth login"
        ) from error
    except (errors.HTTPError, OSError, ValueError) as error:  # type: ignore[attr-defined]
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"cannot {purpose} {name}: {reason}; check the name, the connection and your access") from error


@lru_cache(maxsize=64)
def _fetched(name: HubName, more: tuple[str, ...], server: str | None, home: str | None) -> Path:
    """Fetch each name once a process, so that all its reads see one commit; see :func:`fetched`."""
    require_library()
    from huggingface_hub import HfApi

    api = HfApi(endpoint=server, library_name=PROJECT)
    cache = None if home is None else Path(home) / "hub"
    try:
        with hub_errors(name, "read"):
            info = api.model_info(name.repo, revision=name.revision, files_metadata=True)
    except UserError as error:
        if not _is_connection_error(error) or (folder := _cached(name, cache)) is None:
            raise
        if not _COMMIT.fullmatch(name.revision or ""):
            logger.warning("%s cannot be reached; using the files of the last download in %s", name, folder)
        return folder
    listed = {file.rfilename: file for file in info.siblings or []}
    wanted = _wanted(name, listed, more)
    if not _COMMIT.fullmatch(name.revision or ""):
        logger.info("%s is commit %s", name, info.sha)
    paths = [_download(api, HubName(name.repo, info.sha), listed[file], cache) for file in wanted]
    folder = paths[0].parent
    revision = name.revision or "main"
    if info.sha is not None and revision != info.sha:
        # As the library does it, so that the commit is found without a connection.
        files.write_text(folder.parents[1] / "refs" / revision, info.sha)
    return folder


def _is_connection_error(error: UserError) -> bool:
    from huggingface_hub import errors

    cause = error.__cause__
    return isinstance(cause, errors.HTTPError) and not isinstance(cause, errors.HfHubHTTPError)  # type: ignore[attr-defined]


def _wanted(name: HubName, listed: Any, more: Sequence[str]) -> list[str]:
    """Return the names of the files to download: those of an exported model, or that of a supernet."""
    wanted = [file for file in EXPORT_FILES if file in listed]
    if len(wanted) < len(EXPORT_FILES):
        wanted = [file for file in SUPERNET_FILES if file in listed][:1]
    if not wanted:
        raise UserError(
            f"{name} has neither an exported model ({', '.join(EXPORT_FILES)}) nor a supernet "
            f"({' or '.join(SUPERNET_FILES)}); name another repository"
        )
    return wanted + [file for file in more if file in listed and file not in wanted]


def _download(api: Any, name: HubName, listed: Any, cache: Path | None) -> Path:
    """Download one file, or find it in the cache, and compare it with what the hub lists."""
    file = listed.rfilename
    if listed.size is not None and listed.size > MOST_BYTES:
        raise UserError(
            f"{file} of {name} must have at most {MOST_BYTES:,} bytes, got {listed.size:,}; name another repository"
        )
    for again in (False, True):  # a damaged file in the cache is downloaded again
        with hub_errors(name, f"download {file} of"):
            path = Path(
                api.hf_hub_download(name.repo, file, revision=name.revision, cache_dir=cache, force_download=again)
            )
        if _is_listed(path, listed):
            return path
    raise UserError(f"{file} of {name} differs from the checksum that the hub lists; it is damaged, try again")


def _is_listed(path: Path, listed: Any) -> bool:
    """Whether a file has the checksum that a hub lists: SHA-256 of large files, git's SHA-1 of small ones."""
    content = files.read_bytes(path, "downloaded file", MOST_BYTES)
    if listed.lfs is not None:
        return bool(hashlib.sha256(content).hexdigest() == listed.lfs.sha256)
    return bool(hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() == listed.blob_id)


def _cached(name: HubName, cache: Path | None) -> Path | None:
    """Return the folder of an earlier download that holds the weights; None if there is none.

    Further files may be missing: without a connection nobody knows which of them the repository has.
    """
    from huggingface_hub import try_to_load_from_cache

    def find(file: str) -> Path | None:
        path = try_to_load_from_cache(name.repo, file, cache_dir=cache, revision=name.revision)
        return Path(path) if isinstance(path, str) else None

    export = [find(file) for file in EXPORT_FILES]
    if all(path is not None for path in export):
        return export[0].parent if export[0] else None
    return next((path.parent for file in SUPERNET_FILES if (path := find(file)) is not None), None)
