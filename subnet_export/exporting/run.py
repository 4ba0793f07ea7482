"""Exports a subnet of a supernet, or a model that there is already, and writes it in all formats."""

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from subnet_export.ap_measurement import check_measurement
from subnet_export.deployment.environments import require_converter
from subnet_export.deployment.formats import Format
from subnet_export.exported_model import ExportedModel
from subnet_export.exporting.existing_model import existing_model
from subnet_export.exporting.format_writer import FormatWriter
from subnet_export.exporting.settings import ExportSettings
from subnet_export.exporting.subnet import subnet_to_export
from subnet_export.model import save_model
from subnet_export.publish import picture
from subnet_export.publish.front_matter import check_license
from subnet_export.publish.model_card import describe_images
from subnet_export.runs import finish, locked, prepare, unlocked_folder
from supernet.evaluation.subnet_scorer import calibration_batches
from supernet.pose.data.pose_dataset import PoseDataset
from supernet.pose.datasets import build


def run(options: argparse.Namespace) -> None:
    """Export a subnet, or an exported model in further formats, as the command line says."""
    options.folder = unlocked_folder(options.folder, options.is_default_folder)
    with locked(options.folder):
        _run(options)


def _run(options: argparse.Namespace) -> None:
    began = time.perf_counter()
    device = prepare(options)
    license = None if options.license is None else check_license(options.license)
    check_packages(options.format)
    settings = ExportSettings(
        calibration_images=options.calibration_images or ExportSettings.calibration_images,
        batch_size=options.batch_size,
        num_images=options.num_images,
        input=options.input,
        check_images=options.check_images,
        max_int8_loss=options.max_int8_loss,
        decode=options.decode,
        onnxruntime_web=options.onnxruntime_web,
        max_side=options.max_side,
    )
    other = None
    if options.model:
        model, test_set, other = existing_model(options, device, settings)
        source = {"source": str(options.model)}
    else:
        model, test_set, source = subnet_to_export(options, device, settings)
    if license is not None:
        model = replace(model, license=license)
    model = write_model(options.folder, model, test_set, options.format, settings, other)
    finish(options, model, "exported subnet", {**source, **figures_of(model, began)})


def check_packages(formats: Sequence[Format]) -> None:
    """Raise UserError if a package is missing that writes one of ``formats``; make the environments that they need."""
    for chosen in formats:
        require_converter(chosen, f"format {chosen.name}")


def figures_of(model: ExportedModel, began: float) -> dict[str, Any]:
    """Return the figures of an export for its summary; it began at ``time.perf_counter()``."""
    formats = {name: record.describe() for name, record in model.formats.items()}
    return {"formats": formats, "seconds": round(time.perf_counter() - began, 1)}


def write_model(
    folder: Path,
    model: ExportedModel,
    test_set: PoseDataset | None,
    formats: Sequence[Format],
    settings: ExportSettings,
    other: Mapping[str, Any] | None = None,
) -> ExportedModel:
    """Write a model in ``formats``, as :func:`write_checked` does; quantisation sees its calibration images.

    Args:
        folder: A folder that does not exist yet.
        model: The model.
        test_set: Images to measure its files on; None where there are none, and no format needs images.
        formats: What to write; LitePose's own is always written.
        settings: How it is measured and compared.
        other: Description of the data set of these images, if the model was measured on another one.

    Raises:
        UserError: A file cannot be written, or does not agree with the network.
    """

    def calibration_images() -> list[Tensor]:
        train_set, calibration = build(other or model.dataset, "train"), model.calibration
        # An imported model has no such number.
        num_images = calibration.num_images or settings.calibration_images
        return calibration_batches(train_set, calibration.resolution, num_images, model.settings.size_divisor)

    other_images = None if other is None else describe_images(other, model.measurement.split)
    options = settings.for_formats(formats)
    writer = FormatWriter(options, test_set, calibration_images, settings.batch_size, other_images)
    return write_checked(folder, model, writer)


def write_checked(folder: Path, model: ExportedModel, writer: FormatWriter) -> ExportedModel:
    """Write a model with its formats; measure it again as read back, if ``writer`` has the images it was measured on.

    Args:
        folder: A folder that does not exist yet; all or nothing is written.
        model: The model.
        writer: Writes the further formats.

    Raises:
        UserError: A file cannot be written, or does not agree with the network.
    """
    test_set = writer.test_set if writer.other_images is None else None
    if test_set is None:
        return save_model(folder, model, write_formats=writer.write)
    examples = picture.drawn_examples(model, test_set)
    return save_model(
        folder,
        model,
        partial(check_measurement, images=test_set, batch_size=writer.batch_size),
        writer.write,
        None if examples is None else picture.encoded(examples),
    )
