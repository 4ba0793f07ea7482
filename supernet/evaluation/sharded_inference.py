"""Inference shared among processes: each runs its part of the images and receives the people of all images."""

import numpy as np
import torch

from supernet.compute.distributed import Processes
from supernet.evaluation.image_workers import predict_in_workers
from supernet.pose.data.pose_dataset import PoseDataset
from supernet.pose.data.subset import Subset
from supernet.pose.inference import PoseEstimator, PosePredictions, Progress


def predict_sharded(
    processes: Processes,
    estimator: PoseEstimator,
    dataset: PoseDataset,
    num_images: int | None = None,
    progress: Progress | None = None,
    *,
    num_workers: int = 1,
) -> list[PosePredictions]:
    """Return the people of each image of a data set, in its order, in every process.

    Args:
        processes: Process r of n runs the images r, r + n, r + 2 n, ...; all must call this, with equal networks.
        estimator: See :class:`PoseEstimator`.
        dataset: Where the images come from.
        num_images: Only this many images from the start; all by default.
        progress: Called with (images done, images in all) of this process.
        num_workers: See :func:`supernet.evaluation.image_workers.predict_in_workers`.
    """
    total = len(dataset) if num_images is None else min(num_images, len(dataset))
    shard = Subset(dataset, range(processes.index, total, processes.count))
    own = predict_in_workers(num_workers, estimator, shard, progress=progress)
    counts = processes.gather(torch.tensor([len(people.scores) for people in own], dtype=torch.int64))
    empty = np.empty((0, estimator.keypoints.num, 3), np.float32)
    poses = processes.gather(torch.from_numpy(np.concatenate([empty, *(people.poses for people in own)])))
    scores = processes.gather(torch.from_numpy(np.concatenate([empty[:, 0, 0], *(people.scores for people in own)])))
    predictions: dict[int, PosePredictions] = {}
    for rank in range(processes.count):
        sizes = counts[rank].tolist()
        parts = zip(
            range(rank, total, processes.count),
            torch.split(poses[rank], sizes),
            torch.split(scores[rank], sizes),
            strict=True,
        )
        predictions |= {index: PosePredictions(pose.numpy(), score.numpy()) for index, pose, score in parts}
    return [predictions[index] for index in range(total)]
