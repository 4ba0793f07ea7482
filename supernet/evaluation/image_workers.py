"""Inference on all cores of one machine: processes that each load images, run the network and group its maps.

A network for edge devices is small: on several threads its layers wait for each other, and grouping has none. Processes
need no exchange but the people at the end. They are forked, so that each starts with the network, the data set and the
images that are in memory already, at no cost; where that is not possible, the images run one after the other.
"""

from dataclasses import replace

import torch

from supernet.compute.device import explain_out_of_memory
from supernet.compute.forked import can_fork, results_of
from supernet.evaluation.device_inference import predict_on_device
from supernet.evaluation.image_blocks import image_blocks
from supernet.pose.data.cached import load_into_memory
from supernet.pose.data.pose_dataset import PoseDataset
from supernet.pose.data.subset import Subset
from supernet.pose.inference import PoseEstimator, PosePredictions, Progress
from supernet.pose.metrics.stage_times import StageTimes


def predict_in_workers(
    num_workers: int,
    estimator: PoseEstimator,
    dataset: PoseDataset,
    num_images: int | None = None,
    progress: Progress | None = None,
) -> list[PosePredictions]:
    """Return the people of each image of a data set, in its order.

    Args:
        num_workers: Processes; 1 runs the images in this one, as do networks of another runtime. For networks on a GPU,
            threads that load images, and processes that match people (:mod:`supernet.evaluation.device_inference`).
        estimator: See :class:`PoseEstimator`. Its ``times`` become the sums over all processes.
        dataset: Where the images come from.
        num_images: Only this many images from the start; all by default.
        progress: Called with (images done, images in all).

    Raises:
        UserError: As ``PoseEstimator.stream``, or a process was killed, or memory ran out.
    """
    doing = f"in an evaluation of at most {estimator.largest_batch} images of {estimator.resolution} px at once"
    with explain_out_of_memory(doing, "lower batch_size, or free memory that other programs use"):
        return _predictions(num_workers, estimator, dataset, num_images, progress)


def _predictions(
    num_workers: int,
    estimator: PoseEstimator,
    dataset: PoseDataset,
    num_images: int | None,
    progress: Progress | None,
) -> list[PosePredictions]:
    total = len(dataset) if num_images is None else min(num_images, len(dataset))
    device = torch.device(estimator.device).type
    if device == "cuda" and type(estimator) is PoseEstimator:  # others read the maps in their own way
        return predict_on_device(num_workers, estimator, dataset, total, progress)
    if not isinstance(estimator.network, torch.nn.Module) or device != "cpu":
        return estimator.on_dataset(dataset, total, progress)
    blocks = image_blocks(estimator, dataset, total)
    num_workers = min(num_workers, len(blocks))

    def people_of(number: int) -> tuple[list[PosePredictions], StageTimes]:
        measured = replace(estimator, times=StageTimes())
        return measured.on_dataset(Subset(dataset, blocks[number])), measured.times

    if num_workers > 1 and can_fork():
        with estimator.times.measure("loading"):
            load_into_memory(Subset(dataset, range(total)))
        results = results_of(num_workers, len(blocks), people_of, "evaluates images")
    else:
        results = ((number, people_of(number)) for number in range(len(blocks)))
    predictions: dict[int, PosePredictions] = {}
    for number, (people, times) in results:
        estimator.times.add(times)
        predictions |= zip(blocks[number], people, strict=True)
        if progress is not None:
            progress(len(predictions), total)
    return [predictions[index] for index in range(total)]
