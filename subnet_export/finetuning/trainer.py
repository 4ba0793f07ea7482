"""Train a network on its own, with the losses of supernet training and, if given, a teacher's heatmaps."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from supernet.errors import UserError
from supernet.litepose import LitePose
from supernet.pose.data.pose_dataset import PoseDataset
from supernet.pose.geometry import normalise
from supernet.pose.training.augmentation import Augmentation
from supernet.pose.training.loader import training_loader
from supernet.pose.training.objective import PoseObjective, to_device
from supernet.training.optimizer import ExponentialMovingAverage, learning_rate

AUGMENTATIONS = {
    "none": Augmentation.none(),
    "light": Augmentation(10.0, 0.85, 1.2, 0.1),
    "full": Augmentation(),
}
"""By name; short training gains most from images like those it is measured on, hence "light" by default."""


@dataclass(frozen=True)
class FineTuning:
    """How a network is trained on its own.

    Attributes:
        num_steps: Optimizer steps.
        batch_size: Images per step.
        peak_rate: Learning rate after the warm-up, before the cosine.
        distillation_weight: Weight of the distance to a teacher's heatmaps beside the network's own loss.
        seed: Seed of image order and augmentation.
        clip_norm: Largest gradient norm.
        average_decay: Decay of the averaged weights, which are the result.
        augmentation: How images are varied.
    """

    num_steps: int
    batch_size: int = 16
    peak_rate: float = 2e-3
    distillation_weight: float = 1.0
    seed: int = 0
    clip_norm: float = 1.0
    average_decay: float = 0.998
    augmentation: Augmentation = AUGMENTATIONS["light"]


class FineTuner:
    """Trains a copy of a network; it can stop after any step and continue to the same weights.

    Batch norm uses the batch's statistics, as in supernet training, so the result has to be calibrated.

    Args:
        network: The start, on the device to train on; not changed.
        objective: Targets and loss.
        train_set: Images to train on.
        settings: Everything that decides the result.
        teacher: Network of the same keypoints, in evaluation mode and on the same device, whose heatmaps are learned
            beside the truth.
        num_workers: Processes that load images; 0 loads in this one.

    Attributes:
        step: Steps done.
    """

    def __init__(
        self,
        network: LitePose,
        objective: PoseObjective,
        train_set: PoseDataset,
        settings: FineTuning,
        teacher: LitePose | None = None,
        num_workers: int = 0,
    ) -> None:
        self.objective, self.train_set, self.settings = objective, train_set, settings
        self.teacher, self.num_workers, self.step = teacher, num_workers, 0
        self._network = copy.deepcopy(network).train()
        self._weights = dict(self._network.named_parameters())
        self._adam = torch.optim.Adam(self._weights.values(), foreach=True)
        self._average = ExponentialMovingAverage(self._weights, settings.average_decay)

    def run(self, on_step: Callable[[int, float], None]) -> None:
        """Train from :attr:`step` to the end.

        Args:
            on_step: Called with the number of steps done and the last one's loss; what it raises ends training there.

        Raises:
            UserError: The loss stopped being finite.
        """
        settings = self.settings
        device = next(iter(self._weights.values())).device
        loader = training_loader(
            self.train_set,
            [self._network.arch.resolution] * (settings.num_steps - self.step),
            settings.batch_size,
            settings.seed,
            settings.augmentation,
            self.num_workers,
            self.step,
        )
        for loaded in loader:
            batch = to_device(loaded, device)
            images, truth = normalise(batch.images), self.objective.targets(batch)
            low, high = self._network(images)
            loss = self.objective.loss(low, high, truth).total
            if self.teacher is not None:
                with torch.no_grad():
                    taught = self.teacher(images)
                loss = loss + settings.distillation_weight * self.objective.distillation(low, high, taught, truth)
            if not torch.isfinite(loss):
                raise UserError(f"the loss is not finite at step {self.step}; lower --learning-rate")
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self._weights.values(), settings.clip_norm, foreach=True)
            for group in self._adam.param_groups:
                group["lr"] = learning_rate(self.step / settings.num_steps, settings.peak_rate)
            self._adam.step()
            self._adam.zero_grad(set_to_none=True)
            self._average.update(self._weights)
            self.step += 1
            on_step(self.step, loss.item())

    def result(self) -> LitePose:
        """Return a network with the averaged weights, whose batch-norm statistics still have to be calibrated."""
        network = copy.deepcopy(self._network)
        network.load_state_dict({**network.state_dict(), **self._average.average})
        return network

    def state(self) -> dict[str, Any]:
        """Return everything that decides the steps to come, as tensors and plain values."""
        return {
            "step": self.step,
            "network": self._network.state_dict(),
            "average": self._average.average,
            "num_updates": self._average.num_updates,
            "adam": self._adam.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from what :meth:`state` returned."""
        self._network.load_state_dict(state["network"])
        for name, value in self._average.average.items():
            value.copy_(state["average"][name])
        self._average.num_updates = state["num_updates"]
        self._adam.load_state_dict(state["adam"])
        self.step = state["step"]
