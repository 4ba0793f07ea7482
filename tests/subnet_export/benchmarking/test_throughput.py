"""The maps of a perfect network, which the benchmark groups for random weights, hold the true people."""

import numpy as np

from subnet_export.benchmarking.throughput import perfect_maps
from supernet.pose.grouping import group
from supernet.pose.multiscale_flip import heatmaps, resize


def test_perfect_maps_group_into_the_true_people() -> None:
    rng = np.random.default_rng(1)
    people = np.zeros((3, 17, 3), np.float32)
    people[..., 0] = rng.uniform(8, 60, (3, 17)) + 64 * np.arange(3)[:, None]  # side by side
    people[..., 1] = rng.uniform(8, 120, (3, 17))
    people[..., 2] = 2
    low, high = perfect_maps(people, (128, 192))
    assert (low.shape, high.shape) == ((1, 34, 32, 48), (1, 17, 64, 96))
    heat = heatmaps(low[:, :17], high, (128, 192))
    tags = resize(low[:, 17:], (high.shape[2], high.shape[3]), (128, 192))
    poses, _ = group(heat[0], tags[0, ..., None])
    assert len(poses) == 3
    order = np.argsort(poses[..., 0].mean(axis=1))
    assert np.abs(poses[order, :, :2] - people[..., :2]).max() < 4  # a pixel of the coarser map
