"""A fine-tuning run: trains an exported model and keeps the better of before and after; it can be resumed."""

import argparse
import logging
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from subnet_export.ap_measurement import measure
from subnet_export.deployment.formats import CHECK_IMAGES
from subnet_export.exported_model import Calibration, ExportedModel, Measurement
from subnet_export.exporting.format_options import (
    FormatOptions,
    decodes,
    first_without_decoding,
    formats_of,
    max_side_of,
)
from subnet_export.exporting.format_writer import FormatWriter
from subnet_export.exporting.run import check_packages, write_checked
from subnet_export.exporting.subnet import calibration_record
from subnet_export.finetuning.plan import FinetunePlan, checkpoint_to_resume, digest, plan_from, starting_model
from subnet_export.finetuning.teacher import calibrated, load_teacher
from subnet_export.finetuning.trainer import FineTuner
from subnet_export.runs import finish, locked, prepare, unlocked_folder
from supernet.checkpoints import container, safe_torch
from supernet.checkpoints.lineage import extended, training_data_of
from supernet.cli.console import progress_bar
from supernet.cli.signals import stop_request
from supernet.compute.cpu_tuning import prefer_throughput
from supernet.errors import UserError
from supernet.evaluation.readiness import check_ready
from supernet.evaluation.subnet_estimator import subnet_estimator
from supernet.evaluation.subnet_scorer import calibration_batches
from supernet.io import files
from supernet.io.new_folder import check_new
from supernet.io.schema import from_mapping
from supernet.litepose import LitePose
from supernet.pose.data.cached import CachedDataset
from supernet.pose.data.pose_dataset import PoseDataset, fingerprint
from supernet.pose.datasets import build, resolved
from supernet.pose.evaluation import category_id_of
from supernet.pose.training.worker_processes import explain_dead_worker
from supernet.training.run_folder import differences, warn_of_differences

IMAGE_BYTES = 2**30
"""Training images kept in memory by each process that loads them."""
NUM_CALIBRATION_IMAGES = 128
"""Calibration images for a model that was imported with its statistics, which has no such number."""

Measurements = dict[str, Measurement]
"""Measurements by split."""

logger = logging.getLogger(__name__)

_KIND = "fine-tuning"
_PARTS: container.Parts = {"plan": dict, "digests": list, "before": dict, "training": dict, "seconds": (int, float)}
"""Parts of a checkpoint."""


@dataclass(frozen=True)
class _Images:
    """The images of a run, as its networks are calibrated and measured on them.

    Attributes:
        train_set: Source of the calibration images.
        splits: What is measured on, by split.
        calibration: How many training images calibrate, and at which resolution.
        start: The model that the training starts from; its keypoints and settings count.
        plan: What the run does.
    """

    train_set: PoseDataset
    splits: Mapping[str, PoseDataset]
    calibration: Calibration
    start: ExportedModel
    plan: FinetunePlan

    def calibrate(self, network: LitePose) -> LitePose:
        """Calibrate ``network`` in place and return it in evaluation mode."""
        resolution, num_images = self.calibration.resolution, self.calibration.num_images
        return calibrated(network, self.train_set, resolution, num_images, self.start.settings)

    def of_calibration(self) -> list[Tensor]:
        """Return the images of the calibration in batches."""
        resolution, num_images = self.calibration.resolution, self.calibration.num_images
        return calibration_batches(self.train_set, resolution, num_images, self.start.settings.size_divisor)

    def measure(self, network: LitePose, note: str) -> Measurements:
        """Measure ``network`` on each split; ``note`` stands beside the progress bar."""
        plan, start = self.plan, self.start
        return {
            split: measure(
                subnet_estimator(network, start.keypoints, start.settings, plan.eval_batch_size),
                *(images, split, plan.num_images, note),
            )
            for split, images in self.splits.items()
        }


def run(options: argparse.Namespace) -> None:
    """Fine-tune as the command line says, or resume a stopped run.

    Raises:
        UserError: A wrong option or file, or the run was stopped.
    """
    checkpoint = None
    if options.resume is None:
        options.folder = unlocked_folder(options.folder, options.is_default_folder)
        plan, saved = plan_from(options), None
    else:
        checkpoint = checkpoint_to_resume(options)
        plan, saved = _stopped(checkpoint)
    options.folder, options.is_default_folder = Path(plan.folder), plan.is_default_folder
    with locked(options.folder):
        if checkpoint is not None:  # again, because a process that had the lock until now may have trained on
            plan, saved = _stopped(checkpoint)
        try:
            _run(plan, options, saved)
        except KeyboardInterrupt:  # while measuring; during training it is a request to stop
            remedy = f"continue with {_resume(plan)}" if plan.checkpoint.exists() else "start again"
            raise UserError(f"stopped while measuring; {remedy}") from None


def _resume(plan: FinetunePlan) -> str:
    """Return the option that continues a stopped run, as a shell reads it."""
    return f"--resume {shlex.quote(str(plan.checkpoint))}"


def _stopped(path: Path) -> tuple[FinetunePlan, dict[str, Any]]:
    """Return the plan of a stopped run, with the place that its checkpoint now has, and the whole checkpoint."""
    saved = container.load_newest(path, _KIND)
    container.check_parts(saved, _PARTS, path)
    plan = from_mapping(FinetunePlan, saved["plan"], f"{path}: plan")
    return replace(plan, folder=str(path.with_name(Path(plan.folder).name))), saved


def _run(plan: FinetunePlan, options: argparse.Namespace, saved: dict[str, Any] | None) -> None:
    start_time = time.perf_counter()
    device = prepare(options)
    if device.type == "cpu":
        prefer_throughput(is_training=True)
    if saved is None:
        check_new(plan.checkpoint)
    files.sweep(plan.checkpoint.parent, plan.checkpoint.name)
    train_set = CachedDataset(build(plan.dataset, "train"), memory_bytes=IMAGE_BYTES)
    plan = replace(plan, dataset=resolved(plan.dataset, train_set.keypoints, train_set))
    splits = {split: CachedDataset(build(plan.dataset, split)) for split in ("val", "test")}
    model, start = starting_model(plan, train_set.keypoints, device)
    start = replace(start, category_id=category_id_of(splits["test"]))
    num_calibration = model.calibration.num_images or NUM_CALIBRATION_IMAGES
    check_ready(splits, train_set, num_calibration)
    format_options = _format_options(options, model)  # its checks before the training, not after it
    changed = start.network is not model.network
    calibration = calibration_record(plan.dataset, train_set, num_calibration, model.arch.resolution)
    images = _Images(train_set, splits, calibration, start, plan)
    teacher = None
    if plan.teacher is not None:
        teacher = load_teacher(plan.teacher, start.keypoints, device, start.objective.placement)
    train_images = fingerprint(train_set)
    digests = [digest(network) for network in (start.network, teacher) if network is not None]
    if teacher is not None:
        images.calibrate(teacher)
    tuner = FineTuner(start.network, start.objective, train_set, plan.settings, teacher, options.num_workers)
    if saved is None:
        before = images.measure(images.calibrate(start.network) if changed else start.network, "before:")
        seconds_before = 0.0
    else:
        before = _continue(tuner, plan, saved, digests, train_images)
        seconds_before = saved["seconds"]

    def seconds() -> float:
        return seconds_before + time.perf_counter() - start_time

    def save_checkpoint() -> None:
        figures = {split: asdict(measurement) for split, measurement in before.items()}
        value = {"plan": asdict(plan), "digests": digests, "before": figures, "seconds": seconds()}
        value |= {"train_images": train_images, "training": tuner.state()}
        container.save(plan.checkpoint, _KIND, value, keep_previous=True)

    with explain_dead_worker():
        _train(tuner, plan, save_checkpoint)
    network = images.calibrate(tuner.result())
    after = images.measure(network, "after:")
    improved = after["val"].metrics["AP"] > before["val"].metrics["AP"]
    if not improved:
        kept = (
            "the result is kept, because the start was not a trained model" if changed else "the weights stay as before"
        )
        logger.info(f"fine-tuning did not improve AP on the val split; {kept}")
    if improved or changed:
        title = "fine-tuned subnet"
        result = replace(
            _with_origin(start, plan, model), network=network, calibration=calibration, measurement=after["test"]
        )
    else:
        title = "subnet as before"
        calibration = model.calibration
        if plan.dataset != model.dataset:  # AP before and after it is of other images than the model now names
            calibration = replace(calibration, AP_before=None, AP_after=None, num_compared=0)
        result = replace(start, measurement=before["test"], calibration=calibration)
    writer = FormatWriter(format_options, splits["test"], images.of_calibration, plan.eval_batch_size)
    result = write_checked(options.folder, result, writer)
    for path in (plan.checkpoint, container.previous_of(plan.checkpoint)):
        path.unlink(missing_ok=True)
    figures = {
        f"AP_{split}_{when}": round(measurements[split].metrics["AP"], 6)
        for split in splits
        for when, measurements in (("before", before), ("after", after))
    }
    facts = {"improved": improved, "steps": plan.settings.num_steps, "start": plan.model, "teacher": plan.teacher}
    finish(options, result, title, {**facts, **figures, "seconds": round(seconds(), 1)})


def _format_options(options: argparse.Namespace, model: ExportedModel) -> FormatOptions:
    """Return the formats to write, those of ``model`` unless the command line names others.

    Raises:
        UserError: A package that writes one of them is missing, or one cannot decode as the model's own do.
    """
    formats, takes = formats_of(model)
    formats = options.format or formats
    check_packages(formats)
    decode = decodes(model) and any(item.decodes for item in formats)
    if decode and (unable := first_without_decoding(formats)):
        raise UserError(
            f"the graphs of the model decode, which those of format {unable.name} cannot; leave it out of --format, "
            "and export the result in it with python -m subnet_export --model"
        )
    return FormatOptions(formats, takes, CHECK_IMAGES, options.max_int8_loss, decode, max_side=max_side_of(model))


def _continue(
    tuner: FineTuner, plan: FinetunePlan, saved: dict[str, Any], digests: list[str], train_images: Any
) -> Measurements:
    """Continue ``tuner`` from a checkpoint, and return what was measured before the first step.

    Args:
        tuner: As a new run has it.
        plan: What the run does.
        saved: The checkpoint.
        digests: Those of the weights that the training starts from, and of the teacher's.
        train_images: Fingerprint of the training images.

    Raises:
        UserError: The weights have changed since the run started, or the checkpoint is of another run.
    """
    if saved["digests"] != digests:
        raise UserError(f"{plan.model} or the teacher has changed since the run started; restore it or start a new run")
    images_before = saved.get("train_images", train_images)  # checkpoints of earlier releases lack them
    warn_of_differences(plan.checkpoint, differences(images_before, train_images, "train_images"))
    before = {split: from_mapping(Measurement, value, split) for split, value in saved["before"].items()}
    try:
        tuner.load_state(saved["training"])
    except safe_torch.DAMAGED as error:
        raise UserError(f"{plan.checkpoint} is not of this run ({error!r}); restore its own checkpoint") from error
    return before


def _with_origin(start: ExportedModel, plan: FinetunePlan, model: ExportedModel) -> ExportedModel:
    """Return ``start`` as it is after the training: with its steps and data, and without measured latencies.

    Args:
        start: What the training starts from.
        plan: What the run does.
        model: The model that the command line names.
    """
    origin = replace(
        model.origin,
        num_finetune_steps=(0 if plan.from_scratch else model.origin.num_finetune_steps) + plan.settings.num_steps,
        trained_on=extended(() if plan.from_scratch else model.origin.trained_on, training_data_of(plan.dataset)),
    )
    return replace(start, origin=origin, latencies=())


def _train(tuner: FineTuner, plan: FinetunePlan, save_checkpoint: Callable[[], None]) -> None:
    """Take the steps that are left, with a checkpoint every ``checkpoint_every`` steps, at the end and at a stop."""
    total = plan.settings.num_steps
    with progress_bar() as progress, stop_request() as stop_requested:
        task = progress.add_task("fine-tuning", total=total, completed=tuner.step, note="")
        for loss in tuner.steps():
            progress.update(task, completed=tuner.step, note=f"loss {loss:.4f}")
            stops = stop_requested()
            if stops or tuner.step % plan.checkpoint_every == 0 or tuner.step == total:
                save_checkpoint()
            if stops:
                raise UserError(f"stopped after {tuner.step} of {total} steps; continue with {_resume(plan)}")
