"""Training phases as data: what is elastic, which subnets a step trains, and who teaches them.

Source: progressive shrinking, Once-for-All (arXiv 1908.09791), section 3.3; the sandwich rule with in-place
distillation, BigNAS (arXiv 2003.11142), sections 3.1 and 3.2.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from supernet.arch import Arch
from supernet.errors import UserError
from supernet.space import SearchSpace

_ARCHS = 2


@dataclass(frozen=True)
class Phase:
    """One phase of training.

    Attributes:
        name: For logs.
        share: Share of all steps; shares are relative to their sum.
        elastic: Dimensions that vary (``supernet.space.DIMENSIONS``); all others stay at their largest.
        subnets: The subnets of one step, each "largest", "smallest" or "random" within the elastic part of the space.
        learning_rate: Peak rate of this phase.
        teacher: "none"; "frozen": the largest subnet as it stood when the phase before the first such phase ended;
            "inplace": this step's largest subnet, which must come first in ``subnets``.
        resolution_scale: Train the whole phase at one input size, this share of the space's middle resolution, such as
            smaller images to begin with (progressive learning, EfficientNetV2, arXiv 2104.00298, section 4).
        largest_weight: Weight of the largest subnet's loss in the mean over the subnets of a step; the others have 1.
            All subnets pull at the same weights, and the largest of a wide space gives way; more than 1 counters that.
    """

    name: str
    share: float
    elastic: tuple[str, ...]
    subnets: tuple[str, ...]
    learning_rate: float
    teacher: Literal["none", "frozen", "inplace"] = "none"
    resolution_scale: float | None = None
    largest_weight: float = 1.0

    def weights(self) -> list[float]:
        """Return the weight of each of ``subnets`` in a step's loss; they sum to 1."""
        given = [self.largest_weight if role == "largest" else 1.0 for role in self.subnets]
        return [weight / sum(given) for weight in given]


@dataclass(frozen=True)
class ScheduledPhase:
    """A phase with its steps ``start`` to ``stop`` (excluded) and the part of the space it draws from."""

    phase: Phase
    start: int
    stop: int
    space: SearchSpace
    middle_resolution: int

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Input sizes that steps of this phase draw from."""
        if self.phase.resolution_scale is None:
            return self.space.resolutions
        return (max(1, round(self.middle_resolution * self.phase.resolution_scale / 16)) * 16,)


def schedule(phases: Sequence[Phase], space: SearchSpace, num_steps: int) -> list[ScheduledPhase]:
    """Lay ``phases`` out over ``num_steps`` and check them before anything is trained.

    Raises:
        UserError: No phases, an unknown dimension or subnet, a non-positive share or rate, a dimension that stops
            being elastic, a teacher that cannot exist, or fewer steps than phases.
    """
    if not phases:
        raise UserError("there are no phases; give at least one, see conf/phases")
    total = sum(phase.share for phase in phases)
    found: list[ScheduledPhase] = []
    before: set[str] = set()
    done = 0.0
    for i, phase in enumerate(phases):
        place = f"phase {i} ({phase.name})"
        if phase.share <= 0 or phase.learning_rate <= 0:
            raise UserError(
                f"{place}: share {phase.share} and learning_rate {phase.learning_rate} must both be above 0"
            )
        if not phase.subnets or set(phase.subnets) - {"largest", "smallest", "random"}:
            raise UserError(
                f"{place}: subnets are {list(phase.subnets)}; give one or more of largest, smallest, random"
            )
        if phase.teacher == "inplace" and phase.subnets[0] != "largest":
            raise UserError(
                f"{place}: an inplace teacher needs 'largest' as the first subnet of a step; reorder subnets"
            )
        if phase.teacher == "frozen" and i == 0:
            raise UserError(f"{place}: a frozen teacher needs a phase before it that trains the largest subnet")
        if phase.resolution_scale is not None and not 0 < phase.resolution_scale <= 4:
            raise UserError(f"{place}: resolution_scale is {phase.resolution_scale}; it must be above 0 and at most 4")
        if lost := before - set(phase.elastic):
            raise UserError(
                f"{place}: {sorted(lost)[0]} was elastic before; shrinking never takes a dimension back, add it"
            )
        if not 0 < phase.largest_weight < math.inf:
            raise UserError(f"{place}: largest_weight is {phase.largest_weight}; it must be above 0")
        before = set(phase.elastic)
        done += phase.share
        start, stop = found[-1].stop if found else 0, round(num_steps * done / total)
        if stop <= start:
            raise UserError(f"{place} would get no step out of {num_steps}; raise steps or its share")
        middle = space.resolutions[len(space.resolutions) // 2]
        found.append(ScheduledPhase(phase, start, stop, space.restrict(phase.elastic), middle))
    return found


def step_archs(scheduled: ScheduledPhase, resolution: int, seed: int, step: int) -> list[Arch]:
    """Return the subnets that training step ``step`` runs at ``resolution``; they depend on (seed, step, slot) only.

    Their own resolution is that of the step, or the largest of the space if the phase steps out of it.
    """
    if resolution not in scheduled.space.resolutions:
        resolution = scheduled.space.resolutions[-1]
    archs = []
    for slot, role in enumerate(scheduled.phase.subnets):
        if role == "random":
            arch = scheduled.space.sample(np.random.default_rng((_ARCHS, seed, step, slot)))
        else:
            arch = scheduled.space.largest() if role == "largest" else scheduled.space.smallest()
        archs.append(Arch(resolution, arch.stem_width, arch.stages, arch.deconv_widths))
    return archs
