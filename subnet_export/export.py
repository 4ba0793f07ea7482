"""Exports a subnet: extract it from a trained supernet, calibrate, measure and write it."""

import argparse
import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from subnet_export.ap_measurement import at_root, check_measurement, measure, named_dataset
from subnet_export.browser.onnxruntime_web import page_runtime
from subnet_export.deployment.deployed_network import Input
from subnet_export.deployment.environments import require_converter
from subnet_export.deployment.formats import CHECK_IMAGES, EXECUTORCH, MAX_INT8_LOSS, WEB, Format
from subnet_export.exported_model import Calibration, ExportedModel, Origin
from subnet_export.format_writer import FormatOptions, FormatWriter, check_options
from subnet_export.model import load_model, save_model
from subnet_export.publish import picture
from subnet_export.publish.front_matter import check_license
from subnet_export.publish.model_card import describe_images
from subnet_export.runs import finish, locked, prepare, unlocked_folder
from supernet.arch import Arch
from supernet.checkpoints.supernet_file import TrainedSupernet, load_supernet
from supernet.costs.analytic import params_and_macs
from supernet.errors import UserError
from supernet.evaluation.subnet_estimator import subnet_estimator
from supernet.evaluation.subnet_scorer import SubnetScorer, calibration_batches, split_for
from supernet.io.schema import check_numbers, from_mapping
from supernet.pose.data.cached import CachedDataset
from supernet.pose.data.pose_dataset import PoseDataset
from supernet.pose.data.subset import Subset, spread_indices
from supernet.pose.datasets import build, resolved
from supernet.pose.evaluation import category_id_of, num_until_people
from supernet.pose.inference import InferenceSettings

LOGGER = logging.getLogger(__name__)
COMPARED_IMAGES = 32
"""Test images for AP before and after calibration; before it, maps have so many peaks that grouping is slow."""


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """How a subnet is calibrated, measured and compared with its files.

    Attributes:
        calibration_images: Training images for the batch-norm statistics.
        batch_size: Images per forward pass.
        num_images: Measure on this many images from the start of the test set; all if None.
        input: Input of the graphs.
        check_images: Test images on which the AP of each file is compared with the network's; 0: only its outputs are.
        max_int8_loss: AP that quantisation may cost.
        decode: Whether graphs find the detections themselves.
        onnxruntime_web: Folder of the npm package that the page of format web gets a copy of.
        max_side: Longest side of the images that an ExecuTorch file takes, in px; if None, it takes images that are
            four times as long as wide.
    """

    calibration_images: int = 128
    batch_size: int = 32
    num_images: int | None = None
    input: Input = "uint8"
    check_images: int = CHECK_IMAGES
    max_int8_loss: float = MAX_INT8_LOSS
    decode: bool = False
    onnxruntime_web: Path | None = None
    max_side: int | None = None

    def __post_init__(self) -> None:
        """Raise UserError for a value outside its range, or a folder without the package."""
        check_numbers(self, "calibration_images", "batch_size", "num_images", "max_side", least=1)
        check_numbers(self, "check_images", least=0)
        check_numbers(self, "max_int8_loss", least=0, most=1)
        if self.onnxruntime_web is not None:
            page_runtime(self.onnxruntime_web)

    def for_formats(self, formats: Sequence[Format]) -> FormatOptions:
        """Return how files in ``formats`` are written and compared.

        Raises:
            UserError: A setting is for a format that is not among them.
        """
        for option, chosen in (("onnxruntime_web", WEB), ("max_side", EXECUTORCH)):
            if getattr(self, option) is not None and chosen not in formats:
                raise UserError(f"{option} is for format {chosen.name}; add that or leave it out")
        page = page_runtime(self.onnxruntime_web) if WEB in formats else None
        return FormatOptions(
            formats, self.input, self.check_images, self.max_int8_loss, self.decode, page, self.max_side
        )


def extract_model(
    trained: TrainedSupernet,
    arch: Arch,
    test_set: PoseDataset,
    num_calibration_images: int = 128,
    batch_size: int = 32,
    num_images: int | None = None,
) -> ExportedModel:
    """Extract ``arch`` from a supernet, calibrate it on training images and measure it.

    Args:
        trained: The supernet, on the device to compute on.
        arch: The subnet.
        test_set: The split "test" of the supernet's data set.
        num_calibration_images: Training images for the batch-norm statistics.
        batch_size: Images per forward pass.
        num_images: Measure on this many images from the start of the test set; all if None.

    Raises:
        UserError: ``arch`` is outside the supernet's space, or images cannot be read.
    """
    trained.supernet.space.check(arch)
    settings = from_mapping(InferenceSettings, trained.evaluation, "evaluation")
    train_set = build(trained.dataset, "train")
    scorer = SubnetScorer(trained.supernet, train_set, test_set, settings, num_calibration_images)
    network = scorer.subnet(arch)
    calibrated = subnet_estimator(network, trained.keypoints, settings, batch_size)
    uncalibrated = replace(calibrated, network=trained.supernet.extract(arch).eval(), check_calibration=False)
    num_compared = num_until_people(test_set, min(num_images or len(test_set), len(test_set), COMPARED_IMAGES))
    before = measure(uncalibrated, test_set, "test", num_compared, "before calibration:").metrics["AP"]
    after = measure(calibrated, test_set, "test", num_compared, "after calibration:").metrics["AP"]
    calibration = calibration_record(trained.dataset, train_set, num_calibration_images, arch.resolution)
    space, file_digest = trained.supernet.space, hashlib.sha256(trained.path.read_bytes()).hexdigest()
    return ExportedModel(
        network,
        trained.keypoints,
        settings,
        trained.objective,
        trained.dataset,
        replace(calibration, AP_before=before, AP_after=after, num_compared=num_compared),
        Origin(space.name, space.digest(), 0, file_digest, trained.trained_on),
        measure(calibrated, test_set, "test", num_images, "calibrated subnet:"),
        params_and_macs(arch, trained.keypoints.num),
        category_id=category_id_of(test_set),
    )


def calibration_record(
    dataset: Mapping[str, Any], train_set: PoseDataset, num_images: int, resolution: int
) -> Calibration:
    """Return the record of a calibration on ``num_images`` images of ``train_set``, the split "train" of ``dataset``.

    The number determines which images these are (:func:`supernet.pose.data.subset.spread_indices`).
    """
    chosen = spread_indices(len(train_set), num_images)
    ids = tuple(int(train_set.image_ids[index]) for index in chosen)
    return Calibration("train", len(ids), resolution, ids, dataset["train"].get("seed"))


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
        model, test_set, other = _from_model(options, device, settings)
        source = {"source": str(options.model)}
    else:
        model, test_set, source = _from_supernet(options, device, settings)
    if license is not None:
        model = replace(model, license=license)
    model = write_model(options.folder, model, test_set, options.format, settings, other)
    finish(options, model, "exported subnet", {**source, **figures_of(model, began)})


def _from_model(
    options: argparse.Namespace, device: torch.device, settings: ExportSettings
) -> tuple[ExportedModel, PoseDataset | None, Mapping[str, Any] | None]:
    """Read the model that the command line names.

    Returns:
        The model; the test images to compare its files on, None where there are none; and their data set if it is not
        the one that the model was measured on.
    """
    model = load_model(options.model, device)
    _check_unmeasured(options, model)
    check_options(settings.for_formats(options.format), model.settings, model.arch.resolution)
    other, split = named_dataset(options), model.measurement.split
    needing = [chosen.name for chosen in options.format if chosen.needs_images]
    is_here = other is not None or options.dataset_root is not None or model.dataset.get("root", "built in")
    if not is_here and needing:
        raise UserError(
            f"format {needing[0]} needs images, and {options.model} comes without any; add --dataset NAME "
            "--dataset-root FOLDER, or leave out the format"
        )
    if not is_here or not (settings.check_images or needing):
        _check_no_images(options)
        LOGGER.info("files are compared with the network on built-in images, not by AP")
        return model, None, None
    if other is None:
        model = replace(model, dataset=at_root(model.dataset, options.dataset_root))
        test_set = CachedDataset(build(model.dataset, split))
    else:
        other = at_root(other, options.dataset_root)
        train_set = split_for(model.keypoints, other, "train", str(options.model))
        other = resolved(other, model.keypoints, train_set)
        test_set = CachedDataset(split_for(model.keypoints, other, split, str(options.model)))
    if not model.measurement.metrics:  # of a published checkpoint, which was imported without images
        counts = (split, settings.num_images, "imported subnet:")
        measurement = measure(model.estimator(settings.batch_size), test_set, *counts)
        category_id, dataset = category_id_of(test_set), other or model.dataset
        return replace(model, measurement=measurement, dataset=dataset, category_id=category_id), test_set, None
    if other is None or settings.num_images is None:
        return model, test_set, other
    return model, Subset(test_set, range(min(settings.num_images, len(test_set)))), other


def _check_unmeasured(options: argparse.Namespace, model: ExportedModel) -> None:
    """Raise UserError if an option asks for another calibration or measurement than ``model`` has already."""
    done = {
        "--calibration-images": (options.calibration_images, "calibrated", model.calibration.num_images),
        "--num-images": (None if options.dataset else options.num_images, "measured", model.measurement.num_images),
    }
    for option, (given, verb, num_images) in done.items():
        if given is not None and num_images:
            raise UserError(f"{options.model} was {verb} on {num_images} images and keeps that; leave out {option}")


def _check_no_images(options: argparse.Namespace) -> None:
    """Raise UserError if an option is about images, where none are read."""
    for option in ("dataset", "dataset-root", "num-images", "calibration-images"):
        if getattr(options, option.replace("-", "_")) is not None:
            raise UserError(
                f"no images are read, so --{option} has no effect; leave it out, or compare AP on images "
                "with --dataset and --check-images"
            )


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


def _from_supernet(
    options: argparse.Namespace, device: torch.device, settings: ExportSettings
) -> tuple[ExportedModel, PoseDataset, dict[str, str]]:
    """Extract the subnet that the command line names; return the model, its test images and their source files."""
    arch_path = Path(options.arch or Path(options.runs) / "evolve" / "latest" / "arch.json")
    if not options.arch and not arch_path.exists():
        raise UserError(f"there is no {arch_path}; run python -m search.evolve first or name an arch with --arch")
    arch = Arch.load(arch_path)
    trained = load_supernet(options.supernet or Path(options.runs) / "train" / "latest")
    try:
        trained.supernet.space.check(arch)
    except UserError as error:
        raise UserError(f"arch file {arch_path} does not fit the supernet {trained.path}: {error}") from error
    inference = from_mapping(InferenceSettings, trained.evaluation, "evaluation")
    check_options(settings.for_formats(options.format), inference, arch.resolution)
    trained.supernet.to(device)
    other = named_dataset(options)
    if other is None:
        trained = replace(trained, dataset=at_root(trained.dataset, options.dataset_root))
    else:
        other = at_root(other, options.dataset_root)
    model, test_set = measured_subnet(trained, arch, other, settings)
    return model, test_set, {"arch_file": str(arch_path), "supernet": str(trained.path)}


def measured_subnet(
    trained: TrainedSupernet, arch: Arch, dataset: Mapping[str, Any] | None, settings: ExportSettings
) -> tuple[ExportedModel, PoseDataset]:
    """Extract, calibrate and measure a subnet; return the model and its test images.

    Args:
        trained: The supernet, on the device to compute on.
        arch: The subnet.
        dataset: Description of a data set to calibrate and measure on; None for that of the supernet.
        settings: How it is calibrated and measured.

    Raises:
        UserError: ``arch`` is outside the space, or the data set has other keypoints or cannot be read.
    """
    place = str(trained.path)
    if dataset is not None:
        train_set = split_for(trained.keypoints, dataset, "train", place)
        trained = replace(trained, dataset=resolved(dataset, trained.keypoints, train_set))
    test_set = CachedDataset(split_for(trained.keypoints, trained.dataset, "test", place))
    counts = (settings.calibration_images, settings.batch_size, settings.num_images)
    return extract_model(trained, arch, test_set, *counts), test_set
