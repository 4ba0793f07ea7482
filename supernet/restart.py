"""Runs that continue by themselves: when ``torchrun`` restarts a job, or a cluster queues it again."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from supernet.distributed import restarts
from supernet.errors import UserError

AUTO = "auto"
"""``resume=auto``: continue the run of this name if there is one, else start it."""


def run_of_job(runs: str, name: str | None, resume: str | None) -> Path | None:
    """Return the folder of the run that this job continues if it has a checkpoint; None if it is told otherwise.

    Args:
        runs: Folder of all runs.
        name: Of this run.
        resume: As in ``conf/train.yaml``.

    Raises:
        UserError: The run may have to be found again, and has no name to find it by.
    """
    restarted, most_restarts = restarts()
    if resume not in (None, AUTO) or (resume is None and not most_restarts):
        return None
    if name is None:
        why = (
            "resume=auto finds its run by name" if resume == AUTO else "a job that may restart must find its run again"
        )
        raise UserError(f"{why}; add name=NAME")
    return Path(runs) / "train" / name if resume == AUTO or restarted else None


def check_unchanged(
    folder: Path, before: Mapping[str, Any], now: Mapping[str, Any], changeable: Collection[str]
) -> None:
    """Raise UserError if a run is to continue by itself with another configuration than it was started with.

    Args:
        folder: The run's.
        before: Its configuration.
        now: The one given now.
        changeable: Options that may differ.
    """
    for key in sorted({*before, *now} - {*changeable}):
        if before.get(key) != now.get(key):
            raise UserError(f"{key} is not what the run {folder} was started with; restore it or choose another name")
