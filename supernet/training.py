"""A training run: from configuration to a trained supernet with its report, in a run folder that can be resumed."""

import math
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import torch

from supernet import checkpoint, cli
from supernet.distributed import Ranks, launched
from supernet.errors import UserError
from supernet.initialisation import StartingNetwork, begin_with, read_start
from supernet.loop import LoopSettings, StepReport, Trainer, check_finite
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
from supernet.weight_sharing import SuperNet

CHECKPOINT_FILE = "checkpoint.pt"
RESUMABLE_WITH = ("resume", "runs", "threads", "num_workers", "device", "plots", "rank_timeout_seconds")
NO_FILE_NAME = r"[^\w.-]+"


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
        for name in ("steps", "batch_size", "log_every", "checkpoint_every", "num_calibration_images"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in (
            "seed",
            "num_workers",
            "picture_memory_mib",
            "report_random",
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
    if settings.resume in (None, AUTO) and (job is None or not (job / CHECKPOINT_FILE).exists()):
        plan = _plan(settings, ranks)  # before the folder: a mistake leaves nothing behind
        new = job is None or not job.exists()  # a run may have been cut off before its first checkpoint
        made = ranks.of_main(lambda: str(cli.create_run(settings.runs, "train", settings.name) if new else job))
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
    if not (folder / CHECKPOINT_FILE).exists():
        raise UserError(f"there is no checkpoint in {folder}; name a folder of runs/train or start a new run")
    folder = folder.resolve()
    state = checkpoint.load(folder / CHECKPOINT_FILE, "training")
    if state["step"] >= state["config"]["steps"] and (folder / "summary.json").exists():
        raise UserError(f"{folder} is finished; use its supernet or start a new run")
    if job is not None:
        check_unchanged(folder, state["config"], config, RESUMABLE_WITH)
    given = {_key(override) for override in overrides} & {*RESUMABLE_WITH} - {"resume"}
    kept = {key: config[key] for key in given}
    plan = _plan(from_mapping(TrainSettings, {**state["config"], **kept, "init": None, "init_arch": None}, ""), ranks)
    _train(plan, state["config"], folder, state, ranks)
    if ranks.is_main:
        cli.point_latest(folder)


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
    device = ranks.device(settings.device)
    start = None if settings.init is None else read_start(settings.init, settings.init_arch, space)
    return _Plan(settings, device, space, scheduled, keypoints, dataset, train_set, test_set, start)


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
    if state is not None:
        trainer.load_state(state)
        if state["num_ranks"] != ranks.count:
            cli.CONSOLE.print(
                f"so far {state['num_ranks']} processes trained, from here on {ranks.count}: the same pictures and "
                "subnets, but not the same bits"
            )
    cli.CONSOLE.print(
        f"space [bold]{space.name}[/]: {float(space.count()):.3g} subnets, "
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

    def save_checkpoint() -> None:
        if not ranks.is_main:
            return
        value = {"config": dict(config), "seconds": seconds(), "num_ranks": ranks.count, **trainer.state()}
        checkpoint.save(folder / CHECKPOINT_FILE, "training", value)

    with (
        TrainingLog(folder, trainer.step) if ranks.is_main else nullcontext() as log,
        cli.progress_bar() as progress,
        cli.stop_request() as stop_requested,
        tf32(allowed=True),
    ):
        task = progress.add_task("training", total=settings.steps, completed=trainer.step, note="")

        def on_step(report: StepReport) -> None:
            stops = ranks.any(stop_requested())
            saves = stops or trainer.step % settings.checkpoint_every == 0
            logs = report.step % settings.log_every == 0 or trainer.step == settings.steps
            if logs or saves or trainer.step in phase_ends:  # a checkpoint never holds what has gone wrong
                check_finite(report)
            if logs and log is not None:
                progress.update(task, note=log.write(report))
            progress.update(task, completed=trainer.step)
            if saves:
                save_checkpoint()
            if stops:
                raise UserError(f"stopped after {trainer.step} steps; continue with resume={folder}")

        def draw_batch(scheduled: Scheduled, batch: Batch) -> None:
            name = f"batch_{plan.scheduled.index(scheduled)}_{scheduled.phase.name}"
            sheet = batch_sheet(batch, objective.targets(batch), keypoints)
            save_picture(plots / f"{re.sub(NO_FILE_NAME, '_', name)}.png", sheet)

        trainer.run(on_step, lambda _: save_checkpoint(), draw_batch if settings.plots and ranks.is_main else None)
    train_seconds = seconds()

    final = trainer.averaged().eval()
    ranks.copy_from_main(final.parameters())
    evaluation = asdict(settings.evaluation)
    path = folder / checkpoint.SUPERNET_FILE
    if ranks.is_main:
        checkpoint.save_supernet(path, space, final.state_dict(), keypoints, plan.dataset, evaluation, objective)
    scorer = SubnetScorer(
        final, plan.train_set, plan.test_set, settings.evaluation, settings.num_calibration_images, ranks=ranks
    )

    def draw_predictions(name: str, found: Evaluation) -> None:
        save_picture(plots / f"test_{name.replace(' ', '_')}.png", prediction_sheet(plan.test_set, found.people))

    on_scored = draw_predictions if settings.plots and ranks.is_main else None
    rows = report_scores(scorer, space, settings.report_random, settings.seed, on_scored)
    if not ranks.is_main:
        return
    skips = skipping(plan.train_set)
    cli.write_summary(
        folder,
        {
            "supernet": str(path),
            "space": space.name,
            "subnets": rows,
            "num_test_images": len(plan.test_set),
            "skipped_pictures": [] if skips is None else skips.skipped(),
            "steps": settings.steps,
            "train_seconds": round(train_seconds, 1),
            "seconds": round(seconds(), 1),
            "images_per_second": round(settings.steps * settings.batch_size / train_seconds, 1),
        },
    )
    cli.CONSOLE.print(
        f"supernet: {path}   report: {folder / 'summary.json'}   curves: tensorboard --logdir {folder}",
        soft_wrap=True,
    )
