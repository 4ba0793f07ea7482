"""A training run in its folder: all steps, with checkpoints, log and images, and the report at the end."""

import re
import time
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import torch

from supernet.checkpoints import safe_torch
from supernet.checkpoints.supernet_file import SUPERNET_FILE, save_supernet
from supernet.cli.console import CONSOLE, progress_bar
from supernet.cli.runs import point_latest, write_summary
from supernet.cli.signals import stop_request
from supernet.compute import machine
from supernet.compute.distributed import Processes
from supernet.compute.precision import tf32
from supernet.errors import UserError
from supernet.evaluation.subnet_report import report_scores
from supernet.evaluation.subnet_scorer import SubnetScorer
from supernet.pose.data.skip_broken import skipping
from supernet.pose.drawing import save_image
from supernet.pose.evaluation import Evaluation
from supernet.pose.plots import batch_sheet, prediction_sheet
from supernet.pose.training.augmentation import Batch
from supernet.pose.training.objective import PoseObjective
from supernet.training import run_folder
from supernet.training.monitoring.curves import CURVES_FILE, draw_curves
from supernet.training.monitoring.log import TrainingLog
from supernet.training.monitoring.loss_monitor import TrainingDiverged
from supernet.training.monitoring.monitor import TrainingMonitor, warn_untrained
from supernet.training.monitoring.validation import PeriodicValidation
from supernet.training.phases import ScheduledPhase
from supernet.training.setup import TrainingSetup
from supernet.training.trainer import LoopSettings, StepReport, Trainer
from supernet.training.warm_start import load_warm_start
from supernet.version import VERSION
from supernet.weight_sharing import SuperNet

NO_FILE_NAME = r"[^\w.-]+"


class TrainingRun:
    """What :meth:`train` and then :meth:`report` work on.

    Args:
        plan: What to train.
        config: The run's own plain configuration, kept in its checkpoints.
        folder: The run's folder, which the caller owns.
        state: A checkpoint of this run to go on from, or None to begin.
        ranks: The processes that train together.

    Raises:
        UserError: The checkpoint does not go with the plan, or the folder cannot be written.
    """

    def __init__(
        self,
        plan: TrainingSetup,
        config: Mapping[str, Any],
        folder: Path,
        state: dict[str, Any] | None,
        ranks: Processes,
    ) -> None:
        self.plan, self.config, self.folder, self.ranks = plan, config, folder, ranks
        self.plots = folder / "plots"
        self._draws = plan.settings.plots and ranks.is_main
        self._started, self._seconds_before = time.perf_counter(), 0.0 if state is None else state["seconds"]
        settings = plan.settings
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        cv2.setNumThreads(0)
        torch.manual_seed(settings.seed)
        supernet = SuperNet(plan.space, plan.keypoints.num)
        if plan.start is not None and state is None:
            CONSOLE.print(f"init: {load_warm_start(supernet, plan.start, plan.keypoints)}")
        supernet.to(plan.device)
        self.objective = PoseObjective(plan.keypoints.num, settings.sigma, settings.push_weight, settings.pull_weight)
        self.trainer = Trainer(supernet, self.objective, plan.train_set, plan.scheduled, _loop_settings(plan), ranks)
        evaluation = None
        if plan.val_set is not None:
            num = settings.num_evaluate_images
            scorer = SubnetScorer(supernet, plan.train_set, plan.val_set, settings.evaluation, num, ranks=ranks)
            evaluation = PeriodicValidation(scorer, settings.evaluate_every)
        self.watch = TrainingMonitor(self.trainer, settings.explosion_factor, settings.rollback_factor, evaluation)
        self.made_with = {
            "code": VERSION,
            **machine.versions(),
            "processor": machine.machine()["processor"],
            "device": plan.device.type,
            "threads": torch.get_num_threads(),
            "processes": ranks.count,
            "space_digest": plan.space.digest(),
        }
        if state is not None:
            run_folder.check_made_with(state["made_with"], self.made_with, folder)
            try:
                self.trainer.load_state(state["trainer"])
                self.watch.load_state(state["watch"])
            except safe_torch.DAMAGED as error:
                path = folder / run_folder.CHECKPOINT_FILE
                raise UserError(f"{path} is not of this run ({error!r}); put the run's own checkpoint back") from error
        CONSOLE.print(
            f"space {plan.space.name}: {float(plan.space.count()):.3g} subnets, "
            f"{sum(p.numel() for p in supernet.parameters()):,} shared weights; "
            f"{settings.steps} steps of {settings.batch_size} images in {len(plan.scheduled)} phases "
            f"on {plan.device}{f', {ranks.count} processes' if ranks.count > 1 else ''}; writing to {folder}"
        )
        self._saved_at = -1
        if state is None:
            self._save_checkpoint()  # before any step: a place that cannot hold it is told at once
        if ranks.is_main:
            point_latest(folder)

    def train(self) -> None:
        """Take all steps that are left; a failure of the loss goes back to the last checkpoint once.

        Raises:
            UserError: A signal stopped it, after a checkpoint, or the loss failed again.
        """
        with (
            TrainingLog(self.folder, self.trainer.step) if self.ranks.is_main else nullcontext() as log,
            progress_bar() as progress,
            stop_request() as stop_requested,
            tf32(allowed=True),
        ):
            settings, trainer, watch = self.plan.settings, self.trainer, self.watch
            phase_ends = {scheduled.stop for scheduled in self.plan.scheduled}
            task = progress.add_task("training", total=settings.steps, completed=trainer.step, note="")

            def on_step(report: StepReport) -> None:
                watch.follow(report)
                stops = self.ranks.any(stop_requested())
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
                    self._save_checkpoint()
                if stops:
                    raise UserError(f"stopped after {trainer.step} steps; continue with resume={self.folder}")

            watch.evaluate_if_due()  # what was left out when the run was stopped
            while True:
                try:
                    trainer.run(on_step, self._on_phase_end, self._draw_batch if self._draws else None)
                    break
                except TrainingDiverged as failure:
                    self._roll_back(failure, log)
            if log is not None:
                draw_curves(self.folder / CURVES_FILE, log.rows(), [each.back_to for each in watch.rollbacks])

    def report(self) -> None:
        """Save the averaged weights as a supernet and score its largest, smallest and random subnets.

        Raises:
            UserError: Ctrl-C, after the supernet was saved.
        """
        plan, settings, ranks = self.plan, self.plan.settings, self.ranks
        train_seconds = self._seconds()
        final = self.trainer.averaged().eval()
        ranks.copy_from_main(final.parameters())
        path = self.folder / SUPERNET_FILE
        measured_with = asdict(settings.evaluation)
        if ranks.is_main:
            save_supernet(
                path, plan.space, final.state_dict(), plan.keypoints, plan.dataset, measured_with, self.objective
            )
        num = settings.num_calibration_images
        scorer = SubnetScorer(final, plan.train_set, plan.test_set, settings.evaluation, num, ranks=ranks)
        on_scored = self._draw_predictions if self._draws else None
        try:
            rows = report_scores(scorer, plan.space, settings.report_random, settings.seed, on_scored)
        except KeyboardInterrupt:
            raise UserError(
                f"stopped before the report; {path} is whole, resume={self.folder} makes the report"
            ) from None
        skips = skipping(plan.train_set)
        skipped = ranks.lists([] if skips is None else skips.skipped())
        if not ranks.is_main:
            return
        health = self.watch.summary()
        warn_untrained(health)
        summary = {
            "supernet": str(path),
            "space": plan.space.name,
            "subnets": rows,
            "num_test_images": len(plan.test_set),
            "skipped_images": skipped,
            "health": health,
            "steps": settings.steps,
            "train_seconds": round(train_seconds, 1),
            "seconds": round(self._seconds(), 1),
            "images_per_second": round(settings.steps * settings.batch_size / train_seconds, 1),
        }
        write_summary(self.folder, summary)
        CONSOLE.print(
            f"supernet: {path}   report: {self.folder / 'summary.json'}   curves: {self.folder / CURVES_FILE}, "
            f"tensorboard --logdir {self.folder}",
            soft_wrap=True,
        )

    def _seconds(self) -> float:
        """Time that the run has taken, with that before it was resumed."""
        return self._seconds_before + time.perf_counter() - self._started

    def _save_checkpoint(self) -> None:
        self._saved_at = self.trainer.step
        if self.ranks.is_main:
            value = {"config": dict(self.config), "made_with": self.made_with, "seconds": self._seconds()}
            value |= {"trainer": self.trainer.state(), "watch": self.watch.state()}
            run_folder.save_checkpoint(self.folder, value)

    def _on_phase_end(self, _: ScheduledPhase) -> None:
        if self._saved_at != self.trainer.step:
            self._save_checkpoint()

    def _roll_back(self, failure: TrainingDiverged, log: TrainingLog | None) -> None:
        failure.images = self.ranks.lists(failure.images)
        rollback = self.watch.roll_back(failure, self.folder)
        self.ranks.any(False)  # until all have read it, the checkpoint stays what it is
        self._save_checkpoint()
        if log is not None:
            log.go_back(self.trainer.step)
            warnings.warn(
                f"{failure}; back to step {rollback.back_to} with {rollback.rate_factor:g} of all rates", stacklevel=2
            )

    def _draw_batch(self, scheduled: ScheduledPhase, batch: Batch) -> None:
        name = f"batch_{self.plan.scheduled.index(scheduled)}_{scheduled.phase.name}"
        sheet = batch_sheet(batch, self.objective.targets(batch), self.plan.keypoints)
        save_image(self.plots / f"{re.sub(NO_FILE_NAME, '_', name)}.png", sheet)

    def _draw_predictions(self, name: str, found: Evaluation) -> None:
        sheet = prediction_sheet(self.plan.test_set, found.people)
        save_image(self.plots / f"test_{name.replace(' ', '_')}.png", sheet)


def _loop_settings(plan: TrainingSetup) -> LoopSettings:
    settings = plan.settings
    return LoopSettings(
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
