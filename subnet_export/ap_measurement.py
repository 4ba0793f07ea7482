"""Measures AP on a split of a data set, under a progress bar; and finds data sets that moved."""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from subnet_export.exported_model import ExportedModel, Measurement
from supernet.cli.console import progress_bar
from supernet.cli.hydra_app import dataset_config
from supernet.compute.precision import tf32
from supernet.errors import UserError
from supernet.evaluation.image_workers import predict_in_workers
from supernet.evaluation.metrics_table import format_metric
from supernet.pose.data.pose_dataset import PoseDataset
from supernet.pose.datasets import relocated
from supernet.pose.evaluation import evaluate
from supernet.pose.inference import PoseEstimator

AP_TOLERANCE = 1e-6


def measure(
    estimator: PoseEstimator, images: PoseDataset, split: str, num_images: int | None, note: str
) -> Measurement:
    """Evaluate an estimator on the first ``num_images`` (None: all) of ``split``'s ``images``.

    ``note`` stands beside the progress bar.
    """
    with progress_bar() as progress, tf32(allowed=False):  # a GPU then measures what a CPU does
        task = progress.add_task(f"evaluating on {split}", total=len(images), note=note)

        def on_image(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        predict = partial(predict_in_workers, torch.get_num_threads())
        evaluation = evaluate(estimator, images, num_images, on_image, predict)
        progress.update(task, note=f"{note} AP {format_metric(evaluation.metrics['AP'])}")
    return Measurement(split, len(evaluation.predictions), evaluation.metrics)


def check_measurement(model: ExportedModel, images: PoseDataset, batch_size: int) -> None:
    """Measure the network of ``model`` again and compare with the measurement that the model records.

    Raises:
        UserError: A metric differs by more than ``AP_TOLERANCE``.
    """
    recorded = model.measurement
    estimator = replace(model, runtime=None, detector=None).estimator(batch_size)
    metrics = measure(estimator, images, recorded.split, recorded.num_images, "read back:").metrics
    for name, value in recorded.metrics.items():
        if abs(metrics[name] - value) > AP_TOLERANCE:
            raise UserError(
                f"{name} of the model read back is {metrics[name]:.7f}, but it was {value:.7f} before writing; nothing "
                "was kept, export again"
            )


def named_dataset(options: argparse.Namespace) -> dict[str, Any] | None:
    """Return the data set that ``--dataset`` names, with the overrides after it; None without the option.

    Raises:
        UserError: There is no such data set, or an override is wrong or without a data set.
    """
    if options.dataset is not None:
        return dataset_config(options.dataset, options.overrides)
    if options.overrides:
        raise UserError(f"{options.overrides[0]} has no data set to change; name one with --dataset")
    return None


def at_root(dataset: Mapping[str, Any], root: str | None, otherwise: str = "") -> dict[str, Any]:
    """Return the description of a data set with its folder replaced by ``root``, unless that is None.

    ``otherwise`` ends the error message where no folder is known: what the command takes in place of this data set.

    Raises:
        UserError: The data set is not on disk, there is no such folder, or none is given and none known.
    """
    if root is None:
        if "root" in dataset and not dataset["root"]:
            raise UserError(f"dataset.root is not set; give the data set's folder, --dataset-root FOLDER{otherwise}")
        return dict(dataset)
    return relocated(dataset, root, "--dataset-root")
