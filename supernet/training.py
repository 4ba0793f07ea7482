"""Starting a training run, or continuing one: which folder, whose configuration, and what may differ."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from supernet import checkpoint, cli, run_folder
from supernet.distributed import Ranks, launched
from supernet.errors import UserError
from supernet.restart import AUTO, check_unchanged, run_of_job
from supernet.settings import from_mapping
from supernet.training_plan import Plan, planned
from supernet.training_run import TrainingRun
from supernet.training_settings import TrainSettings

RESUMABLE_WITH = ("resume", "runs", "threads", "num_workers", "device", "plots", "rank_timeout_seconds")
_PARTS: checkpoint.Parts = {"trainer": dict, "watch": dict, "made_with": dict, "seconds": (int, float)}
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
    with launched(settings.rank_timeout_seconds) as ranks:
        cli.CONSOLE.quiet = not ranks.is_main
        _start_or_resume(settings, config, overrides, ranks)


def _start_or_resume(
    settings: TrainSettings, config: Mapping[str, Any], overrides: Sequence[str], ranks: Ranks
) -> None:
    job = run_of_job(settings.runs, settings.name, settings.resume)
    if settings.resume in (None, AUTO) and (job is None or not run_folder.has_checkpoint(job)):
        plan = planned(settings, ranks)  # before the folder: a mistake leaves nothing behind
        new = job is None or not job.exists()  # a run may have been cut off before its first checkpoint
        made = ranks.of_main(lambda: str(cli.create_run(settings.runs, "train", settings.name) if new else job))
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
        checkpoint.check_parts(state, _PARTS, path)
        checkpoint.check_parts(state["trainer"], {"step": int}, path)
        from_mapping(TrainSettings, state["config"], "")
        if state["trainer"]["step"] >= state["config"]["steps"] and (folder / "summary.json").exists():
            raise UserError(f"{folder} is finished; use its supernet or start a new run")
        if job is not None:
            check_unchanged(folder, state["config"], config, RESUMABLE_WITH)
        given = {_key(override) for override in overrides} & {*RESUMABLE_WITH} - {"resume"}
        kept = {key: config[key] for key in given}
        changed = {**state["config"], **kept, "init": None, "init_arch": None}
        _train(planned(from_mapping(TrainSettings, changed, ""), ranks), state["config"], folder, state, ranks)


@contextmanager
def _owned(folder: Path, ranks: Ranks) -> Iterator[None]:
    """Own ``folder`` in the name of all ranks; what prevents it is told on each."""
    with ExitStack() as held:
        ranks.of_main(lambda: str(held.enter_context(run_folder.owned(folder))))
        yield


def _key(override: str) -> str:
    """Return the option that ``override`` (``key=value``, ``+key=value``) sets."""
    return override.split("=")[0].lstrip("+~")


def _train(plan: Plan, config: Mapping[str, Any], folder: Path, state: dict[str, Any] | None, ranks: Ranks) -> None:
    run = TrainingRun(plan, config, folder, state, ranks)
    run.train()
    run.report()
