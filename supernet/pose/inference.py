"""Finds people in whole images: resize, run the network, group its maps, return to image pixels."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from supernet.errors import UserError
from supernet.io.schema import check_number
from supernet.pose.data.pose_dataset import ImageId, PoseDataset
from supernet.pose.geometry import TOTAL_STRIDE, Transform, check_scales, normalise, resize_at_scales
from supernet.pose.grouping import GroupingOptions, Matching, check_options, group
from supernet.pose.keypoints import KeypointSet
from supernet.pose.metrics.stage_times import StageTimes
from supernet.pose.multiscale_flip import Network, combined, run
from supernet.pose.subpixel import Decoding

Image = npt.NDArray[np.uint8]

People = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
"""Poses (P, K, 3) and scores (P,), as :func:`~supernet.pose.grouping.group` returns them."""

Preprocess = Callable[[Tensor], Tensor]
"""Images (B, 3, H, W) uint8 RGB -> what a network takes: ``normalise``, unless the network does that itself."""

Progress = Callable[[int, int], None]
"""Called with (images done, images in all) after each image."""

CPU_PIXELS = 2**19
"""Pixels per pass on a CPU at most, unless one image has more: the maps of more do not fit into caches."""
DEVICE_SHARE = 1 / 32
"""Of a GPU's memory, for the maps of one pass; those of three passes are in use at a time, beside the network's own."""
_MAX_SIZE_DIVISOR = 1024
"""Pixels; an image is padded up to a multiple of ``size_divisor``."""


@dataclass(frozen=True)
class InferenceSettings:
    """How images become people.

    ``flip_test`` adds a mirrored copy and ``scales`` other sizes (``multiscale_flip.predict_maps``); ``size_divisor``
    is that of ``geometry.resized_size``; the other fields are those of ``grouping.group``.
    """

    flip_test: bool = False
    adjust: bool = True
    refine: bool = True
    max_people: int = 30
    detection_threshold: float = 0.1
    tag_threshold: float = 1.0
    nms_kernel: int = 5
    matching: Matching = "thresholded"
    size_divisor: int = 64
    scales: tuple[float, ...] = (1.0,)
    decoding: Decoding = "published"

    def __post_init__(self) -> None:
        """Raise UserError for a value out of range: now, not after hours of training."""
        thresholds = (self.max_people, self.detection_threshold, self.tag_threshold)
        check_options(*thresholds, self.nms_kernel, self.matching, self.decoding)
        if not TOTAL_STRIDE <= self.size_divisor <= _MAX_SIZE_DIVISOR or self.size_divisor % TOTAL_STRIDE:
            raise UserError(
                f"size_divisor must be a multiple of {TOTAL_STRIDE}, the network's total stride, and at most "
                f"{_MAX_SIZE_DIVISOR}, got {self.size_divisor}"
            )
        check_scales(self.scales, self.size_divisor)

    @property
    def grouping(self) -> GroupingOptions:
        """The options of ``grouping.group``."""
        return GroupingOptions(
            max_people=self.max_people,
            detection_threshold=self.detection_threshold,
            tag_threshold=self.tag_threshold,
            nms_kernel=self.nms_kernel,
            adjust=self.adjust,
            refine=self.refine,
            matching=self.matching,
            decoding=self.decoding,
        )


@dataclass(frozen=True, eq=False)
class PosePredictions:
    """The people found in one image.

    Attributes:
        poses: (P, K, 3) float32 as x, y in image pixels and the heatmap's value; all 0 for a keypoint not found.
        scores: (P,) float32.
    """

    poses: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]


@dataclass(frozen=True)
class PoseEstimator:
    """A network with all that finding people in images takes.

    Attributes:
        network: See ``Network``; on ``device``, in evaluation mode and calibrated.
        resolution: Short side of the input, px.
        keypoints: The K keypoints of the network.
        settings: How images become people.
        batch_size: Images of scale 1 per pass at most; of larger scales, as many fewer as they are larger; fewer of
            large images (``images_per_pass``).
        device: Where the network is.
        preprocess: See ``Preprocess``.
        check_calibration: Refuse a network whose batch-norm statistics were never computed. False runs it as it is, to
            show what calibration changes.
        times: Where the seconds of each stage are added.

    Raises:
        UserError: The network cannot take a scale at this resolution, or ``batch_size`` is below 1.
    """

    network: Network
    resolution: int
    keypoints: KeypointSet
    settings: InferenceSettings
    batch_size: int = 32
    device: torch.device | str = "cpu"
    preprocess: Preprocess = normalise
    check_calibration: bool = True
    times: StageTimes = field(default_factory=StageTimes, compare=False)

    def __post_init__(self) -> None:
        """Raise UserError for scales, a batch size or a flip test that cannot run."""
        check_scales(self.settings.scales, self.settings.size_divisor, self.resolution)
        check_number("batch_size", self.batch_size, least=1)
        check_mirroring(self.settings, self.keypoints)

    def __call__(self, images: Sequence[Image]) -> list[PosePredictions]:
        """Return the people of each image (H, W, 3) uint8 RGB, in the order of ``images``; raises as ``stream``."""
        predictions = dict(self.stream(images))
        return [predictions[index] for index in range(len(images))]

    def on_dataset(
        self, dataset: PoseDataset, num_images: int | None = None, progress: Progress | None = None
    ) -> list[PosePredictions]:
        """Return the people of each image of a data set, in its order; images are loaded as they are needed.

        Args:
            dataset: Where the images come from.
            num_images: Only this many images from the start; all by default.
            progress: See ``Progress``.

        Raises:
            UserError: As ``stream``.
        """
        total = len(dataset) if num_images is None else min(num_images, len(dataset))
        predictions: dict[int, PosePredictions] = {}
        for index, people in self.stream(self._loaded(dataset, range(total))):
            predictions[index] = people
            if progress is not None:
                progress(len(predictions), total)
        return [predictions[index] for index in range(total)]

    def stream(self, images: Iterable[Image]) -> Iterator[tuple[int, PosePredictions]]:
        """Yield (index, people) for each image as soon as its batch is full, so not in order.

        Images are taken one by one and wait, resized, until ``batch_size`` of one size have come; which images share a
        batch has no influence on the result beyond the network's own rounding.

        Args:
            images: Images (H, W, 3) uint8 RGB of any sizes.

        Raises:
            UserError: The network is in training mode or not calibrated, or an image or a map is invalid.
        """
        numbered = (self._timed_resized(index, image) for index, image in enumerate(images))
        for batch in self.batches(numbered):
            yield from self._run_batch(batch)

    @property
    def largest_batch(self) -> int:
        """Images per pass at most, of the scales that there are."""
        return max(1, int(self.batch_size / max(self.settings.scales) ** 2))

    def images_per_pass(self, image: "ResizedImage") -> int:
        """Return how many images of this size a pass takes at most; always at least one.

        On a CPU, they have ``CPU_PIXELS``. On a GPU, the maps of a pass at the size of the input take at most
        ``DEVICE_SHARE`` of the memory.
        """
        sizes = [math.prod(copy.shape[:2]) for copy in image.copies]
        if torch.device(self.device).type == "cpu":
            most = CPU_PIXELS // max(sizes)
        else:
            values = self.keypoints.num * (2 + self.settings.flip_test) * sizes[self.settings.scales.index(1)]
            most = int(DEVICE_SHARE * self._device_bytes) // (4 * values)
        return max(1, min(self.largest_batch, most))

    @cached_property
    def _device_bytes(self) -> int:
        """The memory of the device, which is no CPU."""
        device = torch.device(self.device)
        if device.type == "mps":
            return torch.mps.recommended_max_memory()
        return torch.cuda.get_device_properties(device).total_memory

    def resized(self, index: int, image: Image) -> "ResizedImage":
        """Resize an image for the network at each scale; raises UserError if it is none."""
        settings = self.settings
        resized, transform = resize_at_scales(image, self.resolution, settings.size_divisor, settings.scales)
        return ResizedImage(index, resized, transform)

    def _timed_resized(self, index: int, image: Image) -> "ResizedImage":
        with self.times.measure("loading"):
            return self.resized(index, image)

    def batches(self, images: Iterable["ResizedImage"]) -> Iterator[list["ResizedImage"]]:
        """Yield batches of images of one size, each as soon as it is full; raises UserError as ``stream``."""
        self._check_network()
        waiting: dict[tuple[int, ...], list[ResizedImage]] = {}
        for image in images:
            shape = image.copies[0].shape
            batch = waiting.setdefault(shape, [])
            batch.append(image)
            if len(batch) == self.images_per_pass(image):
                yield waiting.pop(shape)
        yield from waiting.values()

    def _loaded(self, dataset: PoseDataset, indices: Iterable[int]) -> Iterator[Image]:
        for index in indices:
            with self.times.measure("loading"):
                image = dataset[index].image
            yield image

    def _check_network(self) -> None:
        """Raise UserError for a network in training mode, or one that was never calibrated."""
        if not isinstance(self.network, torch.nn.Module):
            return
        if self.network.training:
            raise UserError(
                "the network is in training mode, so its batch norm would mix images; call its eval() first"
            )
        if not self.check_calibration:
            return
        for name, layer in self.network.named_modules():
            if isinstance(layer, torch.nn.BatchNorm2d) and layer.num_batches_tracked == 0:
                raise UserError(f"the statistics of batch norm {name} were never computed; calibrate the network first")

    def _run_batch(self, batch: list["ResizedImage"]) -> list[tuple[int, PosePredictions]]:
        # A list, not a generator: inference mode must not stay on while a generator waits in its caller.
        results = []
        with torch.inference_mode():
            for image, (poses, scores) in zip(batch, self._people(self.inputs(batch)), strict=True):
                visible = poses[..., 2] > 0
                poses[visible, :2] = image.transform.to_image(poses[visible, :2])
                results.append((image.index, PosePredictions(poses, scores)))
        return results

    def _people(self, inputs: Mapping[float, Tensor]) -> Iterator[People]:
        """Run a batch, given at each scale; yield the people of each image in pixels of the input at scale 1."""
        with self.times.measure("network"):
            outputs = run(self.network, inputs, self.settings.flip_test)
        size = (inputs[1.0].shape[2], inputs[1.0].shape[3])
        with self.times.measure("grouping"):
            for heatmaps, tags in combined(outputs, size, self.keypoints):
                yield group(heatmaps, tags, **self.settings.grouping)

    def inputs(self, batch: Sequence["ResizedImage"]) -> dict[float, Tensor]:
        """Return by scale the copies of a batch, preprocessed on the device: (B, 3, H * scale, W * scale)."""
        with self.times.measure("network"):
            return {
                scale: self._inputs([image.copies[number] for image in batch])
                for number, scale in enumerate(self.settings.scales)
            }

    def _inputs(self, images: list[Image]) -> Tensor:
        """Images (H, W, 3) of one size, preprocessed on the device: (B, 3, H, W)."""
        # Images lie in memory as (B, H, W, 3), which is channels_last already.
        return self.preprocess(torch.from_numpy(np.stack(images)).to(self.device).permute(0, 3, 1, 2))


@dataclass(frozen=True, eq=False)
class ResizedImage:
    """An image by its index, with a copy for each scale, waiting for others of its size; and the way back."""

    index: int
    copies: tuple[Image, ...]
    transform: Transform


def check_mirroring(settings: InferenceSettings, keypoints: KeypointSet) -> None:
    """Raise UserError if mirrored images are asked for and the mirror image of a keypoint is unknown."""
    if settings.flip_test and not keypoints.mirrors:
        raise UserError(
            f"flip_test mirrors images, but the mirror images of {keypoints.unpaired_text} are unknown; set "
            "dataset.keypoints.flip_pairs or flip_test=false"
        )


def as_results(predictions: PosePredictions, image_id: ImageId, category_id: int | str = 1) -> list[dict[str, Any]]:
    """Return the people of one image as COCO results.

    Returns:
        One dictionary per person: ``image_id``, ``category_id``, ``keypoints`` (3K numbers: x, y in image pixels, and
        1.0, as some evaluators skip 0) and ``score``.
    """
    results = []
    for pose, score in zip(predictions.poses, predictions.scores, strict=True):
        flat = np.concatenate([pose[:, :2], np.ones((len(pose), 1), np.float32)], axis=1).ravel().astype(float)
        place = {"image_id": image_id, "category_id": category_id}
        results.append({**place, "keypoints": flat.tolist(), "score": float(score)})
    return results
