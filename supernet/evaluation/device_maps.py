"""Grouping's work on maps, for a batch on the device that holds them: peaks, their tags, refinement, surroundings.

Only what stands here reads maps; matching people and moving keypoints within a pixel take what it returns. Results
equal those of ``supernet.pose.grouping.group`` on the same maps, ties included: the same operations, in float32.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from supernet.pose.inference import InferenceSettings
from supernet.pose.peaks import peaks
from supernet.pose.subpixel import REACH

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

_SPARE = 2
"""Candidates fetched per peak that can be kept, among which equal neighbouring pixels are one."""
_PIXELS_AT_ONCE = 2**26
"""Pixels of all maps that refinement searches at once; they take several times their 256 MiB."""


@dataclass(frozen=True, eq=False)
class Maps:
    """Maps of B images at the size of their input, on one device.

    Attributes:
        heat: (B, K, H, W) float32.
        tags: (B, K, H, W, T) float32.
    """

    heat: Tensor
    tags: Tensor


@dataclass(frozen=True, eq=False)
class Candidates:
    """Local maxima of a batch, still on the device, highest first.

    Attributes:
        values: (B, K, L); -inf where there are fewer.
        places: (B, K, L) flat indices into the map.
        tags: (B, K, L, T).
        totals: (B, K) number of local maxima, which may exceed L.
        finite: () whether all maps are finite.
    """

    values: Tensor
    places: Tensor
    tags: Tensor
    totals: Tensor
    finite: Tensor


@dataclass(frozen=True, eq=False)
class Detections:
    """The peaks of one image: for each keypoint values (N,), flat places (N,) and tags (N, T)."""

    values: list[Floats]
    places: list[Integers]
    tags: list[Floats]


def find_candidates(maps: Maps, settings: InferenceSettings) -> Candidates:
    """Find the local maxima of a batch; does not wait for the device."""
    heat = maps.heat
    side = settings.nms_kernel
    highest = functional.max_pool2d(heat, side, 1, side // 2)
    above = (heat == highest) & (heat > settings.detection_threshold)
    most = min(_SPARE * settings.max_people + 1, heat.shape[2] * heat.shape[3])
    values, places = heat.masked_fill(~above, -torch.inf).flatten(2).topk(most, dim=2)
    index = places[..., None].expand(-1, -1, -1, maps.tags.shape[-1])
    tags = maps.tags.flatten(2, 3).gather(2, index)
    finite = torch.isfinite(heat).all() & torch.isfinite(maps.tags).all()
    return Candidates(values, places, tags, above.flatten(2).sum(dim=2), finite)


def detections(maps: Maps, candidates: Candidates, settings: InferenceSettings) -> list[Detections]:
    """Return the peaks of each image, as ``peaks`` finds them.

    Args:
        maps: Read again only where equal pixels leave the order of the candidates open.
        candidates: Of the same batch.
        settings: How images become people.
    """
    values, tags = candidates.values.cpu().numpy(), candidates.tags.cpu().numpy()
    places, totals = candidates.places.cpu().numpy(), candidates.totals.cpu().numpy()
    equal = ((values[..., 1:] == values[..., :-1]) & np.isfinite(values[..., 1:])).any(axis=2)
    counts = np.minimum(totals, settings.max_people)
    of_batch = []
    for b in range(len(values)):
        of_image = Detections([], [], [])
        for k in range(values.shape[1]):
            chosen = slice(counts[b, k])
            own = values[b, k, chosen], places[b, k, chosen], tags[b, k, chosen]
            if equal[b, k]:
                own = _with_ties(maps, b, k, settings)
            of_image.values.append(own[0])
            of_image.places.append(own[1])
            of_image.tags.append(own[2])
        of_batch.append(of_image)
    return of_batch


def _with_ties(maps: Maps, b: int, k: int, settings: InferenceSettings) -> tuple[Floats, Integers, Floats]:
    """The peaks of a map with equal pixels, computed on the CPU."""
    heat = maps.heat[b, k].cpu().numpy()
    places = peaks(heat, settings.max_people, settings.detection_threshold, settings.nms_kernel)
    index = torch.from_numpy(places).to(maps.tags.device)
    return heat.ravel()[places], places, maps.tags[b, k].flatten(0, 1)[index].cpu().numpy()


def best_places(maps: Maps, images: Integers, keypoints: Integers, means: Floats) -> tuple[Integers, Floats]:
    """Return the place (N,) of the highest heat minus rounded tag distance, and the heat there, of N searches.

    Args:
        maps: The batch.
        images: (N,) image of each search.
        keypoints: (N,) keypoint of each search.
        means: (N, T) mean tag of each search's person.
    """
    device, size = maps.heat.device, maps.heat.shape[2] * maps.heat.shape[3]
    step = max(1, _PIXELS_AT_ONCE // size)
    pixels = torch.arange(size, device=device)
    all_places, all_heights = [], []
    for start in range(0, len(images), step):
        part = slice(start, start + step)
        b, k = (torch.from_numpy(index[part]).to(device) for index in (images, keypoints))
        away = maps.tags[b, k].flatten(1, 2) - torch.from_numpy(means[part]).to(device)[:, None]
        heat = maps.heat[b, k].flatten(1)
        scores = heat - _rounded_norm(away)
        places = torch.where(scores == scores.amax(dim=1, keepdim=True), pixels, size).amin(dim=1)
        all_places.append(places)
        all_heights.append(heat.gather(1, places[:, None])[:, 0])
    return torch.cat(all_places).cpu().numpy(), torch.cat(all_heights).cpu().numpy()


def _rounded_norm(away: Tensor) -> Tensor:
    """Euclidean norm over the last axis, rounded to whole numbers, in the order of ``refinement``'s operations."""
    if away.shape[-1] == 1:
        return away[..., 0].abs().round()
    norm = away[..., 0].square()
    for i in range(1, away.shape[-1]):
        norm = norm + away[..., i].square()
    return norm.sqrt().round()


def surroundings(maps: Maps, images: Integers, keypoints: Integers, x: Integers, y: Integers) -> Floats:
    """Return the heat (N, 5, 5) around N positions, moved inwards where that would leave the map.

    The middle pixel is at ``x - corner_x``, ``y - corner_y`` of :func:`corners`.
    """
    height, width = maps.heat.shape[2:]
    offsets = torch.arange(2 * REACH + 1, device=maps.heat.device)
    b, k, top, left = (
        torch.from_numpy(index).to(maps.heat.device)
        for index in (images, keypoints, corners(y, height), corners(x, width))
    )
    rows = top[:, None, None] + offsets[:, None]
    columns = left[:, None, None] + offsets
    return np.asarray(maps.heat[b[:, None, None], k[:, None, None], rows, columns].cpu().numpy(), np.float32)


def corners(positions: Integers, size: int) -> Integers:
    """First row or column of the pixels around each position in a map of ``size`` rows or columns."""
    return np.clip(positions - REACH, 0, max(0, size - 1 - 2 * REACH))
