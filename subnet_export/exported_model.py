"""An exported model as a value: the network and what is needed to use it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from subnet_export.decoding.description import Gives
from subnet_export.decoding.detections import DetectionEstimator, Detector
from subnet_export.deployment.formats import LEAST_TELLING_AP
from subnet_export.deployment.runtimes import Runtime
from subnet_export.prediction.people import ImageLike, People, as_image, as_images
from supernet.arch import Arch
from supernet.checkpoints.lineage import Lineage
from supernet.evaluation.subnet_estimator import subnet_estimator
from supernet.io.schema import check_number
from supernet.litepose import LitePose
from supernet.pose.inference import InferenceSettings, PoseEstimator, PosePredictions
from supernet.pose.keypoints import KeypointSet
from supernet.pose.multiscale_flip import Network
from supernet.pose.training.objective import PoseObjective


@dataclass(frozen=True)
class Measurement:
    """Metrics on the first ``num_images`` images of a split of the model's data set."""

    split: str
    num_images: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class Calibration:
    """Source of the batch-norm statistics: images of a split, spread evenly, at this resolution (short side, px).

    Attributes:
        image_ids: Ids of these images, in the order they were used.
        seed: Seed from which the data set draws its images; None if they come from files.
        AP_before: AP before calibration, on the first ``num_compared`` images of the split that the model is measured
            on.
        AP_after: AP on the same images after calibration.
        images: What the images of the split are, in words; None from an earlier release. Fine-tuning on another data
            set that improves nothing keeps the statistics, so it may not be the data set of the model.
    """

    split: str
    num_images: int
    resolution: int
    image_ids: tuple[int, ...] = ()
    seed: int | None = None
    AP_before: float | None = None
    AP_after: float | None = None
    num_compared: int = 0
    images: str | None = None


@dataclass(frozen=True)
class Origin:
    """Where weights come from: the supernet's search space, and the steps of fine-tuning after extraction.

    ``supernet_sha256`` is the checksum of the supernet's file; ``trained_on`` are the data sets of all training. A
    checkpoint of the published code comes from no supernet: its ``space_digest`` is "".
    """

    space: str
    space_digest: str
    num_finetune_steps: int = 0
    supernet_sha256: str | None = None
    trained_on: Lineage = ()


@dataclass(frozen=True)
class FormatRecord:
    """Another format that the network was exported in, and how well it agrees with the network.

    Attributes:
        files: SHA-256 of each file, by name.
        takes: Input type (:mod:`subnet_export.deployment.deployed_network`); "state" for a file of weights.
        error: Root mean square difference of its maps from the network's, in standard deviations of the network's. None
            if the file was not run, because nothing here runs it; then only its description was checked.
        AP: AP on the first ``num_images`` test images; None if it was not measured.
        AP_network: AP of the network on the same images; None if it was not measured.
        num_images: How many images; 0 if AP was not measured.
        in_float: Patterns of the names of layers that a quantised file leaves in float.
        largest_value: Largest magnitude that a file with 16-bit floats holds on the calibration images.
        gives: Outputs of its graph, "maps" or "detections"; then ``error`` is the difference of the detections' values,
            and AP also differs because keypoints that a person lacks are filled in from the detections alone.
        max_side: Longest side of an image that a file takes, in px; None if it has no limit.
        images: The data set of these images, in words, if the model itself was measured on another one.
    """

    files: dict[str, str]
    takes: str
    error: float | None
    AP: float | None
    AP_network: float | None
    num_images: int
    in_float: tuple[str, ...] = ()
    largest_value: float | None = None
    gives: Gives = "maps"
    max_side: int | None = None
    images: str | None = None

    def ap_difference(self) -> float | None:
        """AP of the file minus that of the network; None where the network's is too near 0 to show anything."""
        if self.AP is None or self.AP_network is None or self.AP_network < LEAST_TELLING_AP:
            return None
        return self.AP - self.AP_network

    def describe(self) -> dict[str, Any]:
        """Return the record as plain values, with the difference of AP and what was checked."""
        if self.error is None:
            checked = "description"
        elif self.takes == "state":
            checked = "weights"
        else:
            checked = self.gives if self.AP is None else f"{self.gives} and AP"
        return {**asdict(self), "AP_difference": self.ap_difference(), "checked": checked}


@dataclass(frozen=True)
class Latency:
    """Milliseconds for one square image at the model's resolution: median, 90th percentile and minimum of ``runs``.

    ``processor`` is the name of the processor or GPU.
    """

    library: str
    precision: str
    threads: int
    processor: str
    p50_ms: float
    p90_ms: float
    least_ms: float
    runs: int


@dataclass(frozen=True)
class ExportedModel:
    """A calibrated network with all that using it takes.

    Attributes:
        network: In evaluation mode.
        keypoints: The K keypoints it predicts.
        settings: How its maps become people, as measured.
        objective: The loss it was trained with, and is fine-tuned with.
        dataset: Plain description of its data set (:func:`supernet.pose.datasets.build`).
        calibration: Origin of its batch-norm statistics.
        origin: Where its weights come from.
        measurement: Its metrics.
        costs: ``params``, and ``macs`` for one square image at its resolution
            (:func:`supernet.costs.analytic.params_and_macs`).
        formats: Other formats it was exported in, by name (:mod:`subnet_export.deployment.formats`).
        latencies: Its measured latencies.
        category_id: Id of the category of people in its data set, for results that are compared with annotations.
        license: Licence of its weights as hubs name it; "unknown" where its owner has not said it.
        runtime: Runs the network instead of PyTorch, where a model was loaded in another format.
        detector: Runs the network with its decoding, where a model was loaded in a format whose graph decodes.
        folder: Where it was read from; None for one that is not in a folder yet.
    """

    network: LitePose
    keypoints: KeypointSet
    settings: InferenceSettings
    objective: PoseObjective
    dataset: dict[str, Any]
    calibration: Calibration
    origin: Origin
    measurement: Measurement
    costs: dict[str, int]
    formats: dict[str, FormatRecord] = field(default_factory=dict)
    latencies: tuple[Latency, ...] = ()
    category_id: int | str = 1
    license: str = "unknown"
    runtime: Runtime | None = None
    detector: Detector | None = None
    folder: Path | None = field(default=None, compare=False)

    @property
    def arch(self) -> Arch:
        """The network's architecture."""
        return self.network.arch

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    def estimator(self, batch_size: int = 32) -> PoseEstimator:
        """Return an estimator that runs the network, or the runtime or the detector where there is one."""
        resolution = self.arch.resolution
        if self.detector is not None:
            return DetectionEstimator(
                cast(Network, self.detector), resolution, self.keypoints, self.settings, batch_size, preprocess=identity
            )
        if self.runtime is None:
            return subnet_estimator(self.network, self.keypoints, self.settings, batch_size)
        return PoseEstimator(self.runtime, resolution, self.keypoints, self.settings, batch_size, preprocess=identity)

    def __call__(self, image: ImageLike, min_score: float = 0.2) -> People:
        """Find the people in one image, with all that showing and saving them takes.

        Args:
            image: A file, turned as its EXIF orientation says; (H, W, 3) uint8, RGB; or an image of Pillow.
            min_score: People with a lower score are left out.

        Raises:
            UserError: The file cannot be read, ``image`` is something else, or ``min_score`` is not from 0 to 1.
        """
        pixels = as_image(image)
        people = self.predict(pixels, min_score)
        threshold = self.settings.detection_threshold
        return People(pixels, people.poses, people.scores, self.keypoints, threshold, self.category_id)

    def predict(self, image: ImageLike, min_score: float = 0.0) -> PosePredictions:
        """Find the people in one image, as arrays.

        Args:
            image: As for calling the model; of any size.
            min_score: People with a lower score are left out.

        Returns:
            Poses (P, K, 3) as x, y in pixels of ``image`` and a value, 0 for a keypoint not found; scores (P,).

        Raises:
            UserError: As calling the model.
        """
        return self.predict_all([image], min_score)[0]

    def predict_all(
        self,
        images: Iterable[ImageLike],
        min_score: float = 0.0,
        on_part: Callable[[str], None] = lambda _: None,
        batch_size: int = 32,
    ) -> list[PosePredictions]:
        """Find the people in several images; images of one input size share a pass.

        Args:
            images: As for :meth:`predict`, read one by one, so that a generator keeps few of them in memory.
            min_score: People with a lower score are left out.
            on_part: Called with "resize", "network" or "grouping" when that part of the work begins.
            batch_size: Images per pass at most; fewer of large images.

        Returns:
            The people of each image.

        Raises:
            UserError: As :meth:`predict`, or ``images`` is one image.
        """
        check_number("min_score", min_score, least=0, most=1)
        estimator = self.estimator(batch_size)

        def resized() -> Iterator[npt.NDArray[np.uint8]]:
            for image in as_images(images):
                on_part("resize")
                yield image

        def network(inputs: Tensor) -> tuple[Tensor, Tensor]:
            on_part("network")
            outputs = estimator.network(inputs)
            if inputs.is_cuda:
                torch.cuda.synchronize(inputs.device)  # or its time would count as grouping
            on_part("grouping")
            return outputs

        found = dict(replace(estimator, network=network).stream(resized()))
        kept = [(found[index], found[index].scores >= min_score) for index in range(len(found))]
        return [PosePredictions(people.poses[is_kept], people.scores[is_kept]) for people, is_kept in kept]


def identity(images: Tensor) -> Tensor:
    """Return ``images``: the preprocessing of networks that take uint8 images."""
    return images
