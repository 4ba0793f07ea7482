"""From a trained supernet and an arch to an exported model."""

import argparse
import time
from pathlib import Path

from subnet_export.exported_model import Calibration, ExportedModel, Origin, costs
from subnet_export.measuring import at_root, check_measurement, measure
from subnet_export.model import save_model
from subnet_export.report import finish, prepare
from supernet.arch import Arch
from supernet.checkpoint import TrainedSupernet, load_supernet
from supernet.errors import UserError
from supernet.pose.dataset import PoseDataset
from supernet.pose.datasets import build
from supernet.pose.inference import InferenceSettings
from supernet.pose.kept import KeptPictures
from supernet.scoring import SubnetScorer
from supernet.settings import from_mapping


def extract_model(
    trained: TrainedSupernet,
    arch: Arch,
    test_set: PoseDataset,
    num_calibration_images: int = 128,
    batch_size: int = 32,
    num_images: int | None = None,
) -> ExportedModel:
    """Cut ``arch`` out of a supernet, calibrate it on training pictures and measure it.

    Args:
        trained: The supernet, on the device to compute on.
        arch: Which subnet.
        test_set: The split "test" of the supernet's data set.
        num_calibration_images: Training pictures behind the batch-norm statistics.
        batch_size: Pictures per forward pass.
        num_images: Measure on this many pictures from the start of the test set; all if None.

    Raises:
        UserError: ``arch`` is outside the supernet's space, or pictures cannot be read.
    """
    trained.supernet.space.check(arch)
    settings = from_mapping(InferenceSettings, trained.evaluation, "evaluation")
    train_set = build(trained.dataset, "train")
    scorer = SubnetScorer(
        trained.supernet, train_set, test_set, settings, num_calibration_images, batch_size=batch_size
    )
    network = scorer.subnet(arch)
    space = trained.supernet.space
    return ExportedModel(
        network,
        trained.keypoints,
        settings,
        trained.objective,
        trained.dataset,
        Calibration("train", min(num_calibration_images, len(train_set)), arch.resolution),
        Origin(space.name, space.digest()),
        measure(network, test_set, "test", settings, batch_size, num_images, "calibrated subnet:"),
        costs(arch, trained.keypoints.num),
    )


def run(options: argparse.Namespace) -> None:
    """Export a subnet as the command line asks."""
    began = time.perf_counter()
    device = prepare(options)
    arch_path = Path(options.arch or Path(options.runs) / "evolve" / "latest" / "arch.json")
    if not options.arch and not arch_path.exists():
        raise UserError(f"there is no {arch_path}; run python -m search.evolve first or name an arch with --arch")
    arch = Arch.load(arch_path)
    trained = load_supernet(options.supernet or Path(options.runs) / "train" / "latest")
    try:
        trained.supernet.space.check(arch)
    except UserError as error:
        raise UserError(f"arch file {arch_path} does not fit the supernet {trained.path}: {error}") from error
    trained.supernet.to(device)
    trained.dataset.update(at_root(trained.dataset, options.dataset_root))
    test_set = KeptPictures(build(trained.dataset, "test"))
    model = extract_model(trained, arch, test_set, options.calibration_images, options.batch_size, options.num_images)
    save_model(options.folder, model, lambda reloaded: check_measurement(reloaded, test_set, options.batch_size))
    finish(
        options,
        model,
        "exported subnet",
        {"arch_file": str(arch_path), "supernet": str(trained.path), "seconds": round(time.perf_counter() - began, 1)},
    )
