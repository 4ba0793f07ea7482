"""The passes of a training step, recorded once per input size and then repeated with a launch each.

A step on a GPU launches thousands of kernels, many of which take less time than their launch. Here, all subnets have
the shapes of the largest, and a subnet is a vector of numbers on the device (:mod:`supernet.training.subnet_choices`),
so that one recording serves all subnets. What a recording reads and writes lies in fixed memory, filled before it.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from supernet.arch import Arch
from supernet.compute.cuda_graphs import Recorder
from supernet.pose.training.augmentation import Batch
from supernet.pose.training.objective import LossTerms, Targets
from supernet.training.network_trainer import NetworkLoss, Outputs
from supernet.training.subnet_choices import SubnetChoices
from supernet.weight_sharing import SuperNet

Teacher = Literal["none", "makes", "follows"]
"""Whether a pass has no teacher, keeps its outputs as the teacher of others, or learns from the teacher's outputs."""
_LEAST_PEOPLE, _GROWTH = 8, 4
"""Recordings are made for 8, 32, 128 ... people in an image; the places that are left stay empty."""


@dataclass(frozen=True)
class Passes:
    """What a recording consists of.

    Attributes:
        supernet: In training mode.
        inputs: Returns the normalised images and the targets of a batch.
        loss: Returns the loss of outputs, given targets and the teacher's outputs.
        precision: Makes the context of forward passes.
    """

    supernet: SuperNet
    inputs: Callable[[Batch], tuple[Tensor, Targets]]
    loss: Callable[[Outputs, Targets, Outputs | None], NetworkLoss]
    precision: Callable[[], AbstractContextManager[object]]


@dataclass(frozen=True)
class _Memory:
    """Tensors that the recordings for one size of inputs read and write.

    Attributes:
        batch: As loaded, with places for more people.
        images, targets: What the passes compute with.
        teacher: Outputs of the teacher.
        choices: The subnet.
        weight: Of the loss in the gradient, a scalar.
        figures: (5,), total, heatmap, push, pull and, with a teacher, the distance to it.
    """

    batch: Batch
    images: Tensor
    targets: Targets
    teacher: Outputs
    choices: Tensor
    weight: Tensor
    figures: Tensor


class RecordedPasses:
    """Computes the passes of training steps by recordings; results and gradients are those of fixed shapes.

    Args:
        passes: What is recorded.
        record: Makes recordings.
    """

    def __init__(self, passes: Passes, record: Recorder) -> None:
        self._passes, self._record = passes, record
        self._choices = SubnetChoices(passes.supernet)
        self._weights: Mapping[str, nn.Parameter] = dict(passes.supernet.named_parameters())
        self._gradients = {name: torch.zeros_like(weight) for name, weight in self._weights.items()}
        self._memories: dict[tuple[int, ...], _Memory] = {}
        self._recordings: dict[tuple[object, ...], Callable[[], object]] = {}
        self._frozen: SuperNet | None = None
        self._size: tuple[int, ...] = ()

    @property
    def teacher_outputs(self) -> Outputs:
        """What the teacher computed from the current batch."""
        return self._memories[self._size].teacher

    def start_step(self) -> None:
        """Begin to add up the gradients of a step, which the weights' ``grad`` are from now on."""
        torch._foreach_zero_(list(self._gradients.values()))
        for name, weight in self._weights.items():
            weight.grad = self._gradients[name]

    def start_batch(self, batch: Batch, frozen: SuperNet | None) -> tuple[Tensor, Targets]:
        """Take the images of the following passes, and compute the outputs of a frozen teacher, if any, on them.

        Returns:
            The normalised images and targets, until the next batch.
        """
        self._size = (batch.images.shape[-1], len(batch.images), _places(batch.people.shape[1]))
        if self._size not in self._memories:
            self._memories[self._size] = self._new_memory(batch)
        memory = self._memories[self._size]
        for kept, new in zip(_tensors(memory.batch), _tensors(_padded(batch, self._size[-1])), strict=True):
            kept.copy_(new, non_blocking=True)
        self._run(("inputs",), self._prepare)
        if frozen is not None:
            if frozen is not self._frozen:  # its weights lie elsewhere now
                self._frozen = frozen
                self._recordings = {key: run for key, run in self._recordings.items() if "teacher" not in key}
            self._run(("teacher",), lambda: self._teach(frozen))
        return memory.images, memory.targets

    def run(self, arch: Arch, is_masked: bool, weight: float, teacher: Teacher) -> tuple[LossTerms, Tensor | None]:
        """Run a subnet forward and backward on the batch, and add ``weight`` times its gradient.

        Args:
            arch: The largest subnet, unless ``is_masked``.
            is_masked: Whether ``arch`` is computed with masked channels.
            weight: Of its loss.
            teacher: Its relation to the teacher.

        Returns:
            Its loss terms, and its distance to the teacher, if it has one.
        """
        memory = self._memories[self._size]
        memory.weight.fill_(weight)
        if is_masked:
            choices = self._choices.of(arch)
            if memory.choices.device.type == "cuda":
                choices = choices.pin_memory()
            memory.choices.copy_(choices, non_blocking=True)
        self._run(("pass", is_masked, teacher), lambda: self._train(is_masked, teacher))
        figures = memory.figures.clone().unbind()
        return LossTerms(*figures[:4]), figures[4] if teacher == "follows" else None

    def _run(self, kind: tuple[object, ...], work: Callable[[], None]) -> None:
        key = (*kind, *self._size)
        if key not in self._recordings:
            before = [gradient.clone() for gradient in self._gradients.values()]
            self._recordings[key] = self._record(work)
            torch._foreach_copy_(list(self._gradients.values()), before)
        self._recordings[key]()

    def _prepare(self) -> None:
        memory = self._memories[self._size]
        images, targets = self._passes.inputs(memory.batch)
        memory.images.copy_(images)
        for kept, new in zip(_tensors(memory.targets), _tensors(targets), strict=True):
            kept.copy_(new)

    @torch.no_grad()
    def _teach(self, frozen: SuperNet) -> None:
        memory = self._memories[self._size]
        with self._passes.precision():
            low, high = frozen(memory.images, self._largest())
        memory.teacher[0].copy_(low)
        memory.teacher[1].copy_(high)

    def _train(self, is_masked: bool, teacher: Teacher) -> None:
        memory, supernet = self._memories[self._size], self._passes.supernet
        with self._passes.precision():
            if is_masked:
                outputs = self._choices.outputs(memory.images, memory.choices)
            else:
                outputs = supernet(memory.images, self._largest())
        loss = self._passes.loss(outputs, memory.targets, memory.teacher if teacher == "follows" else None)
        # Not `backward`: the engine adds a parameter's gradient on the stream of its first use, which need not record.
        computed = torch.autograd.grad(memory.weight * loss.total, list(self._weights.values()), allow_unused=True)
        pairs = [pair for pair in zip(self._gradients.values(), computed, strict=True) if pair[1] is not None]
        torch._foreach_add_([kept for kept, _ in pairs], [new for _, new in pairs])
        if teacher == "makes":
            for kept, new in zip(memory.teacher, outputs, strict=True):
                kept.copy_(new.detach())
        terms = [loss.terms.total, loss.terms.heatmap, loss.terms.push, loss.terms.pull]
        memory.figures.copy_(torch.stack([*terms, terms[0] if loss.distance is None else loss.distance]))

    @torch.no_grad()
    def _new_memory(self, batch: Batch) -> _Memory:
        """Return memory for batches like ``batch``, which is computed once to learn the shapes and types."""
        batch = _padded(batch, self._size[-1])
        images, targets = self._passes.inputs(batch)
        with self._passes.precision():
            low, high = self._passes.supernet(images, self._largest())
        floats = torch.zeros(6, device=images.device, dtype=low.dtype if low.dtype == torch.float64 else torch.float32)
        return _Memory(
            batch=replace(batch, **{name: value.clone() for name, value in _named(batch).items()}),
            images=images.clone(),
            targets=Targets(*(value.clone() for value in _tensors(targets))),
            teacher=(low.clone(), high.clone()),
            choices=torch.zeros(self._choices.count, device=images.device),
            weight=floats[0],
            figures=floats[1:],
        )

    def _largest(self) -> Arch:
        return self._passes.supernet.space.largest()


def _places(num_people: int) -> int:
    """Return the places for people of the recordings that serve ``num_people``."""
    places = _LEAST_PEOPLE
    while places < num_people:
        places *= _GROWTH
    return places


def _padded(batch: Batch, places: int) -> Batch:
    """Return ``batch`` with so many places for people."""
    return replace(batch, people=functional.pad(batch.people, (0, 0, 0, 0, 0, places - batch.people.shape[1])))


def _named(batch: Batch) -> dict[str, Tensor]:
    """Return the tensors of a batch on its device; ids stay on the CPU."""
    return {"images": batch.images, "people": batch.people, "mask": batch.mask}


def _tensors(value: Batch | Targets) -> list[Tensor]:
    if isinstance(value, Batch):
        return list(_named(value).values())
    return [getattr(value, field.name) for field in fields(value)]
