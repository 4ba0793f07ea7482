"""The subnet that an export cuts from a trained supernet, calibrates and measures."""

import argparse
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from subnet_export.ap_measurement import at_root, measure, named_dataset
from subnet_export.exported_model import Calibration, ExportedModel, Origin
from subnet_export.exporting.format_options import check_options
from subnet_export.exporting.settings import ExportSettings
from subnet_export.publish.model_card import describe_images
from supernet.arch import Arch
from supernet.checkpoints.supernet_file import TrainedSupernet, load_supernet
from supernet.costs.analytic import params_and_macs
from supernet.errors import UserError
from supernet.evaluation.subnet_estimator import subnet_estimator
from supernet.evaluation.subnet_scorer import SubnetScorer, split_for
from supernet.io.schema import from_mapping
from supernet.pose.data.cached import CachedDataset
from supernet.pose.data.pose_dataset import PoseDataset
from supernet.pose.data.subset import spread_indices
from supernet.pose.datasets import build, resolved
from supernet.pose.evaluation import category_id_of, num_until_people
from supernet.pose.inference import InferenceSettings

COMPARED_IMAGES = 32
"""Test images for AP before and after calibration; before it, maps have so many peaks that grouping is slow."""


def subnet_to_export(
    options: argparse.Namespace, device: torch.device, settings: ExportSettings
) -> tuple[ExportedModel, PoseDataset, dict[str, str]]:
    """Extract the subnet that the command line names; return the model, its test images and what it comes from."""
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
    seed, images = dataset["train"].get("seed"), describe_images(dataset, "train")
    return Calibration("train", len(ids), resolution, ids, seed, images=images)
