"""A training run in its folder: the training loop with checkpoints, log and images, and the report at the end."""

import logging
import re
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from supernet.checkpoints import safe_torch
from supernet.checkpoints.lineage import Lineage, from_plain, to_plain
from supernet.checkpoints.supernet_file import SUPERNET_FILE, save_supernet
from supernet.cli.console import progress_bar
from supernet.cli.progress import Speed
from supernet.cli.runs import point_latest, write_summary
from supernet.cli.signals import stop_request
from supernet.compute import machine
from supernet.compute.distributed import Processes
from supernet.compute.precision import tf32
from supernet.errors import UserError
from supernet.evaluation.subnet_report import report_scores
from supernet.evaluation.subnet_scorer import SubnetScorer
from supernet.pose.coco.dataset import CocoPeople
from supernet.pose.data.pose_dataset import fingerprint, original_of
from supernet.pose.data.skip_broken import skip_broken_of
from supernet.pose.drawing import save_image
from supernet.pose.evaluation import Evaluation
from supernet.pose.plots import batch_sheet, prediction_sheet
from supernet.pose.training.augmentation import Batch
from supernet.pose.training.worker_processes import explain_dead_worker
from supernet.training import run_folder
from supernet.training.assembly import configure_process, new_supernet, new_trainer
from supernet.training.monitoring.curves import CURVES_FILE, draw_curves
from supernet.training.monitoring.curves_page import CURVES_PAGE, write_curves_page
from supernet.training.monitoring.log import TrainingLog
from supernet.training.monitoring.loss_monitor import TrainingDiverged
from supernet.training.monitoring.monitor import TrainingMonitor, warn_untrained
from supernet.training.monitoring.remaining_time import RemainingTime
from supernet.training.monitoring.trackers import how_to_view
from supernet.training.monitoring.validation import PeriodicValidation
from supernet.training.phases import ScheduledPhase
from supernet.training.planning.step_costs import step_costs
from supernet.training.setup import TrainingSetup
from supernet.version import VERSION
from supernet.weight_sharing import SuperNet

logger = logging.getLogger(__name__)

_NOT_IN_FILE_NAME = r"[^\w.-]+"


class TrainingRun:
    """One training run: :meth:`train`, then :meth:`report`.

    Args:
        setup: What to train, and on what.
        config: The run's own plain configuration, kept in its checkpoints.
        folder: The run's folder, which the caller has locked.
        state: A checkpoint of this run to continue from; None to start.
        processes: The processes that train together.

    Raises:
        UserError: The checkpoint does not fit the setup, or the folder cannot be written.
    """

    def __init__(
        self,
        setup: TrainingSetup,
        config: Mapping[str, Any],
        folder: Path,
        state: dict[str, Any] | None,
        processes: Processes,
    ) -> None:
        self.setup, self.config, self.folder, self.processes = setup, config, folder, processes
        self._draws = setup.settings.plots and processes.is_main
        self._start_time, self._seconds_before = time.perf_counter(), 0.0 if state is None else state["seconds"]
        configure_process(setup)
        torch.manual_seed(setup.settings.seed)
        supernet = new_supernet(setup, processes, is_resumed=state is not None)
        self.trainer = new_trainer(setup, supernet, processes)
        self.monitor = self._new_monitor(supernet)
        self.environment = {
            "code": VERSION,
            **machine.versions(),
            "processor": machine.machine()["processor"],
            "device": setup.device.type,
            "threads": torch.get_num_threads(),
            "processes": processes.count,
            "space_digest": setup.space.digest(),
            "keypoints": setup.keypoints.to_plain(),
            "train_images": fingerprint(setup.train_set),
        }
        warm_start = setup.warm_start
        self.started_from: Lineage = () if warm_start is None else warm_start.trained_on
        if state is not None:
            self.started_from = from_plain(state.get("started_from"))
            self._resume(state)
        if processes.is_main:
            settings, shared = setup.settings, f", {processes.count} processes" if processes.count > 1 else ""
            logger.info(
                f"space {setup.space.name}: {float(setup.space.count()):.3g} subnets, "
                f"{sum(p.numel() for p in supernet.parameters()):,} shared weights; "
                f"{settings.steps} steps of {settings.batch_size} images in {len(setup.scheduled)} phases "
                f"on {setup.device}{shared}; writing to {folder}"
            )
        if state is None:
            self._save_checkpoint()  # before any step, so that a full disk is an error at once
        if processes.is_main:
            point_latest(folder)

    def train(self) -> None:
        """Take all steps that are left; if the loss diverges, roll back once to the last checkpoint.

        Raises:
            UserError: A signal stopped the run, after a checkpoint, or the loss diverged again.
        """
        settings, trainer, monitor, processes = self.setup.settings, self.trainer, self.monitor, self.processes
        with (
            self._open_log() if processes.is_main else nullcontext() as log,
            progress_bar(disable=not processes.is_main) as progress,
            stop_request() as stop_requested,
            explain_dead_worker(),
            tf32(allowed=True),
        ):
            task = progress.add_task("training", total=settings.steps, completed=trainer.step, note="")
            speed = Speed(settings.batch_size, trainer.step)
            remaining = RemainingTime(self.setup.scheduled, self.setup.step_seconds or step_costs(self.setup))
            monitor.validate_if_due()  # a stopped run leaves it out
            while (scheduled := trainer.current_phase()) is not None:
                trainer.start_phase(scheduled)  # makes a teacher, sorts channels
                try:
                    for batch, data_seconds in trainer.batches(scheduled):
                        if self._draws and trainer.step == scheduled.start:
                            self._draw_batch(scheduled, batch)
                        report = trainer.train_step(scheduled, batch, data_seconds)
                        monitor.follow(report)
                        stops = processes.any(stop_requested())
                        saves = stops or trainer.step == scheduled.stop or trainer.step % settings.checkpoint_every == 0
                        logs = report.step % settings.log_every == 0 or trainer.step == settings.steps
                        if logs or saves:
                            monitor.losses.read()  # raises before a diverged state is saved
                        if not stops:
                            monitor.validate_if_due()  # before the log, whose last line holds the last AP
                        if logs:
                            figures = monitor.figures()
                            if log is not None:
                                progress.update(task, note=f"{log.write(report, figures)}, {speed(trainer.step)}")
                        left = remaining.follow(trainer.step, report.data_seconds)
                        progress.update(task, completed=trainer.step, seconds_left=left)
                        if saves:
                            self._save_checkpoint()
                        if stops:
                            remedy = f"continue with {run_folder.resume_option(self.folder)}"
                            raise UserError(f"stopped after {trainer.step} steps; {remedy}")
                except TrainingDiverged as failure:
                    self._roll_back(failure, log)
            if log is not None:
                rollbacks = [rollback.back_to for rollback in monitor.rollbacks]
                draw_curves(self.folder / CURVES_FILE, log.rows(), rollbacks)
                write_curves_page(self.folder / CURVES_PAGE, log.rows(), rollbacks)

    def report(self) -> None:
        """Save the averaged weights as a supernet and score its largest, smallest and random subnets.

        Raises:
            UserError: Ctrl-C, after the supernet was saved.
        """
        setup, settings, processes = self.setup, self.setup.settings, self.processes
        train_seconds = self._seconds()
        supernet = self.trainer.averaged().eval()
        processes.copy_from_main(supernet.parameters())
        path = self.folder / SUPERNET_FILE
        if processes.is_main:
            save_supernet(
                path,
                setup.space,
                supernet.state_dict(),
                setup.keypoints,
                setup.dataset,
                asdict(settings.evaluation),
                self.trainer.objective,
                started_from=self.started_from,
            )
        scorer = SubnetScorer(
            supernet,
            setup.train_set,
            setup.test_set,
            settings.evaluation,
            settings.num_calibration_images,
            processes=processes,
        )
        on_scored = self._draw_predictions if self._draws else None
        try:
            rows = report_scores(scorer, setup.space, settings.report_random, settings.seed, on_scored)
        except KeyboardInterrupt:
            remedy = f"{run_folder.resume_option(self.folder)} makes the report"
            raise UserError(f"stopped before the report; {path} is complete, {remedy}") from None
        skip_broken = skip_broken_of(setup.train_set)
        skipped = processes.lists([] if skip_broken is None else skip_broken.skipped())
        if not processes.is_main:
            return
        health = self.monitor.summary()
        original = original_of(setup.train_set)
        warn_untrained(health, original.unlabelled if isinstance(original, CocoPeople) else ())
        summary = {
            "supernet": str(path),
            "space": setup.space.name,
            "subnets": rows,
            "num_test_images": len(setup.test_set),
            "skipped_images": skipped,
            "health": health,
            "steps": settings.steps,
            "train_seconds": round(train_seconds, 1),
            "seconds": round(self._seconds(), 1),
            "images_per_second": round(settings.steps * settings.batch_size / train_seconds, 1),
        }
        write_summary(self.folder, summary)
        curves = [str(self.folder / CURVES_FILE), str(self.folder / CURVES_PAGE)]
        curves += [view] if (view := how_to_view(settings.tracker, self.folder)) else []
        logger.info(f"supernet: {path}   report: {self.folder / 'summary.json'}")
        logger.info(f"curves: {', '.join(curves)}")

    def _open_log(self) -> TrainingLog:
        return TrainingLog(self.folder, self.trainer.step, self.setup.settings.tracker, self.config)

    def _new_monitor(self, supernet: SuperNet) -> TrainingMonitor:
        setup, settings, validation = self.setup, self.setup.settings, None
        if setup.val_set is not None:
            scorer = SubnetScorer(
                supernet,
                setup.train_set,
                setup.val_set,
                settings.evaluation,
                settings.num_evaluate_images,
                processes=self.processes,
            )
            validation = PeriodicValidation(scorer, settings.evaluate_every)
        return TrainingMonitor(self.trainer, settings.explosion_factor, settings.rollback_factor, validation)

    def _seconds(self) -> float:
        """Time that the run has taken, including the time before it was resumed."""
        return self._seconds_before + time.perf_counter() - self._start_time

    def _resume(self, state: Mapping[str, Any]) -> None:
        run_folder.check_environment(state["made_with"], self.environment, self.folder)
        try:
            self.trainer.load_state(state["trainer"])
            self.monitor.load_state(state["watch"])
        except safe_torch.DAMAGED as error:
            path = self.folder / run_folder.CHECKPOINT_FILE
            raise UserError(f"{path} is not of this run ({error!r}); restore the run's own checkpoint") from error

    def _save_checkpoint(self) -> None:
        if self.processes.is_main:
            value = {
                "config": dict(self.config),
                "made_with": self.environment,
                "seconds": self._seconds(),
                "started_from": to_plain(self.started_from),
                "trainer": self.trainer.state(),
                "watch": self.monitor.state(),
            }
            run_folder.save_checkpoint(self.folder, value)

    def _roll_back(self, failure: TrainingDiverged, log: TrainingLog | None) -> None:
        failure.images = self.processes.lists(failure.images)
        rollback = self.monitor.roll_back(failure, self.folder)
        self.processes.any(False)  # barrier: every process must read the checkpoint before it is overwritten
        self._save_checkpoint()
        if log is not None:
            log.go_back(self.trainer.step)
            logger.warning(
                f"{failure}; back to step {rollback.back_to} with all learning rates times {rollback.rate_factor:g}"
            )

    def _draw_batch(self, scheduled: ScheduledPhase, batch: Batch) -> None:
        name = f"batch_{self.setup.scheduled.index(scheduled)}_{scheduled.phase.name}"
        sheet = batch_sheet(batch, self.trainer.objective.targets(batch), self.setup.keypoints)
        save_image(self.folder / "plots" / f"{re.sub(_NOT_IN_FILE_NAME, '_', name)}.png", sheet)

    def _draw_predictions(self, name: str, evaluation: Evaluation) -> None:
        sheet = prediction_sheet(self.setup.test_set, evaluation.predictions)
        save_image(self.folder / "plots" / f"test_{name.replace(' ', '_')}.png", sheet)
