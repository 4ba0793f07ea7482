"""Starting a training run, or continuing one: which folder, whose configuration, and what may differ."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from supernet.checkpoints import container
from supernet.cli.console import CONSOLE
from supernet.cli.runs import create_run
from supernet.compute.distributed import Processes, process_group, restarts
from supernet.errors import UserError
from supernet.io.schema import from_mapping
from supernet.training import run_folder
from supernet.training.run import TrainingRun
from supernet.training.setup import TrainingSetup, TrainSettings, build_setup

RESUMABLE_WITH = ("resume", "runs", "threads", "num_workers", "device", "plots", "rank_timeout_seconds")
_PARTS: container.Parts = {"trainer": dict, "watch": dict, "made_with": dict, "seconds": (int, float)}
"""Of a checkpoint, besides the configuration."""


def start_or_resume(config: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """Train as configured, or continue the run that ``resume`` names with that run's own configuration.

    Args:
        config: Plain configuration.
        overrides: What the command line changed, in Hydra's ``key=value`` form.

    Raises:
        UserError: A wrong option, a run that cannot be resumed, or options that a resumed run cannot change.
    """
    settings = from_mapping(TrainSettings, config, "")
    with process_group(settings.rank_timeout_seconds) as ranks:
        CONSOLE.quiet = not ranks.is_main
        _start_or_resume(settings, config, overrides, ranks)


def _start_or_resume(
    settings: TrainSettings, config: Mapping[str, Any], overrides: Sequence[str], ranks: Processes
) -> None:
    job = run_of_job(settings.runs, settings.name, settings.resume)
    if settings.resume in (None, AUTO) and (job is None or not run_folder.has_checkpoint(job)):
        plan = build_setup(settings, ranks)  # before the folder: a mistake leaves nothing behind
        new = job is None or not job.exists()  # a run may have been cut off before its first checkpoint
        made = ranks.of_main(lambda: str(create_run(settings.runs, "train", settings.name) if new else job))
        with _owned(Path(made), ranks):
            if ranks.is_main:
                run_folder.write_config(Path(made), config)
            _train(plan, config, Path(made), None, ranks)
        return
    latest = Path(settings.runs) / "train" / "latest"
    folder = job or (latest if settings.resume == "latest" else Path(settings.resume or ""))
    for override in overrides if job is None else ():
        if _key(override) not in RESUMABLE_WITH:
            raise UserError(
                f"{override} cannot be changed when resuming, which keeps the run's own configuration; "
                f"remove it (allowed: {', '.join(RESUMABLE_WITH)})"
            )
    if not run_folder.has_checkpoint(folder):
        raise UserError(f"there is no checkpoint in {folder}; name a folder of runs/train or start a new run")
    folder = folder.resolve()
    with _owned(folder, ranks):
        state = run_folder.load_checkpoint(folder)
        path = folder / run_folder.CHECKPOINT_FILE
        container.check_parts(state, _PARTS, path)
        container.check_parts(state["trainer"], {"step": int}, path)
        from_mapping(TrainSettings, state["config"], "")
        if state["trainer"]["step"] >= state["config"]["steps"] and (folder / "summary.json").exists():
            raise UserError(f"{folder} is finished; use its supernet or start a new run")
        if job is not None:
            check_unchanged(folder, state["config"], config, RESUMABLE_WITH)
        given = {_key(override) for override in overrides} & {*RESUMABLE_WITH} - {"resume"}
        kept = {key: config[key] for key in given}
        changed = {**state["config"], **kept, "init": None, "init_arch": None}
        _train(build_setup(from_mapping(TrainSettings, changed, ""), ranks), state["config"], folder, state, ranks)


@contextmanager
def _owned(folder: Path, ranks: Processes) -> Iterator[None]:
    """Own ``folder`` in the name of all ranks; what prevents it is told on each."""
    with ExitStack() as held:
        ranks.of_main(lambda: str(held.enter_context(run_folder.owned(folder))))
        yield


def _key(override: str) -> str:
    """Return the option that ``override`` (``key=value``, ``+key=value``) sets."""
    return override.split("=")[0].lstrip("+~")


def _train(
    plan: TrainingSetup, config: Mapping[str, Any], folder: Path, state: dict[str, Any] | None, ranks: Processes
) -> None:
    run = TrainingRun(plan, config, folder, state, ranks)
    run.train()
    run.report()


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
