"""What the steps of each phase cost, relative to each other: the multiply-adds of their subnets and teachers."""

from collections.abc import Sequence
from dataclasses import replace

from supernet.arch import Arch, layers
from supernet.costs.analytic import macs
from supernet.pose.data.subset import spread_indices
from supernet.pose.training.loader import step_resolution
from supernet.training.phases import ScheduledPhase, step_archs
from supernet.training.setup import TrainingSetup

_SAMPLED_STEPS = 24
"""Steps of a phase whose subnets are counted; the others are like them."""
_FORWARD_AND_BACKWARD = 3
"""Multiply-adds of a training pass over those of a forward pass: gradients of the inputs and of the weights."""


def step_costs(setup: TrainingSetup) -> list[float]:
    """Return the multiply-adds per image of a mean step of each phase."""
    largest, num_keypoints, seed = setup.space.largest(), setup.keypoints.num, setup.settings.seed
    fixed_shapes = setup.settings.has_fixed_shapes(setup.device)
    return [step_macs(scheduled, largest, num_keypoints, seed, fixed_shapes) for scheduled in setup.scheduled]


def step_macs(
    scheduled: ScheduledPhase, largest: Arch, num_keypoints: int, seed: int, fixed_shapes: bool = False
) -> float:
    """Return the multiply-adds per image of a mean step of a phase.

    Args:
        scheduled: The phase.
        largest: The largest subnet of the space, which a frozen teacher is.
        num_keypoints: K.
        seed: Of the training.
        fixed_shapes: Whether all subnets are computed with the shapes of the largest.
    """
    total, steps = 0, spread_indices(scheduled.stop - scheduled.start, _SAMPLED_STEPS)
    for step in steps:
        resolution = step_resolution(scheduled.resolutions, seed, scheduled.start + step)
        archs = step_archs(scheduled, resolution, seed, scheduled.start + step)
        archs = [largest] * len(archs) if fixed_shapes else archs
        total += macs_of_step(scheduled, resolution, archs, largest, num_keypoints)
    return total / len(steps)


def macs_of_step(
    scheduled: ScheduledPhase, resolution: int, archs: Sequence[Arch], largest: Arch, num_keypoints: int
) -> int:
    """Return the multiply-adds per image of one step of a phase, which trains ``archs`` at ``resolution``."""
    own = sum(_macs(arch, resolution, num_keypoints) for arch in archs)
    has_teacher = scheduled.phase.teacher == "frozen"
    return _FORWARD_AND_BACKWARD * own + (_macs(largest, resolution, num_keypoints) if has_teacher else 0)


def _macs(arch: Arch, resolution: int, num_keypoints: int) -> int:
    return macs(layers(replace(arch, resolution=resolution), num_keypoints))
