"""Adds the keypoints that a person lacks.

Source: the 'refine' step of HigherHRNet's evaluation (arXiv 1908.10357), with equal results. For every person that
lacks a keypoint, refining searches the whole map for the pixel where the heatmap minus the rounded tag distance is
highest. We search block by block and skip the blocks that cannot contain it.
"""

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

BLOCK = 16
"""Side of a block in pixels."""
SEEDS = 8
"""Number of blocks with the highest bounds that are searched first; their best score excludes most other blocks."""
SMALL = 2**20
"""People times size of the tag maps up to which searching everywhere is faster."""


def complete(
    heatmaps: Floats, tags: Floats, places: Integers, values: Floats, means: Floats
) -> tuple[Integers, Floats]:
    """Add the keypoints that people lack, where the heatmap minus the rounded tag distance is highest.

    The first such pixel counts, and only if the heatmap is above 0 there.

    Args:
        heatmaps: (K, H, W).
        tags: (K, H, W, T).
        places: (P, K) flat indices into the maps, -1 for a keypoint not found.
        values: (P, K) heatmap values at the places.
        means: (P, T) mean tag of each person.

    Returns:
        Places and values (P, K) with the added keypoints.
    """
    places, values = places.copy(), values.copy()
    for keypoint, (heat, tag) in enumerate(zip(heatmaps, tags, strict=True)):
        people = np.flatnonzero(places[:, keypoint] < 0)
        if people.size == 0:
            continue
        search = everywhere if people.size * tag.size <= SMALL else by_blocks
        best = search(heat, tag, means[people])
        heights = heat.ravel()[best]
        taken = heights > 0
        places[people[taken], keypoint] = best[taken]
        values[people[taken], keypoint] = heights[taken]
    return places, values


def everywhere(heatmap: Floats, tags: Floats, means: Floats) -> Integers:
    """Return the flat index (P,) where ``heatmap`` minus the rounded distance of ``tags`` to ``means`` is highest.

    Of several such pixels it is the first.

    Args:
        heatmap: (H, W).
        tags: (H, W, T).
        means: (P, T).
    """
    places = np.empty(len(means), np.int64)
    for person, mean in enumerate(means):
        places[person] = (heatmap - _rounded_norm([tags[..., i] - value for i, value in enumerate(mean)])).argmax()
    return places


def by_blocks(heatmap: Floats, tags: Floats, means: Floats) -> Integers:
    """Return the result of :func:`everywhere`, from the few blocks of the map that can contain it.

    No pixel of a block exceeds the block's highest heat minus the least distance that its range of tags allows.
    Rounding never reverses an order, so with the same operations in the same precision this holds to the last bit.
    """
    peak = _blocks(heatmap[..., None], cv2.REDUCE_MAX, cv2.MORPH_DILATE)[..., 0]
    low = _blocks(tags, cv2.REDUCE_MIN, cv2.MORPH_ERODE)
    high = _blocks(tags, cv2.REDUCE_MAX, cv2.MORPH_DILATE)
    gaps = [
        np.maximum(np.maximum(low[..., i] - mean, mean - high[..., i]), np.float32(0))
        for i, mean in enumerate(means.T[..., None, None])
    ]
    bounds = (peak - _rounded_norm(gaps)).reshape(len(means), -1)
    num_blocks = bounds.shape[1]

    seeds = np.argpartition(bounds, -min(SEEDS, num_blocks), axis=1)[:, -SEEDS:]
    people = np.repeat(np.arange(len(means)), seeds.shape[1])
    scores, places = _search_blocks(heatmap, tags, means, people, seeds.ravel())
    candidates = bounds >= scores.reshape(seeds.shape).max(axis=1, keepdims=True)
    np.put_along_axis(candidates, seeds, False, axis=1)
    # Many candidates mean that the bounds exclude little, for example where the tags are noise.
    wide = np.flatnonzero(candidates.sum(axis=1) > num_blocks // 8)
    candidates[wide] = False

    more, blocks = np.nonzero(candidates)
    more_scores, more_places = _search_blocks(heatmap, tags, means, more, blocks)
    people, scores = np.concatenate([people, more]), np.concatenate([scores, more_scores])
    places = np.concatenate([places, more_places])
    order = np.lexsort((places, -scores, people))
    best = places[order[np.searchsorted(people[order], np.arange(len(means)))]]
    best[wide] = everywhere(heatmap, tags, means[wide])
    return best


def _search_blocks(
    heatmap: Floats, tags: Floats, means: Floats, people: Integers, blocks: Integers
) -> tuple[Floats, Integers]:
    """Return the highest score and its first flat index, both (N,), for N pairs of a person and a block."""
    height, width = heatmap.shape
    top, left = np.divmod(blocks[:, None], -(-width // BLOCK))
    # In blocks that the border cuts, the last row and column stand for those outside.
    y = np.minimum(top * BLOCK + np.arange(BLOCK**2) // BLOCK, height - 1)
    x = np.minimum(left * BLOCK + np.arange(BLOCK**2) % BLOCK, width - 1)
    places = y * width + x
    away = tags.reshape(-1, tags.shape[2]).take(places, axis=0) - means[people, None]
    scores = heatmap.take(places) - _rounded_norm([away[..., i] for i in range(away.shape[2])])
    first = (np.arange(len(blocks)), scores.argmax(axis=1))
    return scores[first], places[first]


def _rounded_norm(parts: list[Floats]) -> Floats:
    """Return the Euclidean norm over ``parts``, arrays of one shape that are overwritten, rounded to a whole number."""
    norm = parts[0]
    if len(parts) == 1:
        np.abs(norm, out=norm)
    else:
        np.square(norm, out=norm)
        for part in parts[1:]:
            norm += np.square(part, out=part)
        np.sqrt(norm, out=norm)
    return np.rint(norm, out=norm)


def _blocks(maps: Floats, reduction: int, filtering: int) -> Floats:
    """Reduce ``maps`` (H, W, T) over blocks, including those that the border cuts, to (H / BLOCK, W / BLOCK, T)."""
    height, width, depth = maps.shape
    sheet = maps.reshape(height, width * depth)
    # OpenCV reduces across the rows; along them it filters, and every BLOCK-th window is a block. Each is faster.
    bands = [cv2.reduce(sheet[top : top + BLOCK], 0, reduction) for top in range(0, height, BLOCK)]
    rows = np.concatenate(bands).reshape(-1, width, depth)
    windows = cv2.morphologyEx(rows, filtering, np.ones((1, BLOCK), np.uint8), anchor=(0, 0))
    return np.asarray(windows.reshape(rows.shape)[:, ::BLOCK], np.float32)
