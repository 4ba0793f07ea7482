"""AP of a network on a split of its data set, with a progress bar; and data sets that moved."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from subnet_export.deployment.runtimes import Runtime
from subnet_export.exported_model import ExportedModel, Measurement, identity
from supernet.cli.console import progress_bar
from supernet.errors import UserError
from supernet.litepose import LitePose
from supernet.pose.data.pose_dataset import PoseDataset
from supernet.pose.evaluation import evaluate
from supernet.pose.geometry import normalise
from supernet.pose.inference import InferenceSettings

AP_TOLERANCE = 1e-6


def measure(
    network: LitePose,
    images: PoseDataset,
    split: str,
    settings: InferenceSettings,
    batch_size: int,
    num_images: int | None,
    note: str,
    runtime: Runtime | None = None,
) -> Measurement:
    """Evaluate ``network`` at its resolution on the first ``num_images`` (None: all) of ``split``'s ``images``.

    With a ``runtime``, that computes the maps instead.
    """
    device = next(network.parameters()).device if runtime is None else "cpu"
    with progress_bar() as progress:
        task = progress.add_task(f"evaluating on {split}", total=len(images), note=note)

        def on_image(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        metrics = evaluate(
            network if runtime is None else runtime,
            images,
            network.arch.resolution,
            settings,
            batch_size,
            num_images,
            device=device,
            progress=on_image,
            prepare=normalise if runtime is None else identity,
        ).metrics
        progress.update(task, note=f"{note} AP {metrics['AP']:.3f}")
    return Measurement(split, len(images) if num_images is None else min(num_images, len(images)), metrics)


def check_measurement(model: ExportedModel, images: PoseDataset, batch_size: int) -> None:
    """Measure ``model`` again and compare with what it says about itself.

    Raises:
        UserError: A figure differs by more than ``AP_TOLERANCE``.
    """
    told = model.measurement
    found = measure(
        model.network, images, told.split, model.settings, batch_size, told.num_images, "read back:"
    ).metrics
    for name, value in told.metrics.items():
        if abs(found[name] - value) > AP_TOLERANCE:
            raise UserError(
                f"{name} of the model read back is {found[name]:.7f}, was {value:.7f}; nothing was kept, export again"
            )


def at_root(dataset: Mapping[str, Any], root: str | None) -> dict[str, Any]:
    """Return the description of a data set with ``root`` as its folder, if one is given.

    Raises:
        UserError: The data set is not on disk, or there is no such folder.
    """
    if root is None:
        return dict(dataset)
    if "root" not in dataset:
        raise UserError(f"a data set of kind {dataset.get('kind')!r} has no folder; leave out --dataset-root")
    if not Path(root).is_dir():
        raise UserError(f"there is no folder {root}; give --dataset-root the folder that holds the data set")
    return {**dataset, "root": root}
