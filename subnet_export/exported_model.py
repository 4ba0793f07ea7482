"""An exported model as a value: the network and what is needed to use it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.flop_counter import FlopCounterMode

from supernet.arch import Arch
from supernet.litepose import LitePose
from supernet.pose.inference import InferenceSettings, People, estimate
from supernet.pose.keypoints import KeypointSet
from supernet.pose.objective import PoseObjective


@dataclass(frozen=True)
class Measurement:
    """AP and its companions on the first ``num_images`` pictures of a split of the model's data set."""

    split: str
    num_images: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class Calibration:
    """Source of the batch-norm statistics: pictures of a split, spread evenly, at this resolution (short side, px)."""

    split: str
    num_images: int
    resolution: int


@dataclass(frozen=True)
class Origin:
    """The search space of the supernet that the weights were cut from, and the steps they were trained on their own."""

    space: str
    space_digest: str
    num_finetune_steps: int = 0


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
        costs: ``params``, and ``macs`` for one square picture at its resolution (:func:`costs`).
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

    @property
    def arch(self) -> Arch:
        """The network's architecture."""
        return self.network.arch

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    def predict(self, image: npt.NDArray[np.uint8], min_score: float = 0.0) -> People:
        """Find the people in one picture.

        Args:
            image: (H, W, 3) uint8, RGB, of any size.
            min_score: People of a lower score are left out.

        Returns:
            Poses (P, K, 3) as x, y in pixels of ``image`` and a value, 0 for a keypoint not found; scores (P,).

        Raises:
            UserError: ``image`` is not such an array.
        """
        people = estimate(
            self.network, [image], self.arch.resolution, self.keypoints, self.settings, 1, device=self.device
        )[0]
        kept = people.scores >= min_score
        return People(people.poses[kept], people.scores[kept])


def costs(arch: Arch, num_keypoints: int) -> dict[str, int]:
    """Count trainable parameters, and multiply-adds of one square picture as PyTorch performs them."""
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        network = LitePose(arch, num_keypoints).eval()
        network(torch.empty(1, 3, arch.resolution, arch.resolution))
    return {"params": sum(p.numel() for p in network.parameters()), "macs": counter.get_total_flops() // 2}
