"""The peaks of maps found together are those of each map."""

import tracemalloc

import cv2
import numpy as np
import pytest

from supernet.pose.peaks import Floats, peaks, peaks_of_maps


def maps(kind: str, seed: int) -> Floats:
    """Five maps (48, 64): of few blobs, of noise, rounded to steps (with plateaus), or one of each and two empty."""
    rng = np.random.default_rng(seed)
    blobs = np.zeros((5, 48, 64), np.float32)
    for number, y, x in zip(*np.nonzero(rng.random(blobs.shape) < 0.002), strict=True):
        blobs[number, y, x] = rng.uniform(2, 9)
    blobs = np.stack([cv2.GaussianBlur(blob, (0, 0), 1.0) for blob in blobs])
    noise = rng.random(blobs.shape, np.float32)
    steps = (np.round(blobs * 8) / 8).astype(np.float32)
    empty = np.zeros(blobs.shape[1:], np.float32)
    mixed = np.stack([blobs[0], empty, noise[1], empty, steps[2]])
    by_kind: dict[str, Floats] = {"blobs": blobs, "noise": noise, "steps": steps, "mixed": mixed}
    return by_kind[kind]


@pytest.mark.parametrize("kind", ["blobs", "noise", "steps", "mixed"])
@pytest.mark.parametrize(
    ("max_peaks", "threshold", "nms_kernel"), [(30, 0.1, 5), (2, 0.3, 3), (5, 0.9, 1), (9, 99, 7), (3, 0, 31)]
)
def test_maps_together_have_the_peaks_of_each(kind: str, max_peaks: int, threshold: float, nms_kernel: int) -> None:
    for seed in range(5):
        heatmaps = maps(kind, seed)
        expected = [peaks(heatmap, max_peaks, threshold, nms_kernel) for heatmap in heatmaps]
        found = peaks_of_maps(heatmaps, max_peaks, threshold, nms_kernel)
        for own, wanted in zip(found, expected, strict=True):
            np.testing.assert_array_equal(own, wanted)
        assert any(map(len, found)) == (threshold < 99)


def test_a_wide_square_needs_no_more_memory_than_a_few_copies_of_the_maps() -> None:
    heatmaps = np.zeros((5, 48, 64), np.float32)
    heatmaps[:, 4:44:10, 4:64:12] = 1  # few enough to be compared one by one
    tracemalloc.start()
    try:
        peaks_of_maps(heatmaps, 30, 0.1, 47)
        assert tracemalloc.get_traced_memory()[1] < 4 * heatmaps.nbytes
    finally:
        tracemalloc.stop()
