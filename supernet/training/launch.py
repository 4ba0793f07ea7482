"""Start a training run or resume one: its folder, its configuration, and the options that may differ."""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from supernet.checkpoints import container
from supernet.cli.grammar import option_of
from supernet.cli.runs import create_run, find_run, planned_run
from supernet.compute.distributed import Processes, process_group, restarts
from supernet.errors import UserError
from supernet.io.schema import from_mapping
from supernet.pose.datasets import relocated
from supernet.training import run_folder
from supernet.training.planning.dry_run import show_plan
from supernet.training.planning.memory import check_memory
from supernet.training.planning.time_budget import with_steps_for_minutes
from supernet.training.run import TrainingRun
from supernet.training.settings import TrainSettings
from supernet.training.setup import build_setup

AUTO = "auto"
"""``resume=auto``: resume the run of this name if it has a checkpoint, else start it."""
RESUMABLE_WITH = ("resume", "runs", "threads", "num_workers", "device", "plots", "rank_timeout_seconds")
"""Options that may differ between a run and its continuation, besides the folder of its images."""
ROOT = "dataset.root"
_PARTS: container.Parts = {"trainer": dict, "watch": dict, "made_with": dict, "seconds": (int, float)}
"""Parts of a checkpoint, besides the configuration. "watch" is the monitor, "made_with" the environment."""


def start_or_resume(config: Mapping[str, Any], overrides: Sequence[str] = ()) -> Path:
    """Train as configured, or resume the run that the option ``resume`` names with that run's own configuration.

    Args:
        config: Plain configuration.
        overrides: What the command line changed, in Hydra's ``key=value`` form.

    Returns:
        The run's folder, which holds the supernet; with ``dry_run``, which makes none, the folder of all runs.

    Raises:
        UserError: A wrong option, a run that cannot be resumed, or options that a resumed run cannot change.
    """
    settings = from_mapping(TrainSettings, config, "")
    with process_group(settings.rank_timeout_seconds) as processes:
        folder = folder_of_job(settings.runs, settings.name, settings.resume)
        if settings.resume in (None, AUTO) and (folder is None or not run_folder.has_checkpoint(folder)):
            return _start(settings, config, folder, processes)
        if folder is not None:
            return _resume(config, overrides, folder, processes, same_config=True)
        folder = find_run(settings.runs, "train", settings.resume or "")
        return _resume(config, overrides, folder, processes, same_config=False)


def _start(settings: TrainSettings, config: Mapping[str, Any], folder: Path | None, processes: Processes) -> Path:
    """Start a run in a new folder, or in ``folder`` if a run was killed there before its first checkpoint."""
    started = time.perf_counter()
    is_new = folder is None or not folder.exists()
    if is_new and not settings.dry_run:
        processes.on_main(lambda: str(planned_run(settings.runs, "train", settings.name)))
    setup = build_setup(settings, processes)  # before the folder, so that a wrong option leaves none behind
    if settings.dry_run:
        show_plan(setup, processes, started)
        return Path(settings.runs)
    check_memory(setup, processes)
    if settings.minutes is not None:
        setup = with_steps_for_minutes(setup, processes, started)
        config = {**config, "steps": setup.settings.steps}
    folder = Path(
        processes.on_main(lambda: str(create_run(settings.runs, "train", settings.name) if is_new else folder))
    )
    with run_folder.locked_for(processes, folder):
        if processes.is_main:
            run_folder.write_config(folder, config)
        run = TrainingRun(setup, config, folder, None, processes)
        run.train()
        run.report()
    return folder


def _resume(
    config: Mapping[str, Any], overrides: Sequence[str], folder: Path, processes: Processes, same_config: bool
) -> Path:
    """Resume the run in ``folder`` with its own configuration, except for ``RESUMABLE_WITH`` and ``ROOT``.

    Args:
        config: Plain configuration.
        overrides: What the command line changed.
        folder: The run's folder.
        processes: The processes that train together.
        same_config: Whether ``config`` must be that of the run, or else only ``overrides`` are checked.
    """
    changed = {option_of(override): override for override in overrides}
    if not same_config:
        for key, override in changed.items():
            if key not in (*RESUMABLE_WITH, ROOT):
                raise UserError(
                    f"{override} cannot be changed when resuming, which keeps the run's own configuration; "
                    f"remove it (allowed: {', '.join((*RESUMABLE_WITH, ROOT))})"
                )
    if not run_folder.has_checkpoint(folder):
        raise UserError(f"there is no checkpoint in {folder}; name a folder of runs/train or start a new run")
    folder = folder.resolve()
    with run_folder.locked_for(processes, folder):
        state = run_folder.load_checkpoint(folder)
        path = folder / run_folder.CHECKPOINT_FILE
        container.check_parts(state, _PARTS, path)
        container.check_parts(state["trainer"], {"step": int}, path)
        own_config = state["config"]
        from_mapping(TrainSettings, own_config, "")
        if state["trainer"]["step"] >= own_config["steps"] and (folder / "summary.json").exists():
            raise UserError(f"{folder} is finished; use its supernet or start a new run")
        if ROOT in changed:
            own_config = {**own_config, "dataset": relocated(own_config["dataset"], config["dataset"].get("root"))}
        if same_config:
            chosen = () if own_config.get("minutes") is None else ("steps",)  # by the first job
            check_unchanged(folder, own_config, config, (*RESUMABLE_WITH, *chosen))
        changes = {key: config[key] for key in changed.keys() & RESUMABLE_WITH if key != "resume"}
        settings = from_mapping(TrainSettings, {**own_config, **changes, "init": None, "init_arch": None}, "")
        setup = build_setup(settings, processes)
        check_memory(setup, processes)
        run = TrainingRun(setup, own_config, folder, state, processes)
        run.train()
        run.report()
    return folder


def folder_of_job(runs: str, name: str | None, resume: str | None) -> Path | None:
    """Return the folder of the run that this job resumes if it has a checkpoint; None if it resumes none by itself.

    A job resumes a run by itself with ``resume=auto``, or when ``torchrun`` has restarted it.

    Args:
        runs: Folder of all runs.
        name: Name of this run.
        resume: As in ``conf/train.yaml``.

    Raises:
        UserError: The job may have to find its run again, but the run has no name.
    """
    num_restarts, max_restarts = restarts()
    if resume not in (None, AUTO) or (resume is None and not max_restarts):
        return None
    if name is None:
        why = "resume=auto finds its run by name" if resume == AUTO else "a restarted job must find its run by name"
        raise UserError(f"{why}; add name=NAME")
    return Path(runs) / "train" / name if resume == AUTO or num_restarts else None


def check_unchanged(
    folder: Path, before: Mapping[str, Any], now: Mapping[str, Any], changeable: Collection[str]
) -> None:
    """Raise UserError if a job is about to resume a run with another configuration than it was started with.

    Args:
        folder: The run's folder.
        before: The run's configuration.
        now: The job's configuration.
        changeable: Options that may differ.
    """
    defaults = {field.name: field.default for field in fields(TrainSettings)}  # options that a later release added
    for key in sorted({*before, *now} - {*changeable}):
        if before.get(key, defaults.get(key)) != now.get(key, defaults.get(key)):
            raise UserError(f"{key} differs from the run in {folder}; restore its value or choose another name")
