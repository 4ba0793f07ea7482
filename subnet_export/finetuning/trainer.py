"""Fine-tuning steps of a single network, with the losses of supernet training and, optionally, a teacher."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from supernet.compute.device import explain_out_of_memory
from supernet.errors import UserError
from supernet.litepose import LitePose
from supernet.pose.data.pose_dataset import PoseDataset
from supernet.pose.training.augmentation import Augmentation
from supernet.pose.training.loader import StepSampler, on_device, training_loader
from supernet.pose.training.objective import PoseObjective
from supernet.training.network_trainer import NetworkTrainer
from supernet.training.optimizer import ClippedAdam, learning_rate

AUGMENTATIONS = {
    "none": Augmentation.none(),
    "light": Augmentation(10.0, 0.85, 1.2, 0.1),
    "full": Augmentation(),
}
"""Augmentations by name. "light" is the default: short training gains most from images like those of the evaluation."""


@dataclass(frozen=True)
class FineTuning:
    """Settings of fine-tuning, all of which affect the result.

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


class FineTuner(NetworkTrainer):
    """Trains a copy of a network; it can stop after any step and continue to the same weights.

    Batch norm uses the batch's statistics, as in supernet training, so the result has to be calibrated.

    Args:
        network: The network to start from, on the device to train on; not changed.
        objective: Targets and loss.
        train_set: Images to train on.
        settings: Everything that affects the result.
        teacher: Network of the same keypoints, in evaluation mode and on the same device, whose heatmaps are learned
            besides the annotations.
        num_workers: Processes that load images; 0 loads them in this process.
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
        self.network = copy.deepcopy(network).train()
        adam = ClippedAdam(self.network.parameters(), settings.clip_norm)
        super().__init__(self.network, objective, adam, settings.average_decay, settings.distillation_weight)
        self.train_set, self.settings, self.teacher, self.num_workers = train_set, settings, teacher, num_workers

    def steps(self) -> Iterator[float]:
        """Train from :attr:`step` to the end, yielding the loss of each step after it.

        Raises:
            UserError: The loss is no longer finite, or memory ran out.
        """
        settings = self.settings
        resolutions = [self.network.arch.resolution] * (settings.num_steps - self.step)
        sampler = StepSampler(len(self.train_set), resolutions, settings.batch_size, settings.seed, self.step)
        loader = training_loader(self.train_set, sampler, settings.augmentation, self.num_workers)
        for batch in on_device(loader, next(self.network.parameters()).device):
            with explain_out_of_memory(f"with {settings.batch_size} images of a step", "lower --batch-size"):
                images, targets = self.inputs(batch)
                teacher_outputs = None
                if self.teacher is not None:
                    with torch.no_grad():
                        teacher_outputs = self.teacher(images)
                loss = self.loss(self.network(images), targets, teacher_outputs).total
                if not torch.isfinite(loss):
                    raise UserError(f"the loss is not finite at step {self.step}; lower --learning-rate")
                loss.backward()  # type: ignore[no-untyped-call]
            self.update(learning_rate(self.step / settings.num_steps, settings.peak_rate))
            yield loss.item()

    def result(self) -> LitePose:
        """Return a network with the averaged weights, whose batch-norm statistics still have to be calibrated."""
        network = copy.deepcopy(self.network)
        network.load_state_dict(self.averaged_state())
        return network
