"""The model that an export starts from where it is one already, and the images that its files are compared on."""

import argparse
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from subnet_export.ap_measurement import at_root, measure, named_dataset
from subnet_export.exported_model import ExportedModel
from subnet_export.exporting.format_options import check_options
from subnet_export.exporting.settings import ExportSettings
from subnet_export.model import load_model
from supernet.errors import UserError
from supernet.evaluation.subnet_scorer import split_for
from supernet.pose.data.cached import CachedDataset
from supernet.pose.data.pose_dataset import PoseDataset
from supernet.pose.data.subset import Subset
from supernet.pose.datasets import build, resolved
from supernet.pose.evaluation import category_id_of

LOGGER = logging.getLogger(__name__)


def existing_model(
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
