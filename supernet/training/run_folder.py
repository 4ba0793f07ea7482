"""The folder of a training run: who may write into it, whose it is, and what its checkpoints were made with."""

import fcntl
import json
import os
import socket
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from supernet.checkpoints import container
from supernet.errors import UserError
from supernet.io import files

CHECKPOINT_FILE = "checkpoint.pt"
CONFIG_FILE = "config.json"
_LOCK_FILE = ".lock"
_KIND = "training"
_MOST_NAMED = 5


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Keep every other process from training in ``folder``, and remove what killed ones left half-written there.

    The lock is the operating system's, so it ends with the process that holds it, however that ends; the file only
    tells who that is.

    Raises:
        UserError: Another process trains there, or the folder holds links or cannot be written.
    """
    files.refuse_links(folder)
    try:
        lock = os.open(folder / _LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise files.refused(folder, error) from error
    try:
        try:
            # Not flock: processes that load images would inherit it and hold it for a while after a kill.
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # either may be what a held lock gives
            holder = os.read(lock, 200).decode(errors="replace").strip() or "another process"
            raise UserError(
                f"{folder} is in use by {holder}; wait for it or stop it, or start a run of another name"
            ) from None
        except OSError as error:  # some network file systems
            warnings.warn(f"{folder} cannot be locked ({error.strerror}); let no second run write there", stacklevel=3)
        with suppress(OSError):  # it only helps people
            os.ftruncate(lock, 0)
            os.write(lock, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        files.sweep(folder)
        files.write_bytes(folder / ".probe", b"can be written")
        (folder / ".probe").unlink()
        yield
    finally:
        os.close(lock)


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Keep the configuration of the run, for people and to know its checkpoints by."""
    files.write_json(folder / CONFIG_FILE, dict(config))


def has_checkpoint(folder: Path) -> bool:
    """Whether there is anything to go on from in ``folder``."""
    path = folder / CHECKPOINT_FILE
    return path.exists() or container.previous_of(path).exists()


def save_checkpoint(folder: Path, value: Mapping[str, Any]) -> None:
    """Write a checkpoint and keep the one before it.

    Raises:
        UserError: It cannot be written; what remains to go on from is named.
    """
    try:
        container.save(folder / CHECKPOINT_FILE, _KIND, value, keep_previous=True)
    except UserError as error:
        if not has_checkpoint(folder):
            raise
        raise UserError(f"{error}; the last good checkpoint is kept, continue with resume={folder}") from error


def load_checkpoint(folder: Path) -> dict[str, Any]:
    """Read the newest good checkpoint of the run that ``folder`` belongs to.

    Raises:
        UserError: There is none, or it is of another run.
    """
    value = container.load_newest(folder / CHECKPOINT_FILE, _KIND)
    container.check_parts(value, {"config": dict}, folder / CHECKPOINT_FILE)
    own = files.read_json(folder / CONFIG_FILE, "configuration")
    # Through JSON, as the file went: it has no tuples, and its keys are strings.
    different = differences(own, json.loads(json.dumps(value["config"])))
    if different:
        more = f" and {len(different) - _MOST_NAMED} more" if len(different) > _MOST_NAMED else ""
        raise UserError(
            f"{folder / CHECKPOINT_FILE} is of another run than {folder / CONFIG_FILE}: "
            f"{', '.join(different[:_MOST_NAMED])}{more}; put the run's own checkpoint back"
        )
    return value


def check_made_with(then: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    """Compare what a checkpoint was made with to what the run goes on with.

    Other versions, another processor or number of threads are told in a warning: the bits may then differ too.

    Raises:
        UserError: The search space is another one.
    """
    different = differences(then, now)
    if then.get("space_digest") != now["space_digest"]:
        raise UserError(f"{folder} cannot go on: {', '.join(different)}; start a new run or use what it was begun with")
    if different:
        warnings.warn(
            f"{folder} goes on with {', '.join(different)}; the result may not be equal to the bit to an "
            "uninterrupted run's",
            stacklevel=2,
        )


def differences(before: Any, after: Any, place: str = "") -> list[str]:
    """Return what differs between two plain values, each as "place new instead of old", in order of place."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        found = []
        for key in sorted({*before, *after}, key=str):
            inner = f"{place}.{key}" if place else str(key)
            found += differences(before.get(key), after.get(key), inner)
        return found
    if isinstance(before, list | tuple) and isinstance(after, list | tuple) and len(before) == len(after):
        pairs = enumerate(zip(before, after, strict=True))
        return [told for i, (old, new) in pairs for told in differences(old, new, f"{place}[{i}]")]
    return [] if before == after else [f"{place} {after!r} instead of {before!r}"]
