"""The folder of a training run: its lock, its configuration and its checkpoints."""

import json
import logging
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from supernet.checkpoints import container
from supernet.compute.distributed import Processes
from supernet.errors import UserError, first_few
from supernet.io import files, locks
from supernet.pose.coco.splits import with_current_names as with_current_dataset_names
from supernet.pose.custom_keypoints import from_plain
from supernet.pose.datasets import without_root

CHECKPOINT_FILE = "checkpoint.pt"
CONFIG_FILE = "config.json"
_LOCK_FILE = ".lock"
_KIND = "training"

_EARLIER_NAMES = {"picture_memory_mib": "image_memory_mib"}
"""Options that an earlier release wrote into checkpoints under another name, and their names now."""

_NOT_IN_EARLIER = ("keypoints", "train_images")
"""Parts of the environment that checkpoints of earlier releases lack."""

logger = logging.getLogger(__name__)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep every other process from running in ``folder``, and remove files that killed processes left half-written.

    The operating system releases the lock when the process ends, even if it is killed. The lock file names the process
    that holds it.

    Raises:
        UserError: Another process runs there, or the folder holds links or cannot be written.
    """
    files.refuse_links(folder)
    with locks.locked(folder / _LOCK_FILE, folder):
        files.sweep(folder)
        files.write_bytes(folder / ".probe", b"can be written")
        (folder / ".probe").unlink()
        yield


@contextmanager
def locked_for(processes: Processes, folder: Path) -> Iterator[None]:
    """Lock ``folder`` for processes that run together; a failure raises in every one of them."""
    with ExitStack() as lock:
        processes.on_main(lambda: str(lock.enter_context(locked(folder))))
        yield


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Write the configuration of the run, which its checkpoints are compared with."""
    files.write_json(folder / CONFIG_FILE, dict(config))


def resume_option(folder: Path) -> str:
    """Return the option that continues the run in ``folder``, as a shell reads it."""
    return shlex.quote(f"resume={folder}")


def has_checkpoint(folder: Path) -> bool:
    """Whether ``folder`` holds a checkpoint to resume from."""
    path = folder / CHECKPOINT_FILE
    return path.exists() or container.previous_of(path).exists()


def save_checkpoint(folder: Path, value: Mapping[str, Any]) -> None:
    """Write a checkpoint and keep the one before it.

    Raises:
        UserError: It cannot be written; the message names the checkpoint that is left.
    """
    try:
        container.save(folder / CHECKPOINT_FILE, _KIND, value, keep_previous=True)
    except UserError as error:
        if not has_checkpoint(folder):
            raise
        remedy = f"continue with {resume_option(folder)}"
        raise UserError(f"{error}; the last good checkpoint is kept, {remedy}") from error


def load_checkpoint(folder: Path) -> dict[str, Any]:
    """Read the newest intact checkpoint of the run in ``folder``; options have their current names.

    Raises:
        UserError: There is none, or it is of another run.
    """
    value = container.load_newest(folder / CHECKPOINT_FILE, _KIND)
    container.check_parts(value, {"config": dict}, folder / CHECKPOINT_FILE)
    own = _with_current_names(files.read_json(folder / CONFIG_FILE, "configuration"))
    value["config"] = _with_current_names(value["config"])
    # Through JSON, as in the file, which has no tuples and only string keys.
    different = differences(_at_any_place(own), _at_any_place(json.loads(json.dumps(value["config"]))))
    if different:
        raise UserError(
            f"{folder / CHECKPOINT_FILE} is of another run than {folder / CONFIG_FILE}: "
            f"{first_few(different)}; restore the run's own checkpoint"
        )
    return value


def _with_current_names(config: Any) -> Any:
    """Return a configuration of any release with the current names of all options."""
    if not isinstance(config, Mapping):
        return config
    renamed = {_EARLIER_NAMES.get(name, name): value for name, value in config.items()}
    if isinstance(renamed.get("dataset"), Mapping):
        renamed["dataset"] = with_current_dataset_names(renamed["dataset"])
    return renamed


def _at_any_place(config: Any) -> Any:
    """Return a configuration without the folder of its images, which a resumed run may change."""
    has_images = isinstance(config, Mapping) and isinstance(config.get("dataset"), Mapping)
    return {**config, "dataset": without_root(config["dataset"])} if has_images else config


def check_environment(then: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    """Compare the environment of a checkpoint with that of this process.

    Other versions, another processor or number of threads, and other training images are logged as a warning, because
    the bits of the result may then differ.

    Raises:
        UserError: The search space or the names of the keypoints differ.
    """
    now = {key: value for key, value in now.items() if key in then or key not in _NOT_IN_EARLIER}
    different = differences(then, now)
    if then.get("space_digest") != now["space_digest"]:
        raise UserError(f"{folder} cannot be resumed: {', '.join(different)}; restore these or start a new run")
    if "keypoints" in now:
        before, names = (list(from_plain(environment["keypoints"]).names) for environment in (then, now))
        if names != before:
            raise UserError(
                f"{folder} cannot be resumed: the keypoints of its data set have changed since it started "
                f"({first_few(differences(before, names, 'keypoints.names'))}); "
                "restore its annotation files or start a new run"
            )
    warn_of_differences(folder, different)


def warn_of_differences(resumed: Path, different: Sequence[str]) -> None:
    """Log a warning if a run is resumed under conditions that ``different`` (:func:`differences`) says have changed."""
    if different:
        logger.warning(
            f"{resumed} is resumed with {', '.join(different)}; the result may not be bit-identical to that of an "
            "uninterrupted run"
        )


def differences(before: Any, after: Any, place: str = "") -> list[str]:
    """Return the differences between two plain values as "place new instead of old", in order of place."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        different = []
        for key in sorted({*before, *after}, key=str):
            inner = f"{place}.{key}" if place else str(key)
            different += differences(before.get(key), after.get(key), inner)
        return different
    if isinstance(before, list | tuple) and isinstance(after, list | tuple) and len(before) == len(after):
        pairs = enumerate(zip(before, after, strict=True))
        return [line for i, (old, new) in pairs for line in differences(old, new, f"{place}[{i}]")]
    return [] if before == after else [f"{place} {after!r} instead of {before!r}"]
