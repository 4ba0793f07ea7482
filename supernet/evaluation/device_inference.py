"""Inference on a GPU that does not wait: maps are read on the device, and only detections cross to the CPU.

Three batches are under way at a time: while the device runs the network on one, processes match the people of the
batch before, and threads load the images of the next. People equal those of ``PoseEstimator.on_dataset``.
"""

import multiprocessing
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from supernet.errors import UserError
from supernet.evaluation.device_maps import (
    Candidates,
    Detections,
    Maps,
    best_places,
    corners,
    detections,
    find_candidates,
    surroundings,
)
from supernet.pose.data.pose_dataset import PoseDataset
from supernet.pose.grouping import match
from supernet.pose.inference import PoseEstimator, PosePredictions, Progress, ResizedImage
from supernet.pose.metrics.stage_times import StageTimes
from supernet.pose.multiscale_flip import combined, run
from supernet.pose.subpixel import fitted_tops, quarter_pixels

MATCHERS = 4
"""Processes that match people at most: each takes about 2 ms per image, and forking one takes longer."""

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Matched = tuple[Integers, Floats]
"""Numbers of the detections (P, K), -1 for none, and mean tags (P, T)."""


@dataclass(eq=False)
class _Batch:
    """A batch on its way: its images, its maps on the device, and what is known of its people."""

    images: list[ResizedImage]
    maps: Maps
    candidates: Candidates
    detections: list[Detections]
    matches: "list[Future[Matched]]"


def predict_on_device(
    num_workers: int,
    estimator: PoseEstimator,
    dataset: PoseDataset,
    num_images: int | None = None,
    progress: Progress | None = None,
) -> list[PosePredictions]:
    """Return the people of each image of a data set, in its order.

    Args:
        num_workers: Threads that load images, and processes that match people.
        estimator: Its network is on a device, which may be the CPU.
        dataset: Where the images come from.
        num_images: Only this many images from the start; all by default.
        progress: Called with (images done, images in all).

    Raises:
        UserError: As ``PoseEstimator.stream``.
    """
    total = len(dataset) if num_images is None else min(num_images, len(dataset))
    predictions: dict[int, PosePredictions] = {}
    with _matchers(num_workers) as matchers, ThreadPoolExecutor(num_workers) as loaders:
        images = _loaded(estimator, dataset, total, loaders)
        for index, people in _stream(estimator, images, matchers):
            predictions[index] = people
            if progress is not None:
                progress(len(predictions), total)
    return [predictions[index] for index in range(total)]


@contextmanager
def _matchers(num_workers: int) -> Iterator[Executor]:
    """Processes that match people; they are forked, so they need no start, and use neither PyTorch nor the device."""
    if num_workers > 1 and "fork" in multiprocessing.get_all_start_methods():
        with ProcessPoolExecutor(min(num_workers, MATCHERS), multiprocessing.get_context("fork")) as pool:
            yield pool
    else:
        with ThreadPoolExecutor(1) as pool:
            yield pool


def _loaded(
    estimator: PoseEstimator, dataset: PoseDataset, total: int, loaders: ThreadPoolExecutor
) -> Iterator[ResizedImage]:
    """Yield the images in order, resized; threads are at most two batches ahead."""
    ahead: deque[Future[tuple[ResizedImage, StageTimes]]] = deque()
    for index in range(total + 2 * estimator.batch_size):
        if index < total:
            ahead.append(loaders.submit(_load, estimator, dataset, index))
        if ahead and index >= 2 * estimator.batch_size:
            image, times = ahead.popleft().result()
            estimator.times.add(times)
            yield image


def _load(estimator: PoseEstimator, dataset: PoseDataset, index: int) -> tuple[ResizedImage, StageTimes]:
    times = StageTimes()  # its own: threads must not add to the same
    with times.measure("loading"):
        return estimator.resized(index, dataset[index].image), times


def _stream(
    estimator: PoseEstimator, images: Iterable[ResizedImage], matchers: Executor
) -> Iterator[tuple[int, PosePredictions]]:
    """Yield the people of each image, batch by batch."""
    launched: _Batch | None = None
    matching: _Batch | None = None
    for images_of_batch in estimator.batches(images):
        following = _launched(estimator, images_of_batch)
        if launched is not None:
            _submit(estimator, launched, matchers)
        if matching is not None:
            yield from _finished(estimator, matching)
        launched, matching = following, launched
    if launched is not None:
        _submit(estimator, launched, matchers)
    for batch in (matching, launched):
        if batch is not None:
            yield from _finished(estimator, batch)


@torch.inference_mode()
def _launched(estimator: PoseEstimator, images: list[ResizedImage]) -> _Batch:
    """Start the network and the search for peaks on the device."""
    with estimator.times.measure("network"):
        # A GPU's library prepares every layer for every shape of input, which takes longer than the batch.
        missing = estimator.images_per_pass(images[0]) - len(images)
        inputs = estimator.inputs([*images, *missing * images[-1:]])
        whole = run(estimator.network, inputs, estimator.settings.flip_test)
        size = (inputs[1.0].shape[2], inputs[1.0].shape[3])
        outputs = {
            scale: [(low[: len(images)], high[: len(images)]) for low, high in copies]
            for scale, copies in whole.items()
        }
        maps = _stacked(combined(outputs, size, estimator.keypoints), len(images))
        return _Batch(images, maps, find_candidates(maps, estimator.settings), [], [])


def _stacked(maps: Iterable[tuple[Tensor, Tensor]], num: int) -> Maps:
    """Return the maps of ``num`` images together, each copied as soon as it is computed."""
    heat, tags = torch.empty(0), torch.empty(0)
    for number, (own_heat, own_tags) in enumerate(maps):
        if number == 0:
            heat, tags = (own.new_empty((num, *own.shape)) for own in (own_heat, own_tags))
        heat[number], tags[number] = own_heat, own_tags
    return Maps(heat, tags)


@torch.inference_mode()
def _submit(estimator: PoseEstimator, batch: _Batch, matchers: Executor) -> None:
    """Wait for the peaks of a batch, and give them to the processes that match people."""
    settings = estimator.settings
    with estimator.times.measure("network"):
        finite = bool(batch.candidates.finite)  # waits for the device
    if not finite:
        raise UserError("the maps hold values that are not finite; check the network's weights and calibration")
    with estimator.times.measure("transfer"):
        batch.detections = detections(batch.maps, batch.candidates, settings)
    options = (settings.max_people, settings.tag_threshold, settings.matching == "thresholded")
    batch.matches = [matchers.submit(_match, own.values, own.tags, *options) for own in batch.detections]


def _match(
    values: list[Floats], tags: list[Floats], max_people: int, tag_threshold: float, thresholded: bool
) -> Matched:
    return match(list(zip(values, tags, strict=True)), max_people, tag_threshold, thresholded)


@torch.inference_mode()
def _finished(estimator: PoseEstimator, batch: _Batch) -> Iterator[tuple[int, PosePredictions]]:
    """Add missing keypoints and move all within their pixels, on the device; return the people by image."""
    with estimator.times.measure("grouping"):
        people = [future.result() for future in batch.matches]
        places, values = zip(*map(_placed, batch.detections, people), strict=True)
        scores = [value.mean(axis=1) for value in values]
        if estimator.settings.refine:
            _refine(batch.maps, list(places), list(values), [means for _, means in people])
        poses = _poses(estimator, batch.maps, list(places), list(values))
    results = []
    for image, pose, score in zip(batch.images, poses, scores, strict=True):
        visible = pose[..., 2] > 0
        pose[visible, :2] = image.transform.to_image(pose[visible, :2])
        results.append((image.index, PosePredictions(pose, score)))
    return iter(results)


def _placed(detected: Detections, matched: Matched) -> tuple[Integers, Floats]:
    """Flat places (P, K), -1 for none, and values (P, K) of the matched detections."""
    numbers, _ = matched
    places, values = np.full(numbers.shape, -1, np.int64), np.zeros(numbers.shape, np.float32)
    for keypoint in range(numbers.shape[1]):
        has_it = numbers[:, keypoint] >= 0
        chosen = numbers[has_it, keypoint]
        places[has_it, keypoint] = detected.places[keypoint][chosen]
        values[has_it, keypoint] = detected.values[keypoint][chosen]
    return places, values


def _refine(maps: Maps, places: list[Integers], values: list[Floats], means: list[Floats]) -> None:
    """Add the keypoints that people lack to ``places`` and ``values``, in place; see ``refinement.complete``."""
    missing = [np.nonzero(own < 0) for own in places]
    if not sum(len(people) for people, _ in missing):
        return
    images = np.concatenate([np.full(len(people), number) for number, (people, _) in enumerate(missing)])
    keypoints = np.concatenate([own for _, own in missing])
    wanted = np.concatenate([own[people] for own, (people, _) in zip(means, missing, strict=True)])
    best, heights = best_places(maps, images, keypoints, wanted)
    for number, (people, own) in enumerate(missing):
        taken = heights[images == number] > 0
        places[number][people[taken], own[taken]] = best[images == number][taken]
        values[number][people[taken], own[taken]] = heights[images == number][taken]


def _poses(
    estimator: PoseEstimator, maps: Maps, places: list[Integers], values: list[Floats]
) -> list[npt.NDArray[np.float32]]:
    """Poses (P, K, 3) of each image in pixels of the input; see ``grouping.group``."""
    poses = [np.zeros((*own.shape, 3), np.float32) for own in places]
    visible = [np.nonzero(own >= 0) for own in places]
    flat = [own[shown] for own, shown in zip(places, visible, strict=True)]
    height, width = maps.heat.shape[2:]
    y, x = np.divmod(np.concatenate(flat), width)
    images = np.concatenate([np.full(len(own), number) for number, own in enumerate(flat)])
    moves = np.zeros((len(x), 2), np.float32)
    if estimator.settings.adjust and len(x):
        keypoints = np.concatenate([own for _, own in visible])
        around = surroundings(maps, images, keypoints, x, y)
        steps = quarter_pixels if estimator.settings.decoding == "published" else fitted_tops
        moves = steps(around, np.arange(len(x)), x - corners(x, width), y - corners(y, height))
    for number, (pose, shown, own) in enumerate(zip(poses, visible, values, strict=True)):
        mine = images == number
        pose[shown] = np.stack([x[mine] + 0.5 + moves[mine, 0], y[mine] + 0.5 + moves[mine, 1], own[shown]], axis=1)
    return poses
