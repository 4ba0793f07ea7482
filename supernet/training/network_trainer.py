"""The core of every training step, of a supernet as of a single network: loss, distillation, update, average."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from supernet.pose.geometry import normalise
from supernet.pose.training.augmentation import Batch
from supernet.pose.training.objective import LossTerms, PoseObjective, Targets
from supernet.training.optimizer import ExponentialMovingAverage, Optimizer

Outputs = tuple[Tensor, Tensor]
"""``low`` (B, 2K, H/4, W/4) and ``high`` (B, K, H/2, W/2), see :class:`supernet.litepose.LitePose`."""


@dataclass(frozen=True)
class NetworkLoss:
    """The loss of one network on one batch; tensors are scalars, and only ``total`` has a gradient.

    Attributes:
        total: What training minimises: the network's own loss plus the weighted distance to its teacher.
        terms: The network's own loss.
        distance: Mean squared distance to the teacher's heatmaps; None without a teacher.
    """

    total: Tensor
    terms: LossTerms
    distance: Tensor | None


class NetworkTrainer:
    """A network in training. Subclasses decide what a step runs; this class holds what all steps share.

    Args:
        network: The network, on the device to train on.
        objective: Targets and loss.
        optimizer: Updates the network's parameters.
        average_decay: Decay of the averaged weights.
        distillation_weight: Weight of the distance to a teacher's heatmaps beside the network's own loss.

    Attributes:
        weights: The parameters of the network by name.
        average: Their moving average.
        step: Steps done.
    """

    def __init__(
        self,
        network: nn.Module,
        objective: PoseObjective,
        optimizer: Optimizer,
        average_decay: float,
        distillation_weight: float,
    ) -> None:
        self._network, self.objective, self.optimizer = network, objective, optimizer
        self.distillation_weight = distillation_weight
        self.weights = dict(network.named_parameters())
        self.average = ExponentialMovingAverage(self.weights, average_decay)
        self.step = 0

    def inputs(self, batch: Batch) -> tuple[Tensor, Targets]:
        """Return the normalised images (B, 3, H, W) of ``batch`` and the targets of the network's outputs."""
        return normalise(batch.images), self.objective.targets(batch)

    def loss(self, outputs: Outputs, targets: Targets, teacher_outputs: Outputs | None) -> NetworkLoss:
        """Return the loss of the network's ``outputs``, with distillation if there are outputs of a teacher."""
        own = self.objective.loss(*outputs, targets)
        terms = LossTerms(own.total.detach(), own.heatmap.detach(), own.push.detach(), own.pull.detach())
        if teacher_outputs is None:
            return NetworkLoss(own.total, terms, None)
        distance = self.objective.distillation(*outputs, teacher_outputs, targets)
        return NetworkLoss(own.total + self.distillation_weight * distance, terms, distance.detach())

    def update(self, rate: float) -> Tensor:
        """Finish a step: update the weights from their gradients, and the average.

        Returns:
            The gradient's norm before clipping.
        """
        norm = self.optimizer.step(rate)
        self.average.update(self.weights)
        self.step += 1
        return norm

    def averaged_state(self) -> dict[str, Tensor]:
        """Return the network's state dict with the averaged weights."""
        state = self._network.state_dict()
        return {name: self.average.average.get(name, value).detach() for name, value in state.items()}

    def state(self) -> dict[str, Any]:
        """Return everything that later steps depend on, as tensors and plain values."""
        return {
            "step": self.step,
            "network": self._network.state_dict(),
            "average": self.average.average,
            "num_updates": self.average.num_updates,
            "adam": self.optimizer.state(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what :meth:`state` returned."""
        self._network.load_state_dict(state["network"])
        for name, value in self.average.average.items():
            value.copy_(state["average"][name])
        self.average.num_updates = state["num_updates"]
        self.optimizer.load_state(state["adam"])
        self.step = state["step"]
