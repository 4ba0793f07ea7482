"""Finds the local maxima of a heatmap.

Source: the 'nms' and 'top_k' steps of HigherHRNet (arXiv 1908.10357). We differ where equal pixels lie beside each
other, as in coarse or quantised maps: they are one maximum here and several there.
"""

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

FEW = 100
"""Up to one pixel in this many above the threshold, these are compared one by one; beyond it, the map as a whole."""
WIDE = 15
"""``nms_kernel`` from which the map is compared as a whole: each pixel's square would need too much memory."""


def peaks_of_maps(heatmaps: Floats, max_peaks: int, threshold: float, nms_kernel: int) -> list[Integers]:
    """Return the :func:`peaks` of each heatmap (K, H, W), found together: a map alone is a dozen calls of NumPy."""
    num, height, width = heatmaps.shape
    size, flat = height * width, heatmaps.ravel()
    above = np.flatnonzero(flat > threshold)
    counts = np.diff(np.searchsorted(above, np.arange(num + 1) * size))
    few = (counts <= size // FEW) & (nms_kernel < WIDE)
    if not few.all():
        above = above[np.repeat(few, counts)]
    for reach in (min(nms_kernel // 2, 1), nms_kernel // 2):
        above = _highest_within(heatmaps, above, reach)
    values, maps = flat[above], above // size
    order = np.lexsort((-values, maps))
    above, values, maps = above[order] % size, values[order], maps[order]
    is_tied = np.isin(np.arange(num), maps[:-1][(values[1:] == values[:-1]) & (maps[1:] == maps[:-1])])
    ends = np.searchsorted(maps, np.arange(num + 1))
    of_maps = []
    for number, own in enumerate(map(slice, ends[:-1], ends[1:])):
        if not few[number]:
            of_maps.append(peaks(heatmaps[number], max_peaks, threshold, nms_kernel))
        elif is_tied[number]:
            of_maps.append(_first_of_plateaus(above[own], values[own], width, nms_kernel // 2, max_peaks))
        else:
            of_maps.append(above[own][:max_peaks])
    return of_maps


def peaks(heatmap: Floats, max_peaks: int, threshold: float, nms_kernel: int) -> Integers:
    """Return the flat indices (N,) of the map's highest local maxima, highest first.

    Args:
        heatmap: (H, W).
        max_peaks: Largest N.
        threshold: Value that a peak must exceed.
        nms_kernel: Side, in pixels, of the square in which only the highest pixel counts; odd. Of equal pixels in one
            square the first counts.
    """
    above = np.flatnonzero(heatmap > threshold)
    if above.size == 0:
        return above
    if above.size > heatmap.size // FEW or nms_kernel >= WIDE:
        highest = cv2.dilate(heatmap, np.ones((nms_kernel, nms_kernel), np.uint8))
        above = above[heatmap.ravel()[above] == highest.ravel()[above]]
    else:
        # The nearest pixels exclude most candidates at little cost.
        for reach in (min(nms_kernel // 2, 1), nms_kernel // 2):
            above = _highest_within(heatmap[None], above, reach)
    values = heatmap.ravel()[above]
    order = np.argsort(-values, kind="stable")
    values = values[order]
    highest_first: Integers = above[order]
    if (values[1:] == values[:-1]).any():
        return _first_of_plateaus(highest_first, values, heatmap.shape[1], nms_kernel // 2, max_peaks)
    return highest_first[:max_peaks]


def _highest_within(heatmaps: Floats, places: Integers, reach: int) -> Integers:
    """Return those of the flat indices (N,) into maps (K, H, W) that have no higher pixel within ``reach``."""
    _, height, width = heatmaps.shape
    maps, within = np.divmod(places, height * width)
    y, x = np.divmod(within, width)
    steps = np.arange(-reach, reach + 1)
    rows = np.clip(y + steps[:, None], 0, height - 1) * width + maps * (height * width)
    columns = np.clip(x + steps[:, None], 0, width - 1)
    around = heatmaps.take(rows[:, None] + columns).max(axis=(0, 1))
    highest: Integers = places[heatmaps.take(places) == around]
    return highest


def _first_of_plateaus(peaks: Integers, values: Floats, width: int, reach: int, max_peaks: int) -> Integers:
    """Return the first ``max_peaks`` of the sorted peaks (N,) with no equal one before them within ``reach`` px."""
    kept: list[tuple[float, int, int]] = []
    for peak, value in zip(peaks.tolist(), values.tolist(), strict=True):
        y, x = divmod(peak, width)
        if not any(value == v and abs(y - r) <= reach and abs(x - c) <= reach for v, r, c in kept):
            kept.append((value, y, x))
            if len(kept) == max_peaks:
                break
    return np.array([y * width + x for _, y, x in kept], np.int64)
