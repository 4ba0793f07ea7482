"""Adds the keypoints that a person lacks.

Source: the 'refine' step of HigherHRNet's evaluation (arXiv 1908.10357), with equal results. For every person that
lacks a keypoint, refining searches the whole map for the pixel where the heatmap minus the rounded tag distance is
highest. We search block by block and skip the blocks that cannot contain it, for all people and keypoints at once.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

BLOCK = 16
"""Side of a block in pixels."""
SEEDS = 3
"""Number of blocks with the highest bounds that are searched first; their best score excludes most other blocks."""
FEW = 1
"""Missing keypoints per map up to which searching everywhere is faster than to bound the blocks of all maps."""
_PAIRS = 512
"""Pairs of a person and a keypoint that are searched together: more would only take memory."""


def complete(
    heatmaps: Floats, tags: Floats, places: Integers, values: Floats, means: Floats
) -> tuple[Integers, Floats]:
    """Add the keypoints that people lack, where the heatmap minus the rounded tag distance is highest.

    The first such pixel counts, and only if the heatmap is above 0 there.

    Args:
        heatmaps: (K, H, W).
        tags: (K, H, W, T); quickest where each of the T maps is contiguous.
        places: (P, K) flat indices into the maps, -1 for a keypoint not found.
        values: (P, K) heatmap values at the places.
        means: (P, T) mean tag of each person.

    Returns:
        Places and values (P, K) with the added keypoints.
    """
    places, values = places.copy(), values.copy()
    people, keypoints = np.nonzero(places < 0)
    if people.size == 0:
        return places, values
    if people.size <= FEW * len(heatmaps):
        best = np.array(
            [everywhere(heatmaps[k], tags[k], means[p : p + 1])[0] for p, k in zip(people, keypoints, strict=True)]
        )
    else:
        best = by_blocks(heatmaps, tags, keypoints, means[people])
    heights = heatmaps.reshape(len(heatmaps), -1)[keypoints, best]
    taken = heights > 0
    places[people[taken], keypoints[taken]] = best[taken]
    values[people[taken], keypoints[taken]] = heights[taken]
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


def by_blocks(heatmaps: Floats, tags: Floats, keypoints: Integers, means: Floats) -> Integers:
    """Return the results of :func:`everywhere` for N pairs of a keypoint and a person, from few blocks of the maps.

    No pixel of a block exceeds the block's highest heat minus the least distance that its range of tags allows.
    Rounding never reverses an order, so with the same operations in the same precision this holds to the last bit.

    Args:
        heatmaps: (K, H, W).
        tags: (K, H, W, T).
        keypoints: (N,) keypoint of each pair.
        means: (N, T) mean tag of each pair's person.

    Returns:
        Flat indices (N,) into the keypoint's map.
    """
    blocks = _Blocks(
        peak=_extremes(heatmaps, highest=True),
        low=np.stack([_extremes(tags[..., i], highest=False) for i in range(tags.shape[3])], axis=2),
        high=np.stack([_extremes(tags[..., i], highest=True) for i in range(tags.shape[3])], axis=2),
    )
    parts = [slice(start, start + _PAIRS) for start in range(0, len(keypoints), _PAIRS)]
    return np.concatenate([_best_of_pairs(heatmaps, tags, keypoints[part], means[part], blocks) for part in parts])


@dataclass(frozen=True, eq=False)
class _Blocks:
    """What is known of the maps' blocks: highest heat (K, N), and least and greatest tags (K, N, T)."""

    peak: Floats
    low: Floats
    high: Floats


def _best_of_pairs(heatmaps: Floats, tags: Floats, keypoints: Integers, means: Floats, blocks: _Blocks) -> Integers:
    gaps = [
        np.maximum(np.maximum(blocks.low[keypoints, :, i] - mean, mean - blocks.high[keypoints, :, i]), np.float32(0))
        for i, mean in enumerate(means.T[..., None])
    ]
    bounds = blocks.peak[keypoints] - _rounded_norm(gaps)
    num_blocks = bounds.shape[1]
    num_seeds = min(SEEDS, num_blocks)
    seeds = np.argpartition(bounds, num_blocks - num_seeds, axis=1)[:, num_blocks - num_seeds :]
    pairs = np.repeat(np.arange(len(means)), num_seeds)
    scores, places = _search_blocks(heatmaps, tags, keypoints[pairs], means[pairs], seeds.ravel())
    candidates = bounds >= scores.reshape(seeds.shape).max(axis=1, keepdims=True)
    np.put_along_axis(candidates, seeds, False, axis=1)
    # Many candidates mean that the bounds exclude little, for example where the tags are noise.
    wide = np.flatnonzero(candidates.sum(axis=1) > num_blocks // 8)
    candidates[wide] = False

    more, more_blocks = np.nonzero(candidates)
    if more.size:
        more_scores, more_places = _search_blocks(heatmaps, tags, keypoints[more], means[more], more_blocks)
        pairs, scores = np.concatenate([pairs, more]), np.concatenate([scores, more_scores])
        places = np.concatenate([places, more_places])
    order = np.lexsort((places, -scores, pairs))
    best = places[order[np.searchsorted(pairs[order], np.arange(len(means)))]]
    for pair in wide:
        best[pair] = everywhere(heatmaps[keypoints[pair]], tags[keypoints[pair]], means[pair : pair + 1])[0]
    return np.asarray(best, np.int64)


def _search_blocks(
    heatmaps: Floats, tags: Floats, keypoints: Integers, means: Floats, blocks: Integers
) -> tuple[Floats, Integers]:
    """Return the highest score and its first flat index, both (N,), of N blocks, each for one keypoint and person."""
    height, width = heatmaps.shape[1:]
    top, left = np.divmod(blocks[:, None], -(-width // BLOCK))
    # In blocks that the border cuts, the last row and column stand for those outside.
    y = np.minimum(top * BLOCK + np.arange(BLOCK), height - 1)
    x = np.minimum(left * BLOCK + np.arange(BLOCK), width - 1)
    places = (y[:, :, None] * width + x[:, None, :]).reshape(len(blocks), -1)
    pixels = places + (keypoints * (height * width))[:, None]
    parts = [tags[..., i].take(pixels) - means[:, i, None] for i in range(tags.shape[3])]
    scores = heatmaps.take(pixels) - _rounded_norm(parts)
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


def _extremes(maps: Floats, highest: bool) -> Floats:
    """Return the highest or lowest pixel of each block of maps (K, H, W), those that the border cuts too: (K, N)."""
    count, height, width = maps.shape
    if height % BLOCK == 0 and width % BLOCK == 0:  # many times as fast, in PyTorch twice as fast as in NumPy
        reduce = torch.amax if highest else torch.amin
        writable = torch.from_numpy(np.require(maps, requirements=["C", "W"]))
        rows = reduce(writable.view(count, -1, BLOCK, width), dim=2)
        blocks = reduce(rows.view(count, -1, width // BLOCK, BLOCK), dim=3).numpy()
    else:
        of_blocks = np.maximum if highest else np.minimum
        of_rows = of_blocks.reduceat(maps, np.arange(0, height, BLOCK), axis=1)
        blocks = of_blocks.reduceat(of_rows, np.arange(0, width, BLOCK), axis=2)
    return np.asarray(blocks.reshape(count, -1), np.float32)
