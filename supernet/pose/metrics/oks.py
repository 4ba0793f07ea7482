"""Object keypoint similarity (OKS), which matches detections to people.

Source: COCO's keypoint evaluation.
"""

import numpy as np
import numpy.typing as npt

from supernet.pose.keypoints import KeypointSet

Floats = npt.NDArray[np.float64]


def similarities(predicted: Floats, truth: Floats, areas: Floats, boxes: Floats, keypoints: KeypointSet) -> Floats:
    """Compute the object keypoint similarity of every detection to every person.

    For a person without labelled keypoints, the distance is that to a box of three times the person's size, over all
    keypoints (such people are ignored in scoring; near detections are then ignored with them).

    Args:
        predicted: (D, K, 2) x, y in image pixels.
        truth: (G, K, 3) x, y, visibility.
        areas: (G,) square pixels.
        boxes: (G, 4) x, y, width, height.
        keypoints: The K keypoints.

    Returns:
        (D, G) in 0..1.
    """
    labelled = truth[..., 2] > 0
    unlabelled = ~labelled.any(axis=1)
    distances = predicted[:, None] - truth[None, ..., :2]
    if unlabelled.any():
        start = (boxes[:, :2] - boxes[:, 2:])[unlabelled, None]
        end = (boxes[:, :2] + 2 * boxes[:, 2:])[unlabelled, None]
        distances[:, unlabelled] = np.maximum(0, start - predicted[:, None]) + np.maximum(0, predicted[:, None] - end)
        labelled[unlabelled] = True
    variances = (2 * np.array(keypoints.sigmas)) ** 2
    exponents = np.square(distances).sum(axis=3) / (2 * variances * areas[:, None])
    closeness: Floats = (np.exp(-exponents) * labelled).sum(axis=2) / labelled.sum(axis=1)
    return closeness
