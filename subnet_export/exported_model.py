"""An exported model as a value: the network and what is needed to use it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from subnet_export.deployment.runtimes import Runtime
from supernet.arch import Arch
from supernet.litepose import LitePose
from supernet.pose.geometry import normalise
from supernet.pose.inference import InferenceSettings, PosePredictions, Preprocess, estimate
from supernet.pose.keypoints import KeypointSet
from supernet.pose.multiscale_flip import Network
from supernet.pose.training.objective import PoseObjective


@dataclass(frozen=True)
class Measurement:
    """AP and its companions on the first ``num_images`` images of a split of the model's data set."""

    split: str
    num_images: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class Calibration:
    """Source of the batch-norm statistics: images of a split, spread evenly, at this resolution (short side, px).

    Attributes:
        image_ids: Of these images, in the order they were used.
        seed: That the data set draws its images from; None if they come from files.
        AP_before: With the statistics that the network had before, on the first ``num_compared`` images of the split
            that the model is measured on.
        AP_after: On the same images with these statistics.
    """

    split: str
    num_images: int
    resolution: int
    image_ids: tuple[int, ...] = ()
    seed: int | None = None
    AP_before: float | None = None
    AP_after: float | None = None
    num_compared: int = 0


@dataclass(frozen=True)
class Origin:
    """The search space of the supernet that the weights were cut from, and the steps they were trained on their own.

    ``supernet_sha256`` is that of the file of the supernet.
    """

    space: str
    space_digest: str
    num_finetune_steps: int = 0
    supernet_sha256: str | None = None


@dataclass(frozen=True)
class FormatRecord:
    """One more way in which the network was written, and how it was found to agree.

    Attributes:
        files: SHA-256 of each file, by name.
        takes: What goes in (:mod:`subnet_export.deployment.deployed_network`); "state" for a file of weights.
        error: Root mean square difference of its maps from the network's, in standard deviations of the network's.
        AP: On the first ``num_images`` test images.
        AP_network: Of the network on the same images.
        in_float: Patterns of the names of layers that a quantised file leaves in float.
    """

    files: dict[str, str]
    takes: str
    error: float
    AP: float
    AP_network: float
    num_images: int
    in_float: tuple[str, ...] = ()


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one square image at the model's resolution: median, 90th percentile and least of ``runs``."""

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
    """A calibrated network with what is needed to use it.

    Attributes:
        network: In evaluation mode.
        keypoints: The K keypoints it predicts.
        settings: How its maps become people, as measured.
        objective: What it was trained for, and is fine-tuned for.
        dataset: Plain description of its data set (:func:`supernet.pose.datasets.build`).
        calibration: Origin of its batch-norm statistics.
        origin: Where its weights come from.
        measurement: How good it is.
        costs: ``params``, and ``macs`` for one square image at its resolution (:func:`costs`).
        formats: Other ways in which it was written, by name (:mod:`subnet_export.deployment.formats`).
        latencies: How fast it was found to run.
        runtime: Runs the network instead of PyTorch, where a model was loaded in another format.
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
    runtime: Runtime | None = None

    @property
    def arch(self) -> Arch:
        """The network's architecture."""
        return self.network.arch

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    def predict(self, image: npt.NDArray[np.uint8], min_score: float = 0.0) -> PosePredictions:
        """Find the people in one image.

        Args:
            image: (H, W, 3) uint8, RGB, of any size.
            min_score: People of a lower score are left out.

        Returns:
            Poses (P, K, 3) as x, y in pixels of ``image`` and a value, 0 for a keypoint not found; scores (P,).

        Raises:
            UserError: ``image`` is not such an array.
        """
        return self.predict_all([image], min_score)[0]

    def predict_all(
        self,
        images: Sequence[npt.NDArray[np.uint8]],
        min_score: float = 0.0,
        on_part: Callable[[str], None] = lambda _: None,
    ) -> list[PosePredictions]:
        """Find the people in several images, those of one input size in one pass.

        Args:
            images: As for :meth:`predict`.
            min_score: People of a lower score are left out.
            on_part: Called with "resize", "network" or "grouping" when that part of the work begins.

        Returns:
            The people of each image.
        """
        runs: Network = self.network if self.runtime is None else self.runtime
        prepare: Preprocess = normalise if self.runtime is None else identity
        device = self.device if self.runtime is None else "cpu"

        def network(inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            on_part("network")
            outputs = runs(inputs)
            if inputs.is_cuda:
                torch.cuda.synchronize(inputs.device)  # or its time would count as grouping
            on_part("grouping")
            return outputs

        on_part("resize")
        resolution, batch_size = self.arch.resolution, max(1, len(images))
        found = estimate(
            network,
            list(images),
            resolution,
            self.keypoints,
            self.settings,
            batch_size,
            device=device,
            prepare=prepare,
        )
        kept = [people.scores >= min_score for people in found]
        return [
            PosePredictions(people.poses[each], people.scores[each]) for people, each in zip(found, kept, strict=True)
        ]


def identity(images: Tensor) -> Tensor:
    """Return ``images``, for networks that take them so."""
    return images


def costs(arch: Arch, num_keypoints: int) -> dict[str, int]:
    """Count trainable parameters, and multiply-adds of one square image as PyTorch performs them."""
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        network = LitePose(arch, num_keypoints).eval()
        network(torch.empty(1, 3, arch.resolution, arch.resolution))
    return {"params": sum(p.numel() for p in network.parameters()), "macs": counter.get_total_flops() // 2}
