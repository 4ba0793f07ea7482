"""Positions finer than a pixel, and the keypoints a person lacks.

Source: the 'adjust' and 'refine' steps of HigherHRNet's evaluation (arXiv 1908.10357).
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]


def quarter_pixels(heatmaps: Floats, keypoints: Integers, x: Integers, y: Integers) -> Floats:
    """Steps (N, 2) in x and y of a quarter pixel each, towards the higher of a pixel's two neighbours.

    Neighbours of equal height pull to the lower side. At the border a pixel is its own neighbour.

    Args:
        heatmaps: (K, H, W).
        keypoints: (N,) map of each position.
        x: (N,) column of each position.
        y: (N,) row of each position.
    """
    _, height, width = heatmaps.shape
    right = heatmaps[keypoints, y, np.minimum(x + 1, width - 1)] > heatmaps[keypoints, y, np.maximum(x - 1, 0)]
    down = heatmaps[keypoints, np.minimum(y + 1, height - 1), x] > heatmaps[keypoints, np.maximum(y - 1, 0), x]
    return np.where(np.stack([right, down], axis=1), np.float32(0.25), np.float32(-0.25))


def complete(
    heatmaps: Floats, tags: Floats, places: Integers, values: Floats, means: Floats
) -> tuple[Integers, Floats]:
    """Look for the keypoints people lack where the heatmap less the rounded tag distance is highest.

    A place is taken only where the heatmap is above 0.

    Args:
        heatmaps: (K, H, W).
        tags: (K, T, H, W).
        places: (P, K) flat places in the maps, -1 for a keypoint not found.
        values: (P, K) heatmap values at the places.
        means: (P, T) mean tag of each person.

    Returns:
        Places and values (P, K) with the new ones filled in.
    """
    places, values = places.copy(), values.copy()
    num_keypoints, num_tags = tags.shape[:2]
    distance = np.empty(heatmaps[0].size, np.float32)
    square = np.empty_like(distance)
    for keypoint in range(num_keypoints):
        heat = heatmaps[keypoint].ravel()
        planes = tags[keypoint].reshape(num_tags, -1)
        for person in np.flatnonzero(places[:, keypoint] < 0):
            np.subtract(planes[0], means[person, 0], out=distance)
            if num_tags == 1:
                np.abs(distance, out=distance)
            else:
                np.square(distance, out=distance)
                for plane, mean in zip(planes[1:], means[person, 1:], strict=True):
                    np.subtract(plane, mean, out=square)
                    np.square(square, out=square)
                    np.add(distance, square, out=distance)
                np.sqrt(distance, out=distance)
            np.rint(distance, out=distance)
            np.subtract(heat, distance, out=distance)
            best = int(distance.argmax())
            if heat[best] > 0:
                places[person, keypoint] = best
                values[person, keypoint] = heat[best]
    return places, values
