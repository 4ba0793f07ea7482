"""Evaluation shared out among ranks: every rank runs its part of the images and receives the people of all."""

from collections.abc import Callable

import numpy as np
import torch

from supernet.compute.distributed import Processes
from supernet.pose.data.pose_dataset import PoseDataset
from supernet.pose.data.subset import Subset
from supernet.pose.geometry import normalise
from supernet.pose.inference import InferenceSettings, PosePredictions, Preprocess, estimate_dataset
from supernet.pose.multiscale_flip import Network


def estimate_on_ranks(
    ranks: Processes,
    network: Network,
    dataset: PoseDataset,
    resolution: int,
    settings: InferenceSettings,
    batch_size: int = 32,
    *,
    num_images: int | None = None,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
    prepare: Preprocess = normalise,
) -> list[PosePredictions]:
    """The people of each image of a data set, in its order, on every rank; ``ranks`` share the images out.

    The other arguments are those of :func:`supernet.pose.inference.estimate_dataset`; ``progress`` counts the images
    of this rank. All ranks must call it, with the same network.
    """
    total = len(dataset) if num_images is None else min(num_images, len(dataset))
    part = Subset(dataset, range(ranks.index, total, ranks.count))
    own = estimate_dataset(
        network, part, resolution, settings, batch_size, device=device, progress=progress, prepare=prepare
    )
    keypoints = dataset.keypoints.num
    counts = ranks.gather(torch.tensor([len(people.scores) for people in own], dtype=torch.int64))
    empty = np.empty((0, keypoints, 3), np.float32)
    poses = ranks.gather(torch.from_numpy(np.concatenate([empty, *(people.poses for people in own)])))
    scores = ranks.gather(torch.from_numpy(np.concatenate([empty[:, 0, 0], *(people.scores for people in own)])))
    found: dict[int, PosePredictions] = {}
    for rank in range(ranks.count):
        sizes = counts[rank].tolist()
        parts = zip(
            range(rank, total, ranks.count),
            torch.split(poses[rank], sizes),
            torch.split(scores[rank], sizes),
            strict=True,
        )
        found |= {index: PosePredictions(pose.numpy(), score.numpy()) for index, pose, score in parts}
    return [found[index] for index in range(total)]
