"""The memory of the steps of each phase, predicted by running one without data.

A step runs on the device "meta", which computes and allocates nothing, while the bytes of all tensors are counted until
they are freed. That gives what PyTorch's allocator has handed out at its peak: on an H200, a sandwich step of 32 images
of 256 px in bfloat16 took 5,794 MiB for ``litepose`` and 1,587 MiB for ``nano``, and this predicts 5,779 and 1,577.
What the libraries of a GPU take for themselves, about half a GiB, comes on top.
"""

import logging
from dataclasses import dataclass, replace
from functools import partial

import torch

from supernet.compute.device import device_memory
from supernet.compute.distributed import SINGLE_PROCESS, Processes
from supernet.compute.live_memory import LiveMemory
from supernet.compute.precision import Precision, is_bfloat16
from supernet.compute.sync_batch_norm import synchronise_batch_norm
from supernet.errors import UserError
from supernet.pose.training.augmentation import Batch
from supernet.training.assembly import new_objective
from supernet.training.phases import ScheduledPhase, step_archs
from supernet.training.setup import TrainingSetup
from supernet.training.trainer import Trainer
from supernet.weight_sharing import SuperNet

_PEOPLE = 8
"""People in an image; their number hardly matters."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepKind:
    """What the memory of a step depends on; steps that need no less in any respect come after others.

    Attributes:
        resolution: Side of the inputs, in pixels.
        num_subnets: 1, or 2 for more: subnets are computed one after the other, the later ones beside gradients.
        has_frozen_teacher: Whether there is a frozen teacher by then, which stays in memory.
        is_taught: Whether subnets learn from a teacher.
    """

    resolution: int
    num_subnets: int
    has_frozen_teacher: bool
    is_taught: bool

    def is_below(self, other: "StepKind") -> bool:
        """Whether a step of this kind is another one, and needs at most the memory of a step of the other kind."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return self != other and all(own <= its for own, its in pairs)


def kinds(setup: TrainingSetup) -> list[StepKind]:
    """Return the kind of the largest steps of each phase."""
    by_phase, has_frozen_teacher = [], False
    for scheduled in setup.scheduled:
        phase = scheduled.phase
        has_frozen_teacher |= phase.teacher == "frozen"
        kind = StepKind(
            max(scheduled.resolutions), min(2, len(phase.subnets)), has_frozen_teacher, phase.teacher != "none"
        )
        by_phase.append(kind)
    return by_phase


def step_bytes(setup: TrainingSetup, processes: Processes, kind: StepKind, accumulate: int) -> int:
    """Return the most bytes that the tensors of a training take in a step of the largest subnets, in each process.

    Args:
        setup: The training.
        processes: The processes that train together.
        kind: Of the step.
        accumulate: Parts in which a process computes its images.
    """
    settings, meta = setup.settings, torch.device("meta")
    precision: Precision = "bfloat16" if is_bfloat16(setup.device, settings.precision) else "float32"
    settings = replace(
        settings,
        batch_size=settings.batch_size // processes.count,
        accumulate=accumulate,
        precision=precision,
        fixed_shapes=False,
        cuda_graphs=False,
    )
    adapt = None
    if settings.sync_batch_norm and processes.count > 1:
        adapt = partial(synchronise_batch_norm, processes=SINGLE_PROCESS)
    with LiveMemory("meta") as live:
        with meta:
            supernet = SuperNet(setup.space, setup.keypoints.num, adapt)
        scheduled = _phase_of(setup, kind)
        trainer = Trainer(supernet, new_objective(setup), setup.train_set, [scheduled], settings)
        if kind.has_frozen_teacher:
            trainer.teacher = trainer.averaged()
        # The next images are already on the device while a step is computed.
        batches = [_batch(settings.batch_size, kind.resolution, setup.keypoints.num, meta) for _ in range(2)]
        # The networks of subnets have no weights, and lie on "meta" in every training: they count, but take nothing.
        before = live.current
        for arch in step_archs(scheduled, kind.resolution, settings.seed, 0):
            supernet.templates(arch, training=True)
        uncounted = live.current - before
        trainer.train_step(scheduled, batches[0], 0.0)
    return int(live.peak - uncounted)


def phase_bytes(setup: TrainingSetup, processes: Processes) -> list[int]:
    """Return the most bytes that the tensors of a training take in the steps of each phase, in each process."""
    by_phase = kinds(setup)
    sizes = {kind: step_bytes(setup, processes, kind, setup.settings.accumulate) for kind in dict.fromkeys(by_phase)}
    return [sizes[kind] for kind in by_phase]


def check_memory(setup: TrainingSetup, processes: Processes) -> None:
    """Predict whether all phases fit into the memory of a GPU, before the first step; nothing is checked on a CPU.

    Raises:
        UserError: The tensors of a step take more than the whole memory of the device.
    """
    memory = None if setup.device.type == "cpu" else device_memory(setup.device)
    if memory is None:
        return
    by_phase = kinds(setup)
    for kind in dict.fromkeys(by_phase):
        if not any(kind.is_below(other) for other in by_phase):
            size = step_bytes(setup, processes, kind, setup.settings.accumulate)
            name = setup.scheduled[by_phase.index(kind)].phase.name
            if size > memory.free:
                message = too_large(setup, processes, name, kind, size, memory.free)
                if size > memory.total:
                    raise UserError(message)
                logger.warning(message)


def too_large(setup: TrainingSetup, processes: Processes, name: str, kind: StepKind, size: int, available: int) -> str:
    """Return the sentence that a phase needs more memory than there is, and what to do.

    Args:
        setup: The training.
        processes: The processes that train together.
        name: Of the phase.
        kind: Of its largest steps.
        size: Bytes that it needs.
        available: Bytes that the device has.
    """
    settings = setup.settings
    own = settings.batch_size // processes.count
    remedy = "lower the largest resolution or widths of the space"
    for accumulate in range(settings.accumulate + 1, own + 1):
        if own % accumulate == 0 and step_bytes(setup, processes, kind, accumulate) <= available:
            remedy = f"use accumulate={accumulate}"
            break
    images = own // settings.accumulate
    return (
        f"phase {name} needs about {gib(size)} at {kind.resolution} px for {images} images at once; "
        f"device {setup.device} has {gib(available)}: {remedy}"
    )


def gib(size: int) -> str:
    """Return a number of bytes in GiB, for people."""
    return f"{size / 2**30:.1f} GiB"


def _phase_of(setup: TrainingSetup, kind: StepKind) -> ScheduledPhase:
    """Return a phase of one step of a kind, all of whose subnets are the largest, the most that a random one can be."""
    scheduled = setup.scheduled[kinds(setup).index(kind)]
    subnets = ("largest",) * kind.num_subnets
    return replace(scheduled, phase=replace(scheduled.phase, subnets=subnets), start=0, stop=1)


def _batch(size: int, resolution: int, num_keypoints: int, device: torch.device) -> Batch:
    images = torch.empty(size, 3, resolution, resolution, dtype=torch.uint8, device=device)
    return Batch(
        images.contiguous(memory_format=torch.channels_last),
        torch.empty(size, _PEOPLE, num_keypoints, 3, device=device),
        torch.empty(size, resolution // 2, resolution // 2, dtype=torch.bool, device=device),
        torch.zeros(size, dtype=torch.int64),
    )
