"""Training steps of a supernet; :mod:`supernet.training.run` holds the loop around them."""

import copy
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from supernet import channel_sorting
from supernet.arch import Arch
from supernet.compute.cuda_graphs import CudaGraphs
from supernet.compute.device import explain_out_of_memory
from supernet.compute.distributed import SINGLE_PROCESS, Processes
from supernet.compute.precision import forward_precision
from supernet.pose.data.pose_dataset import PoseDataset
from supernet.pose.training.augmentation import Batch
from supernet.pose.training.loader import StepSampler, on_device, step_resolution, training_loader
from supernet.pose.training.objective import LossTerms, PoseObjective
from supernet.training.masked_subnets import can_mask, masked_outputs
from supernet.training.network_trainer import NetworkTrainer, Outputs
from supernet.training.optimizer import MaskedAdam, learning_rate
from supernet.training.phases import ScheduledPhase, step_archs
from supernet.training.recorded_passes import Passes, RecordedPasses, Teacher
from supernet.training.settings import StepSettings
from supernet.weight_sharing import SuperNet, is_backbone

_OUT_OF_MEMORY = "raise accumulate, lower batch_size, or the largest resolution or widths of the space"


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """Figures of one finished step; tensors are scalars, read only where they are shown.

    Attributes:
        step: Number of the step, from 0.
        phase: Name of its phase.
        resolution: Side of its square inputs, px.
        archs: The subnets trained.
        roles: The role of each: "largest", "smallest" or "random".
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


class Trainer(NetworkTrainer):
    """Trains a supernet through scheduled phases; it can stop after any step and continue to the same weights.

    A loop over all steps::

        while (scheduled := trainer.current_phase()) is not None:
            trainer.start_phase(scheduled)
            for batch, data_seconds in trainer.batches(scheduled):
                report = trainer.train_step(scheduled, batch, data_seconds)

    Args:
        supernet: The weights, on their device.
        objective: Targets and loss.
        dataset: Training images.
        scheduled: Phases with their steps.
        settings: Everything else.
        processes: The processes that train together; each computes its part of every batch, and all make the same step.

    Attributes:
        teacher: The frozen teacher, once a phase needs it.
        rate_factor: Multiplies all learning rates.
    """

    def __init__(
        self,
        supernet: SuperNet,
        objective: PoseObjective,
        dataset: PoseDataset,
        scheduled: Sequence[ScheduledPhase],
        settings: StepSettings,
        processes: Processes = SINGLE_PROCESS,
    ) -> None:
        processes.check_batch_size(settings.batch_size, settings.accumulate)
        processes.copy_from_main(supernet.parameters())
        factors = [settings.backbone_rate if is_backbone(name) else 1.0 for name, _ in supernet.named_parameters()]
        self.adam = MaskedAdam(supernet.parameters(), settings.clip_norm, processes.mean, factors)
        super().__init__(supernet, objective, self.adam, settings.average_decay, settings.distillation_weight)
        self.supernet, self.dataset, self.scheduled = supernet, dataset, scheduled
        self.settings, self.processes = settings, processes
        self.teacher: SuperNet | None = None
        self.rate_factor = 1.0
        self._recorded: RecordedPasses | None = None
        if settings.cuda_graphs:
            passes = Passes(
                supernet, self.inputs, self.loss, partial(forward_precision, self.device, settings.precision)
            )
            self._recorded = RecordedPasses(passes, CudaGraphs(self.device))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(iter(self.weights.values())).device

    def current_phase(self) -> ScheduledPhase | None:
        """Return the phase of the next step; None after the last step."""
        return next((scheduled for scheduled in self.scheduled if self.step < scheduled.stop), None)

    def start_phase(self, scheduled: ScheduledPhase) -> None:
        """Make the frozen teacher and sort channels, where the phase needs it and no earlier step has done it."""
        if scheduled.phase.teacher == "frozen" and self.teacher is None:
            self.teacher = self.averaged()
        if 0 < self.step == scheduled.start:
            self.sort_channels([name for name in channel_sorting.DIMENSIONS if name in scheduled.newly_elastic])

    def sort_channels(self, dimensions: Sequence[str]) -> None:
        """Move the most important channels to the front (:mod:`supernet.channel_sorting`).

        The largest subnet stays the same. Averaged weights and the optimizer's moments move along, so that training
        continues as without sorting.
        """
        largest = self.supernet.space.largest()
        sorted_together = (self.supernet.state_dict(), self.average.average, *self.adam.moments_by_name(self.weights))
        prefix = "network."
        shared = [
            {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
            for tensors in sorted_together
        ]
        for dimension in dimensions:
            orders = channel_sorting.channel_orders(shared[0], largest, dimension)
            for tensors in shared:
                channel_sorting.reorder_channels(tensors, largest, orders)

    def batches(self, scheduled: ScheduledPhase) -> Iterator[tuple[Batch, float]]:
        """Yield this process's part of each remaining batch of a phase, on the device, and the seconds of waiting."""
        settings, start = self.settings, max(self.step, scheduled.start)
        steps = range(start, scheduled.stop)
        resolutions = [step_resolution(scheduled.resolutions, settings.seed, step) for step in steps]
        part = (self.processes.index, self.processes.count)
        sampler = StepSampler(len(self.dataset), resolutions, settings.batch_size, settings.seed, start, part)
        loader = training_loader(self.dataset, sampler, settings.augmentation, settings.num_workers)
        wait_start = time.perf_counter()
        for batch in on_device(loader, self.device):
            yield batch, time.perf_counter() - wait_start
            wait_start = time.perf_counter()

    def train_step(self, scheduled: ScheduledPhase, batch: Batch, data_seconds: float) -> StepReport:
        """Run every subnet of the step forward and backward, then update once.

        Args:
            scheduled: The phase of the step.
            batch: Images of the step, on the device.
            data_seconds: Time spent waiting for them; only reported.
        """
        step_start = time.perf_counter()
        phase, step = scheduled.phase, self.step
        self.supernet.train()
        resolution = batch.images.shape[-1]
        archs = step_archs(scheduled, resolution, self.settings.seed, step)
        self.processes.check_same(f"the subnets of step {step}", ", ".join(arch.digest() for arch in archs))
        if self._recorded is not None:
            self._recorded.start_step()
        parts = batch.parts(self.settings.accumulate)
        terms, distances = _means([self._train_part(scheduled, part, archs, 1 / len(parts)) for part in parts])
        rate = learning_rate(scheduled.progress(step), phase.learning_rate) * self.rate_factor
        norm = self.update(rate)
        terms, distances = self._over_processes(terms, distances)
        return StepReport(
            step=step,
            phase=phase.name,
            resolution=resolution,
            archs=archs,
            roles=phase.subnets,
            image_ids=batch.image_ids,
            losses=terms,
            distillation=torch.stack(distances).mean() if distances else None,
            gradient_norm=norm,
            rate=rate,
            data_seconds=data_seconds,
            seconds=data_seconds + time.perf_counter() - step_start,
        )

    def _train_part(
        self, scheduled: ScheduledPhase, batch: Batch, archs: Sequence[Arch], share: float
    ) -> tuple[list[LossTerms], list[Tensor]]:
        """Run every subnet forward and backward on a part of a step's images; gradients add up.

        Args:
            scheduled: The phase of the step.
            batch: The images.
            archs: The subnets.
            share: Share of the step's images.

        Returns:
            The loss terms of each subnet, and the distance to the teacher of each that has one.
        """
        phase, recorded = scheduled.phase, self._recorded
        frozen = self.teacher if phase.teacher == "frozen" else None
        assert (frozen is None) == (phase.teacher != "frozen")
        size = f"with {len(batch.images)} images of {batch.images.shape[-1]} px"
        teacher_outputs: Outputs | None = None
        network = "the targets" if frozen is None else "the frozen teacher"
        with explain_out_of_memory(f"{size} in {network}", _OUT_OF_MEMORY):
            images, targets = self.inputs(batch) if recorded is None else recorded.start_batch(batch, frozen)
            if frozen is not None:
                teacher_outputs = (
                    self._taught(frozen, images, archs[0]) if recorded is None else recorded.teacher_outputs
                )
        terms: list[LossTerms] = []
        distances: list[Tensor] = []
        for arch, role, weight in zip(archs, phase.subnets, phase.loss_weights(), strict=True):
            is_teacher = phase.teacher == "inplace" and teacher_outputs is None
            is_masked = self._is_masked(arch, role)
            with explain_out_of_memory(f"{size} in subnet {arch.describe()}", _OUT_OF_MEMORY):
                if recorded is not None and (is_masked or role == "largest"):
                    relation: Teacher = "makes" if is_teacher else "none" if teacher_outputs is None else "follows"
                    own, distance = recorded.run(arch, is_masked, share * weight, relation)
                    teacher_outputs = recorded.teacher_outputs if is_teacher else teacher_outputs
                else:
                    with forward_precision(self.device, self.settings.precision):
                        compute = masked_outputs if is_masked else SuperNet.__call__
                        low, high = compute(self.supernet, images, arch)
                    loss = self.loss((low, high), targets, teacher_outputs)
                    own, distance = loss.terms, loss.distance
                    if is_teacher:
                        teacher_outputs = (low.detach(), high.detach())
                    (share * weight * loss.total).backward()  # type: ignore[no-untyped-call]
            terms.append(own)
            distances += [] if distance is None else [distance]
        return terms, distances

    def _taught(self, frozen: SuperNet, images: Tensor, arch: Arch) -> Outputs:
        """Return the outputs of a frozen teacher: its largest subnet, at the resolution of ``arch``."""
        with torch.no_grad(), forward_precision(self.device, self.settings.precision):
            outputs: Outputs = frozen(images, replace(self.supernet.space.largest(), resolution=arch.resolution))
        return outputs

    def _is_masked(self, arch: Arch, role: str) -> bool:
        """Whether a subnet has the shapes of the largest: if the settings ask for it and masks can express it."""
        return (
            self.settings.has_fixed_shapes(self.device)
            and role != "largest"
            and can_mask(self.supernet.space.largest(), arch)
        )

    def averaged(self) -> SuperNet:
        """Return a copy of the supernet with the averaged weights, in training mode and without gradients."""
        supernet = copy.deepcopy(self.supernet).train()
        supernet.load_state_dict(self.averaged_state())
        return supernet.requires_grad_(False)

    def state(self) -> dict[str, Any]:
        """Return everything that later steps depend on, as tensors and plain values."""
        teacher = None if self.teacher is None else self.teacher.state_dict()
        return {**super().state(), "rate_factor": self.rate_factor, "teacher": teacher}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what :meth:`state` returned."""
        super().load_state(state)
        self.teacher = None
        if state["teacher"] is not None:
            self.teacher = self.averaged()
            self.teacher.load_state_dict(state["teacher"])
        self.rate_factor = state["rate_factor"]

    def _over_processes(
        self, terms: Sequence[LossTerms], distances: Sequence[Tensor]
    ) -> tuple[list[LossTerms], list[Tensor]]:
        """Return loss terms and distances as means over all processes, in one exchange."""
        figures = [value for loss in terms for value in (loss.total, loss.heatmap, loss.push, loss.pull)]
        figures = self.processes.means([*figures, *distances])
        return [LossTerms(*figures[4 * i : 4 * i + 4]) for i in range(len(terms))], figures[4 * len(terms) :]


def _means(parts: Sequence[tuple[list[LossTerms], list[Tensor]]]) -> tuple[list[LossTerms], list[Tensor]]:
    """Return the loss terms and distances of a step, the means of those of its equally large parts."""
    if len(parts) == 1:
        return parts[0]
    terms = [
        LossTerms(*(torch.stack(values).mean() for values in zip(*(astuple(own) for own in subnet), strict=True)))
        for subnet in zip(*(terms for terms, _ in parts), strict=True)
    ]
    return terms, [torch.stack(values).mean() for values in zip(*(distances for _, distances in parts), strict=True)]
