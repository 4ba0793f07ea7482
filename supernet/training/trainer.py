"""The one training loop: it runs whatever phases it is given and can stop and continue at any step."""

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from supernet import channel_sorting
from supernet.arch import Arch
from supernet.compute.cpu_tuning import prefer_throughput
from supernet.compute.device import explain_out_of_memory
from supernet.compute.distributed import SINGLE_PROCESS, Processes
from supernet.compute.precision import Precision, forward_precision
from supernet.compute.sync_batch_norm import synchronise
from supernet.pose.data.pose_dataset import PoseDataset
from supernet.pose.geometry import normalise
from supernet.pose.training.augmentation import Augmentation, Batch
from supernet.pose.training.loader import on_device, step_resolution, training_loader
from supernet.pose.training.objective import LossTerms, PoseObjective
from supernet.training.optimizer import ExponentialMovingAverage, MaskedAdam, learning_rate
from supernet.training.phases import ScheduledPhase, step_archs
from supernet.weight_sharing import SuperNet


@dataclass(frozen=True)
class LoopSettings:
    """What the loop does besides its phases.

    Attributes:
        batch_size: Images per step over all ranks; every subnet of a step sees all of them.
        seed: Seed of image order, augmentation, resolutions and sampled subnets.
        clip_norm: Largest gradient norm.
        average_decay: Decay of the averaged weights, which are the ones evaluated and exported.
        distillation_weight: Weight of the distance to the teacher's heatmaps beside the subnet's own loss.
        num_workers: Worker processes that load images.
        augmentation: How images are varied.
        precision: Number format of forward and backward passes.
        sync_batch_norm: Whether batch norm in training is over the images of all ranks, not of one.
    """

    batch_size: int
    seed: int
    clip_norm: float
    average_decay: float
    distillation_weight: float
    num_workers: int
    augmentation: Augmentation
    precision: Precision = "float32"
    sync_batch_norm: bool = False


@dataclass(frozen=True)
class StepReport:
    """Figures of one finished step; tensors are scalars, read only where they are shown.

    Attributes:
        step: Number of the step, from 0.
        phase: Name of its phase.
        resolution: Side of its square inputs, px.
        archs: The subnets trained.
        roles: What each of them is: "largest", "smallest" or "random".
        image_ids: (B,) ids of the images, on the CPU.
        losses: Loss terms of each subnet.
        distillation: Mean distance to the teacher's heatmaps, if there was a teacher.
        gradient_norm: Before clipping.
        rate: Learning rate.
        data_seconds, seconds: Time spent waiting for images, and in all.
    """

    step: int
    phase: str
    resolution: int
    archs: Sequence[Arch]
    roles: Sequence[str]
    image_ids: Tensor
    losses: Sequence[LossTerms]
    distillation: Tensor | None
    gradient_norm: Tensor
    rate: float
    data_seconds: float
    seconds: float


class Trainer:
    """Trains a supernet through scheduled phases.

    Args:
        supernet: The weights, on their device.
        objective: Targets and loss.
        dataset: Training images.
        scheduled: Phases with their steps.
        settings: Everything else.
        ranks: The processes that train together; each computes its part of every batch, and all make the same step.
    """

    def __init__(
        self,
        supernet: SuperNet,
        objective: PoseObjective,
        dataset: PoseDataset,
        scheduled: Sequence[ScheduledPhase],
        settings: LoopSettings,
        ranks: Processes = SINGLE_PROCESS,
    ) -> None:
        ranks.check_batch_size(settings.batch_size)
        self.supernet, self.objective, self.dataset = supernet, objective, dataset
        self.scheduled, self.settings, self.ranks = scheduled, settings, ranks
        if settings.sync_batch_norm and ranks.count > 1:
            supernet.templates.adapt = partial(synchronise, ranks=ranks)
        self.weights = dict(supernet.named_parameters())
        ranks.copy_from_main(self.weights.values())
        self.adam = MaskedAdam(self.weights.values(), settings.clip_norm)
        self.average = ExponentialMovingAverage(self.weights, settings.average_decay)
        self.teacher: SuperNet | None = None
        self.step = 0
        self.rate_factor = 1.0

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(iter(self.weights.values())).device

    def run(
        self,
        on_step: Callable[[StepReport], None],
        on_phase_end: Callable[[ScheduledPhase], None],
        on_first_batch: Callable[[ScheduledPhase, Batch], None] | None = None,
    ) -> None:
        """Train from ``self.step`` to the end.

        Args:
            on_step: Follows every step.
            on_phase_end: Follows every phase.
            on_first_batch: Goes before the first step of every phase, with its batch on the device.
        """
        if self.device.type == "cpu":
            prefer_throughput()
        known: set[str] = set()
        for scheduled in self.scheduled:
            new, known = set(scheduled.phase.elastic) - known, set(scheduled.phase.elastic)
            if self.step >= scheduled.stop:
                continue
            if scheduled.phase.teacher == "frozen" and self.teacher is None:
                self.teacher = self.averaged()
            if 0 < self.step == scheduled.start:
                self.sort_channels([dimension for dimension in channel_sorting.DIMENSIONS if dimension in new])
            for batch, waited, began in self._batches(scheduled):
                if on_first_batch is not None and self.step == scheduled.start:
                    on_first_batch(scheduled, batch)
                report = self._train_step(scheduled, batch, waited, began)
                self.step += 1
                on_step(report)
            on_phase_end(scheduled)

    def sort_channels(self, dimensions: Sequence[str]) -> None:
        """Move the most important channels to the front (:mod:`supernet.channel_sorting`).

        The largest subnet stays the same.

        Averaged weights and the optimizer's moments move along, so that training goes on as if nothing had happened.
        """
        largest = self.supernet.space.largest()
        moving = (self.supernet.state_dict(), self.average.average, *self.adam.moments_by_name(self.weights))
        prefix = "network."
        shared = [
            {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
            for tensors in moving
        ]
        for dimension in dimensions:
            orders = channel_sorting.channel_orders(shared[0], largest, dimension)
            for tensors in shared:
                channel_sorting.reorder_channels(tensors, largest, orders)

    def averaged(self) -> SuperNet:
        """Return a copy of the supernet with the averaged weights, in training mode and without gradients."""
        supernet = copy.deepcopy(self.supernet).train()
        supernet.load_state_dict(self.averaged_state())
        return supernet.requires_grad_(False)

    def averaged_state(self) -> dict[str, Tensor]:
        """Return the supernet's state dict with the averaged weights."""
        return {
            name: self.average.average.get(name, value).detach() for name, value in self.supernet.state_dict().items()
        }

    def state(self) -> dict[str, Any]:
        """Return everything that decides the steps to come, as tensors and plain values."""
        return {
            "step": self.step,
            "rate_factor": self.rate_factor,
            "network": self.supernet.state_dict(),
            "average": self.average.average,
            "num_updates": self.average.num_updates,
            "adam": self.adam.state(),
            "teacher": None if self.teacher is None else self.teacher.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from what :meth:`state` returned."""
        self.supernet.load_state_dict(state["network"])
        for name, value in self.average.average.items():
            value.copy_(state["average"][name])
        self.average.num_updates = state["num_updates"]
        self.adam.load_state(state["adam"])
        self.teacher = None
        if state["teacher"] is not None:
            self.teacher = self.averaged()
            self.teacher.load_state_dict(state["teacher"])
        self.step, self.rate_factor = state["step"], state["rate_factor"]

    def _batches(self, scheduled: ScheduledPhase) -> Iterator[tuple[Batch, float, float]]:
        """Yield this rank's part of each remaining batch, the seconds waited for it, and when the wait began."""
        choices, seed = scheduled.resolutions, self.settings.seed
        start = max(self.step, scheduled.start)
        resolutions = [step_resolution(choices, seed, step) for step in range(start, scheduled.stop)]
        loader = training_loader(
            self.dataset,
            resolutions,
            self.settings.batch_size,
            seed,
            self.settings.augmentation,
            self.settings.num_workers,
            start,
            (self.ranks.index, self.ranks.count),
        )
        began = time.perf_counter()
        for batch in on_device(loader, self.device):
            yield batch, time.perf_counter() - began, began
            began = time.perf_counter()

    def _train_step(self, scheduled: ScheduledPhase, batch: Batch, waited: float, began: float) -> StepReport:
        """Run every subnet of the step forward and backward, then update once."""
        phase, step = scheduled.phase, self.step
        self.supernet.train()
        images, truth = normalise(batch.images), self.objective.targets(batch)
        archs = step_archs(scheduled, batch.images.shape[-1], self.settings.seed, step)
        self.ranks.check_same(f"the subnets of step {step}", ", ".join(arch.digest() for arch in archs))
        precision = forward_precision(self.device, self.settings.precision)
        taught: tuple[Tensor, Tensor] | None = None
        if phase.teacher == "frozen":
            assert self.teacher is not None
            largest = step_archs_largest(archs[0], self.supernet)
            with torch.no_grad(), precision:
                taught = self.teacher(images, largest)
        figures, distances = [], []
        for arch, weight in zip(archs, phase.weights(), strict=True):
            with explain_out_of_memory(arch, len(images), images.shape[-1]):
                with precision:
                    low, high = self.supernet(images, arch)
                terms = self.objective.loss(low, high, truth)
                total = terms.total
                if taught is not None:
                    distance = self.objective.distillation(low, high, taught, truth)
                    total = total + self.settings.distillation_weight * distance
                    distances.append(distance.detach())
                elif phase.teacher == "inplace":
                    taught = (low.detach(), high.detach())
                (weight * total).backward()  # type: ignore[no-untyped-call]
            figures += [term.detach() for term in (terms.total, terms.heatmap, terms.push, terms.pull)]
        rate = learning_rate((step - scheduled.start) / (scheduled.stop - scheduled.start), phase.learning_rate)
        rate *= self.rate_factor
        norm = self.adam.step(rate, self.ranks.mean)
        self.average.update(self.weights)
        figures = self.ranks.means([*figures, *distances])
        losses = [LossTerms(*figures[4 * i : 4 * i + 4]) for i in range(len(archs))]
        distances = figures[4 * len(archs) :]
        return StepReport(
            step,
            phase.name,
            images.shape[-1],
            archs,
            phase.subnets,
            batch.image_ids,
            losses,
            torch.stack(distances).mean() if distances else None,
            norm,
            rate,
            waited,
            time.perf_counter() - began,
        )


def step_archs_largest(arch: Arch, supernet: SuperNet) -> Arch:
    """Return the supernet's largest arch at the resolution of ``arch``."""
    largest = supernet.space.largest()
    return Arch(arch.resolution, largest.stem_width, largest.stages, largest.deconv_widths)
