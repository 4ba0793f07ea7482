"""Checks before a long run that everything its report will need can be read, so that no work is lost at its end."""

import logging
from collections.abc import Callable, Iterable, Mapping

from supernet.cli.console import progress_bar
from supernet.compute.distributed import SINGLE_PROCESS, Processes
from supernet.errors import UserError, first_few
from supernet.pose.coco.dataset import CocoPeople
from supernet.pose.data.image_decoding import BadImage
from supernet.pose.data.pose_dataset import PoseDataset, original_of
from supernet.pose.data.subset import spread_indices
from supernet.pose.evaluation import evaluator_of

logger = logging.getLogger(__name__)


def check_ready(
    splits: Mapping[str, PoseDataset],
    train_set: PoseDataset,
    num_calibration_images: int,
    processes: Processes = SINGLE_PROCESS,
) -> None:
    """Check that the images and people of an evaluation can be read, and the images of a calibration.

    Every image on disk is decoded once: a header does not show whether the rest is intact. Sets that cache their
    images keep them for the evaluation. The main process warns of images that are trained on, too.

    Args:
        splits: The images to evaluate on, by name of their split.
        train_set: Training images, of which ``num_calibration_images`` are used for calibration.
        num_calibration_images: See ``train_set``.
        processes: Processes that share the images; all raise the same error.

    Raises:
        UserError: An image cannot be used, or a split has no labelled person; the message names it.
    """
    for name, dataset in splits.items():
        check_people(name, dataset)
    if processes.is_main:
        _warn_of_training_images(splits, train_set)
    calibration = spread_indices(len(train_set), num_calibration_images)
    parts = [("train", train_set, calibration)]
    parts += [(name, dataset, list(range(len(dataset)))) for name, dataset in splits.items()]
    parts = [part for part in parts if _is_on_disk(part[1])]
    with progress_bar(disable=not processes.is_main) as progress:
        for name, dataset, indices in parts:
            task = progress.add_task(f"checking {name} images", total=len(indices), note="")

            def on_image(done: int, task: object = task) -> None:
                progress.update(task, completed=done)  # type: ignore[arg-type]

            own = indices[processes.index :: processes.count]
            errors = processes.lists(_errors(dataset, own, on_image))
            progress.update(task, completed=len(indices))
            if errors:
                raise UserError(
                    f"the {name} split cannot be used: {first_few(errors, '; ')}; "
                    "python -m supernet.pose.check lists all faults"
                )


def check_people(split: str, dataset: PoseDataset) -> None:
    """Raise UserError, which names the ``split``, if AP cannot be computed on ``dataset``; built-in people pass."""
    if not _is_on_disk(dataset):
        return
    try:
        evaluator_of(dataset, len(dataset))
    except UserError as error:
        raise UserError(f"the {split} split, on {len(dataset)} images: {error}") from error


def _warn_of_training_images(splits: Mapping[str, PoseDataset], train_set: PoseDataset) -> None:
    """Warn of each split that shares image files with the training images."""
    trained = original_of(train_set)
    if not isinstance(trained, CocoPeople):
        return
    files = trained.files
    for name, dataset in splits.items():
        evaluated = original_of(dataset)
        if isinstance(evaluated, CocoPeople) and (num_shared := len(files & evaluated.files)):
            logger.warning(
                "%d of the %d images of the %s split are training images, too, so AP on it is optimistic",
                *(num_shared, len(evaluated), name),
            )


def _is_on_disk(dataset: PoseDataset) -> bool:
    return isinstance(original_of(dataset), CocoPeople)


def _errors(dataset: PoseDataset, indices: Iterable[int], on_image: Callable[[int], None]) -> list[str]:
    """Return the error of each image that cannot be used."""
    errors: list[str] = []
    for done, index in enumerate(indices, start=1):
        try:
            dataset[index]
        except UserError as error:
            errors.append(str(error))
            if not isinstance(error, BadImage):  # too many broken images: the message names some already
                break
        on_image(done)
    return errors
