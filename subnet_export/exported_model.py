"""An exported model as a value: the network and what is needed to use it."""

from collections.abc import Callable, Sequence
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
        return self.predict_all([image], min_score)[0]

    def predict_all(
        self,
        images: Sequence[npt.NDArray[np.uint8]],
        min_score: float = 0.0,
        on_part: Callable[[str], None] = lambda _: None,
    ) -> list[People]:
        """Find the people in several pictures, those of one input size in one pass.

        Args:
            images: As for :meth:`predict`.
            min_score: People of a lower score are left out.
            on_part: Called with "resize", "network" or "grouping" when that part of the work begins.

        Returns:
            The people of each picture.
        """

        def network(inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            on_part("network")
            outputs: tuple[torch.Tensor, torch.Tensor] = self.network(inputs)
            if inputs.is_cuda:
                torch.cuda.synchronize(inputs.device)  # or its time would count as grouping
            on_part("grouping")
            return outputs

        on_part("resize")
        resolution, batch_size = self.arch.resolution, max(1, len(images))
        found = estimate(
            network, list(images), resolution, self.keypoints, self.settings, batch_size, device=self.device
        )
        kept = [people.scores >= min_score for people in found]
        return [People(people.poses[each], people.scores[each]) for people, each in zip(found, kept, strict=True)]


def costs(arch: Arch, num_keypoints: int) -> dict[str, int]:
    """Count trainable parameters, and multiply-adds of one square picture as PyTorch performs them."""
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        network = LitePose(arch, num_keypoints).eval()
        network(torch.empty(1, 3, arch.resolution, arch.resolution))
    return {"params": sum(p.numel() for p in network.parameters()), "macs": counter.get_total_flops() // 2}
