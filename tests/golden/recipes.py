"""Deterministic inputs behind the reference figures in this folder.

Every array is drawn from numpy's legacy ``RandomState``, whose streams numpy guarantees never to change,
so the inputs need not be stored: the same seed gives the same input anywhere.
"""

import zlib

import numpy as np


def fill_parameter(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """Value of the network parameter or buffer ``key`` (LitePose state-dict name), float32.

    Convolution weights are He-scaled normals, batch-norm scales and variances lie in [0.5, 1.5],
    batch-norm shifts and means are normals scaled by 0.1.
    """
    rng = np.random.RandomState(zlib.crc32(key.encode()) & 0x7FFFFFFF)
    leaf = key.rsplit(".", 1)[-1]
    if leaf == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if len(shape) == 4:
        fan_in = shape[1] * shape[2] * shape[3]
        weights: np.ndarray = (rng.standard_normal(shape) * np.sqrt(2.0 / fan_in)).astype(np.float32)
        return weights
    if leaf in ("weight", "running_var"):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    return (rng.standard_normal(shape) * 0.1).astype(np.float32)


def image_batch(seed: int, size: int, batch: int = 1) -> np.ndarray:
    """Network input, float32 (batch, 3, size, size), standard normal."""
    return np.random.RandomState(seed).standard_normal((batch, 3, size, size)).astype(np.float32)


def crowd_maps(
    seed: int, people: int, joints: int, height: int, width: int, tags: int = 2
) -> tuple[np.ndarray, np.ndarray]:
    """Heatmaps (joints, height, width) and tag maps (joints, height, width, tags), float32, of a made-up crowd.

    Tags of different people lie about 4 apart and equal joints of different people at least 9 px apart, so that
    matching by rounded tag distance has no ties and every exact solver gives the same people.
    """
    rng = np.random.RandomState(seed)
    heat = rng.random_sample((joints, height, width)).astype(np.float32) * 0.05
    tag = rng.standard_normal((joints, height, width, tags)).astype(np.float32) * 0.05
    yy, xx = np.mgrid[:height, :width].astype(np.float32)
    placed: list[list[np.ndarray]] = [[] for _ in range(joints)]
    for person in range(people):
        centre = rng.uniform([12, 12], [width - 12, height - 12])
        spread = rng.uniform(4, 16)
        person_tag = 4.0 * (person - people / 2) + rng.normal(0, 0.2, size=tags)
        for j in range(joints):
            skip, offset, height_of_peak = (
                rng.random_sample() < 0.2,
                rng.normal(0, spread, size=2),
                rng.uniform(0.3, 1.0),
            )
            at = np.clip(centre + offset, 1, [width - 2, height - 2])
            d2 = (xx - at[0]) ** 2 + (yy - at[1]) ** 2
            near = d2 < 16
            noise = rng.normal(0, 0.1, size=(int(near.sum()), tags))
            if skip or any(np.hypot(*(at - other)) < 9 for other in placed[j]):
                continue
            placed[j].append(at)
            heat[j] = np.maximum(heat[j], (height_of_peak * np.exp(-d2 / 8.0)).astype(np.float32))
            tag[j][near] = (person_tag + noise).astype(np.float32)
    return heat, tag


def people_joints(seed: int, people: int, joints: int, resolution: int) -> np.ndarray:
    """Joint annotations (people, joints, 3) = x, y, visibility in output-map pixels; some lie outside the map."""
    rng = np.random.RandomState(seed)
    out = np.zeros((people, joints, 3))
    out[..., :2] = rng.uniform(-4, resolution + 4, (people, joints, 2))
    out[..., 2] = rng.randint(0, 3, (people, joints))
    return out
