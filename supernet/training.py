"""A training run: from configuration to a trained supernet with its report, in a run folder that can be resumed."""

import math
import re
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import torch

from supernet import checkpoint, cli, measurement, run_folder, sealed
from supernet.collapse import PeriodicEvaluation
from supernet.curves import CURVES_FILE, draw_curves
from supernet.distributed import Ranks, launched
from supernet.errors import UserError
from supernet.health import Unhealthy
from supernet.initialisation import StartingNetwork, begin_with, read_start
from supernet.loop import LoopSettings, StepReport, Trainer
from supernet.phases import Phase, Scheduled, schedule
from supernet.pose.augment import Augmentation, Batch
from supernet.pose.datasets import build, resolved
from supernet.pose.drawing import save_picture
from supernet.pose.evaluation import Evaluation
from supernet.pose.geometry import check_scales
from supernet.pose.inference import InferenceSettings
from supernet.pose.kept import KeptPictures
from supernet.pose.keypoints import KeypointSet
from supernet.pose.objective import PoseObjective
from supernet.pose.plots import batch_sheet, prediction_sheet
from supernet.pose.skipping import skipping
from supernet.precision import Precision, tf32
from supernet.restart import AUTO, check_unchanged, run_of_job
from supernet.scoring import SubnetScorer
from supernet.settings import from_mapping
from supernet.space import SearchSpace
from supernet.training_log import TrainingLog
from supernet.training_report import report_scores
from supernet.version import VERSION
from supernet.watch import Watch, tell_gaps
from supernet.weight_sharing import SuperNet

RESUMABLE_WITH = ("resume", "runs", "threads", "num_workers", "device", "plots", "rank_timeout_seconds")
NO_FILE_NAME = r"[^\w.-]+"
_PARTS: checkpoint.Parts = {"trainer": dict, "watch": dict, "made_with": dict, "seconds": (int, float)}
"""Of a checkpoint, besides the configuration."""


@dataclass(frozen=True)
class TrainSettings:
    """The options of ``conf/train.yaml``, which documents them."""

    space: dict[str, Any]
    dataset: dict[str, Any]
    phases: tuple[Phase, ...]
    evaluation: InferenceSettings
    augmentation: Augmentation
    steps: int
    batch_size: int
    seed: int
    clip_norm: float
    average_decay: float
    distillation_weight: float
    push_weight: float
    pull_weight: float
    sigma: float
    num_workers: int
    picture_memory_mib: int
    threads: int | None
    device: str
    num_calibration_images: int
    report_random: int
    log_every: int
    checkpoint_every: int
    runs: str
    name: str | None
    resume: str | None
    plots: bool = False
    explosion_factor: float = 10.0
    rollback_factor: float = 0.5
    evaluate_every: int = 0
    num_evaluate_images: int = 64
    precision: Precision = "auto"
    sync_batch_norm: bool = False
    rank_timeout_seconds: float = 300.0
    init: str | None = None
    init_arch: str | None = None

    def __post_init__(self) -> None:
        """Raise UserError for numbers outside of what makes sense."""
        if self.threads is not None and self.threads < 1:
            raise UserError(f"threads is {self.threads}; it must be at least 1, or null for all cores")
        if self.init_arch is not None and self.init is None:
            raise UserError(
                f"init_arch={self.init_arch} says nothing without init; add init=CHECKPOINT or leave it out"
            )
        if not 0 <= self.average_decay < 1:
            raise UserError(f"average_decay is {self.average_decay}; it must be from 0 to below 1")
        for name in ("clip_norm", "sigma", "rank_timeout_seconds"):
            if not 0 < getattr(self, name) < math.inf:
                raise UserError(f"{name} is {getattr(self, name)}; it must be above 0")
        if self.explosion_factor and not 1 < self.explosion_factor < math.inf:
            raise UserError(
                f"explosion_factor is {self.explosion_factor}; it must be above 1, or 0 to look for NaN alone"
            )
        if not 0 <= self.rollback_factor < 1:
            raise UserError(f"rollback_factor is {self.rollback_factor}; it must be below 1, or 0 to stop at once")
        counts = (
            "steps",
            "batch_size",
            "log_every",
            "checkpoint_every",
            "num_calibration_images",
            "num_evaluate_images",
        )
        for name in counts:
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in (
            "seed",
            "num_workers",
            "picture_memory_mib",
            "report_random",
            "evaluate_every",
            "distillation_weight",
            "push_weight",
            "pull_weight",
        ):
            if getattr(self, name) < 0:
                raise UserError(f"{name} is {getattr(self, name)}; it must not be negative")


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
        plan = _plan(settings, ranks)  # before the folder: a mistake leaves nothing behind
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
        _train(_plan(from_mapping(TrainSettings, changed, ""), ranks), state["config"], folder, state, ranks)


@contextmanager
def _owned(folder: Path, ranks: Ranks) -> Iterator[None]:
    """Own ``folder`` in the name of all ranks; what prevents it is told on each."""
    with ExitStack() as held:
        ranks.of_main(lambda: str(held.enter_context(run_folder.owned(folder))))
        yield


def _key(override: str) -> str:
    """Return the option that ``override`` (``key=value``, ``+key=value``) sets."""
    return override.split("=")[0].lstrip("+~")


@dataclass(frozen=True)
class _Plan:
    """A run's settings, checked and turned into what they stand for."""

    settings: TrainSettings
    device: torch.device
    space: SearchSpace
    scheduled: list[Scheduled]
    keypoints: KeypointSet
    dataset: dict[str, Any]
    train_set: KeptPictures
    test_set: KeptPictures
    val_set: KeptPictures | None
    start: StartingNetwork | None


def _plan(settings: TrainSettings, ranks: Ranks) -> _Plan:
    """Check ``settings`` against space, phases, data set, device and number of processes; nothing is written."""
    ranks.check_batch_size(settings.batch_size)
    space = SearchSpace.from_dict(settings.space)
    scheduled = schedule(settings.phases, space, settings.steps)
    for resolution in space.resolutions:
        check_scales(settings.evaluation.scales, settings.evaluation.size_divisor, resolution)
    train_set = KeptPictures(build(settings.dataset, "train"), memory_bytes=settings.picture_memory_mib * 2**20)
    if not len(train_set):
        raise UserError("the training split has no pictures; check dataset.train")
    keypoints = train_set.keypoints
    dataset = resolved(settings.dataset, keypoints)
    test_set = KeptPictures(build(dataset, "test"))
    val_set = KeptPictures(build(dataset, "val"), settings.num_evaluate_images) if settings.evaluate_every else None
    device = ranks.device(settings.device)
    start = None if settings.init is None else read_start(settings.init, settings.init_arch, space)
    return _Plan(settings, device, space, scheduled, keypoints, dataset, train_set, test_set, val_set, start)


def _train(plan: _Plan, config: Mapping[str, Any], folder: Path, state: dict[str, Any] | None, ranks: Ranks) -> None:
    start = time.perf_counter()
    settings, space, keypoints = plan.settings, plan.space, plan.keypoints
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    cv2.setNumThreads(0)
    torch.manual_seed(settings.seed)
    supernet = SuperNet(space, keypoints.num)
    if plan.start is not None and state is None:
        cli.CONSOLE.print(f"init: {begin_with(supernet, plan.start, keypoints)}")
    supernet.to(plan.device)
    loop_settings = LoopSettings(
        settings.batch_size,
        settings.seed,
        settings.clip_norm,
        settings.average_decay,
        settings.distillation_weight,
        settings.num_workers,
        settings.augmentation,
        settings.precision,
        settings.sync_batch_norm,
    )
    objective = PoseObjective(keypoints.num, settings.sigma, settings.push_weight, settings.pull_weight)
    trainer = Trainer(supernet, objective, plan.train_set, plan.scheduled, loop_settings, ranks)
    evaluation = None
    if plan.val_set is not None:
        val_scorer = SubnetScorer(
            supernet, plan.train_set, plan.val_set, settings.evaluation, settings.num_evaluate_images, ranks=ranks
        )
        evaluation = PeriodicEvaluation(val_scorer, settings.evaluate_every)
    watch = Watch(trainer, settings.explosion_factor, settings.rollback_factor, evaluation)
    made_with = {
        "code": VERSION,
        **measurement.versions(),
        "processor": measurement.machine()["processor"],
        "device": plan.device.type,
        "threads": torch.get_num_threads(),
        "processes": ranks.count,
        "space_digest": space.digest(),
    }
    if state is not None:
        run_folder.check_made_with(state["made_with"], made_with, folder)
        try:
            trainer.load_state(state["trainer"])
            watch.load_state(state["watch"])
        except sealed.DAMAGED as error:
            path = folder / run_folder.CHECKPOINT_FILE
            raise UserError(f"{path} is not of this run ({error!r}); put the run's own checkpoint back") from error
    cli.CONSOLE.print(
        f"space {space.name}: {float(space.count()):.3g} subnets, "
        f"{sum(p.numel() for p in supernet.parameters()):,} shared weights; "
        f"{settings.steps} steps of {settings.batch_size} pictures in {len(plan.scheduled)} phases on {plan.device}"
        f"{f', {ranks.count} processes' if ranks.count > 1 else ''}; "
        f"writing to {folder}"
    )

    plots = folder / "plots"
    phase_ends = {scheduled.stop for scheduled in plan.scheduled}
    seconds_before = 0.0 if state is None else state["seconds"]

    def seconds() -> float:
        return seconds_before + time.perf_counter() - start

    saved_at = -1

    def save_checkpoint() -> None:
        nonlocal saved_at
        saved_at = trainer.step
        if not ranks.is_main:
            return
        value = {"config": dict(config), "made_with": made_with, "seconds": seconds()}
        run_folder.save_checkpoint(folder, {**value, "trainer": trainer.state(), "watch": watch.state()})

    if state is None:
        save_checkpoint()  # before any step: a place that cannot hold it is told at once
    if ranks.is_main:
        cli.point_latest(folder)

    with (
        TrainingLog(folder, trainer.step) if ranks.is_main else nullcontext() as log,
        cli.progress_bar() as progress,
        cli.stop_request() as stop_requested,
        tf32(allowed=True),
    ):
        task = progress.add_task("training", total=settings.steps, completed=trainer.step, note="")

        def on_step(report: StepReport) -> None:
            watch.follow(report)
            stops = ranks.any(stop_requested())
            saves = stops or trainer.step % settings.checkpoint_every == 0
            logs = report.step % settings.log_every == 0 or trainer.step == settings.steps
            if logs or saves or trainer.step in phase_ends:  # a checkpoint never holds what has gone wrong
                watch.losses.read()
            if logs:
                figures = watch.figures()
                if log is not None:
                    progress.update(task, note=log.write(report, figures))
            progress.update(task, completed=trainer.step)
            if not stops:
                watch.evaluate_if_due()
            if saves:
                save_checkpoint()
            if stops:
                raise UserError(f"stopped after {trainer.step} steps; continue with resume={folder}")

        def on_phase_end(_: Scheduled) -> None:
            if saved_at != trainer.step:
                save_checkpoint()

        def draw_batch(scheduled: Scheduled, batch: Batch) -> None:
            name = f"batch_{plan.scheduled.index(scheduled)}_{scheduled.phase.name}"
            sheet = batch_sheet(batch, objective.targets(batch), keypoints)
            save_picture(plots / f"{re.sub(NO_FILE_NAME, '_', name)}.png", sheet)

        watch.evaluate_if_due()  # what was left out when the run was stopped
        while True:
            try:
                trainer.run(on_step, on_phase_end, draw_batch if settings.plots and ranks.is_main else None)
                break
            except Unhealthy as failure:
                failure.pictures = ranks.lists(failure.pictures)
                rollback = watch.roll_back(failure, folder)
                ranks.any(False)  # until all have read it, the checkpoint stays what it is
                save_checkpoint()
                if log is not None:
                    log.go_back(trainer.step)
                    warnings.warn(
                        f"{failure}; back to step {rollback.back_to} with {rollback.rate_factor:g} of all rates",
                        stacklevel=2,
                    )
        if log is not None:
            draw_curves(folder / CURVES_FILE, log.rows(), [each.back_to for each in watch.rollbacks])
    train_seconds = seconds()

    final = trainer.averaged().eval()
    ranks.copy_from_main(final.parameters())
    path = folder / checkpoint.SUPERNET_FILE
    measured_with = asdict(settings.evaluation)
    if ranks.is_main:
        checkpoint.save_supernet(path, space, final.state_dict(), keypoints, plan.dataset, measured_with, objective)
    scorer = SubnetScorer(
        final, plan.train_set, plan.test_set, settings.evaluation, settings.num_calibration_images, ranks=ranks
    )

    def draw_predictions(name: str, found: Evaluation) -> None:
        save_picture(plots / f"test_{name.replace(' ', '_')}.png", prediction_sheet(plan.test_set, found.people))

    on_scored = draw_predictions if settings.plots and ranks.is_main else None
    try:
        rows = report_scores(scorer, space, settings.report_random, settings.seed, on_scored)
    except KeyboardInterrupt:
        raise UserError(f"stopped before the report; {path} is whole, resume={folder} makes the report") from None
    skips = skipping(plan.train_set)
    skipped = ranks.lists([] if skips is None else skips.skipped())
    if not ranks.is_main:
        return
    health = watch.summary()
    tell_gaps(health)
    cli.write_summary(
        folder,
        {
            "supernet": str(path),
            "space": space.name,
            "subnets": rows,
            "num_test_images": len(plan.test_set),
            "skipped_pictures": skipped,
            "health": health,
            "steps": settings.steps,
            "train_seconds": round(train_seconds, 1),
            "seconds": round(seconds(), 1),
            "images_per_second": round(settings.steps * settings.batch_size / train_seconds, 1),
        },
    )
    cli.CONSOLE.print(
        f"supernet: {path}   report: {folder / 'summary.json'}   curves: {folder / CURVES_FILE}, "
        f"tensorboard --logdir {folder}",
        soft_wrap=True,
    )
