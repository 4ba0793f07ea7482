"""Measures images per second through the whole pipeline: decode, resize, network, grouping."""

import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from subnet_export.benchmarking.latency import WARM_UP
from subnet_export.deployment.runtimes import Runtime
from supernet.compute.device import synchronise
from supernet.pose.geometry import resize_for_network
from supernet.pose.grouping import group
from supernet.pose.inference import InferenceSettings
from supernet.pose.keypoints import KeypointSet
from supernet.pose.multiscale_flip import predict_maps
from supernet.pose.synthetic.dataset import SyntheticPeople
from supernet.pose.training.targets import heatmaps

STEPS = ("decode", "resize", "network", "grouping")
CAMERA_SIZE = (640, 480)


@dataclass(frozen=True)
class Throughput:
    """Speed of the whole pipeline on one JPEG after the other.

    Attributes:
        frames_per_second: Inverse of the median time of an image, from the file's bytes in memory to people in pixels.
        median_ms: Median time of each of ``STEPS``.
        size: Width and height of the images, px.
        num_images: Number of images.
        num_people: Number of people found in them.
    """

    frames_per_second: float
    median_ms: dict[str, float]
    size: tuple[int, int]
    num_images: int
    num_people: int


Frame = tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]
"""A JPEG's bytes, and the people in it (P, K, 3) as x, y in its pixels and visibility."""


def draw_frames(keypoints: KeypointSet, num_images: int) -> list[Frame]:
    """Return JPEG images of built-in people."""
    people = SyntheticPeople(keypoints, num_images, 0, *CAMERA_SIZE)
    examples = (people[index] for index in range(num_images))
    return [
        (np.asarray(cv2.imencode(".jpg", cv2.cvtColor(example.image, cv2.COLOR_RGB2BGR))[1], np.uint8), example.people)
        for example in examples
    ]


def measure_throughput(
    runtime: Runtime,
    resolution: int,
    keypoints: KeypointSet,
    settings: InferenceSettings,
    frames: Sequence[Frame],
    true_maps: bool,
) -> Throughput:
    """Time decoding, resizing, network and grouping, without the mirrored copy of a flip test.

    Args:
        runtime: The network.
        resolution: Short side of its input, px.
        keypoints: The K keypoints of the network.
        settings: How maps become people.
        frames: The images; the first is also used to warm up.
        true_maps: Group the maps that a perfect network would give instead of the network's own. For untrained weights,
            whose maps hold no people or far too many, so that the time of grouping would mislead.
    """
    settings = replace(settings, flip_test=False)
    times: list[tuple[float, ...]] = []
    num_people = 0
    for index in range(-WARM_UP, len(frames)):
        encoded, people = frames[max(index, 0)]
        started = time.perf_counter()
        bgr = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
        assert bgr is not None
        image = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
        decode_end = time.perf_counter()
        resized, transform = resize_for_network(image, resolution, settings.size_divisor)
        resize_end = time.perf_counter()
        inputs = torch.from_numpy(resized)[None].permute(0, 3, 1, 2)
        outputs = runtime(inputs)
        synchronise(outputs[0].device)
        network_end = time.perf_counter()
        if true_maps:
            on_input = people.copy()
            on_input[..., :2] = transform.to_input(on_input[..., :2])
            outputs = perfect_maps(on_input, (resized.shape[0], resized.shape[1]))
        grouping_start = time.perf_counter()
        computed = functools.partial(_computed, outputs)
        ((heat, tags),) = predict_maps(computed, {1.0: inputs}, keypoints, flip_test=False)
        poses, _ = group(heat, tags, **settings.grouping)
        ended = time.perf_counter()
        if index >= 0:
            times.append(
                (decode_end - started, resize_end - decode_end, network_end - resize_end, ended - grouping_start)
            )
            num_people += len(poses)
    medians = 1e3 * np.median(times, axis=0)
    total = float(np.median(np.sum(times, axis=1)))
    steps = {name: round(float(value), 3) for name, value in zip(STEPS, medians, strict=True)}
    return Throughput(round(1 / total, 2), steps, CAMERA_SIZE, len(frames), num_people)


def _computed(outputs: tuple[Tensor, Tensor], _: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``outputs``: a network whose outputs were computed before."""
    return outputs


def perfect_maps(people: npt.NDArray[np.floating], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the maps of a perfect network: a Gaussian at every labelled keypoint, and a distinct tag per person.

    Args:
        people: (P, K, 3) as x, y in input pixels and visibility.
        size: Height H and width W of the input.

    Returns:
        ``low`` (1, 2K, H/4, W/4) and ``high`` (1, K, H/2, W/2).
    """
    at = torch.from_numpy(np.asarray(people, np.float32))[None]
    at_4, at_2 = (at * torch.tensor([1 / stride, 1 / stride, 1.0]) for stride in (4, 2))
    small = (size[0] // 4, size[1] // 4)
    heat = heatmaps(at_4, small)
    # The tag at a pixel is that of the person whose Gaussian is highest there; where all are 0, that of the first.
    by_person = [heatmaps(at_4[:, index : index + 1], small) for index in range(len(people))]
    tags = torch.stack(by_person).argmax(dim=0).float() * 2 if by_person else torch.zeros_like(heat)
    return torch.cat([heat, tags], dim=1), heatmaps(at_2, (size[0] // 2, size[1] // 2))
