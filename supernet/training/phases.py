"""Training phases as data: elastic dimensions, subnets per step, and their teacher.

Source: progressive shrinking, Once-for-All (arXiv 1908.09791), section 3.3; the sandwich rule with in-place
distillation, BigNAS (arXiv 2003.11142), sections 3.1 and 3.2.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from supernet.arch import Arch
from supernet.errors import UserError
from supernet.io.schema import check_numbers
from supernet.random_streams import Stream
from supernet.space import SearchSpace


@dataclass(frozen=True)
class Phase:
    """One phase of training.

    Attributes:
        name: For logs.
        share: Share of all steps; shares are relative to their sum.
        elastic: Dimensions that vary (``supernet.space.DIMENSIONS``); all others stay at their largest.
        subnets: The subnets of one step, each "largest", "smallest" or "random" within the elastic part of the space.
        learning_rate: Peak rate of this phase.
        teacher: "none"; "frozen": a copy of the averaged weights, made before the first such phase, run as the largest
            subnet; "inplace": this step's largest subnet, which must come first in ``subnets``.
        resolution_scale: Train the whole phase at one input size, this share of the space's middle resolution; for
            example a first phase on smaller images (progressive learning, EfficientNetV2, arXiv 2104.00298, section 4).
        largest_weight: Weight of the largest subnet's loss in the mean over the subnets of a step; the others have 1.
            All subnets share weights, and in a wide space the largest loses accuracy to the others; a weight above 1
            counters that.
    """

    name: str
    share: float
    elastic: tuple[str, ...]
    subnets: tuple[str, ...]
    learning_rate: float
    teacher: Literal["none", "frozen", "inplace"] = "none"
    resolution_scale: float | None = None
    largest_weight: float = 1.0

    def loss_weights(self) -> list[float]:
        """Return the weight of each of ``subnets`` in a step's loss; they sum to 1."""
        weights = [self.largest_weight if role == "largest" else 1.0 for role in self.subnets]
        return [weight / sum(weights) for weight in weights]


@dataclass(frozen=True)
class ScheduledPhase:
    """A phase with its place in the run.

    Attributes:
        phase: The phase.
        start, stop: Its first step, and the step after its last.
        space: The part of the space that it draws subnets from.
        newly_elastic: Dimensions that are elastic in it but not in the phase before.
        middle_resolution: Of the whole space.
    """

    phase: Phase
    start: int
    stop: int
    space: SearchSpace
    newly_elastic: frozenset[str]
    middle_resolution: int

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Input sizes that steps of this phase draw from."""
        if self.phase.resolution_scale is None:
            return self.space.resolutions
        return (max(1, round(self.middle_resolution * self.phase.resolution_scale / 16)) * 16,)

    def progress(self, step: int) -> float:
        """Return the share of this phase's steps that come before training step ``step``."""
        return (step - self.start) / (self.stop - self.start)


def schedule(phases: Sequence[Phase], space: SearchSpace, num_steps: int) -> list[ScheduledPhase]:
    """Return ``phases`` with their steps out of ``num_steps``, checked.

    Raises:
        UserError: No phases, two of one name, an unknown dimension or subnet, a non-positive share or rate, a dimension
            that stops being elastic, a teacher that cannot exist, or fewer steps than phases.
    """
    if not phases:
        raise UserError("there are no phases; give at least one, see conf/phases")
    total = sum(phase.share for phase in phases)
    scheduled: list[ScheduledPhase] = []
    elastic: frozenset[str] = frozenset()
    share_so_far = 0.0
    for i, phase in enumerate(phases):
        place = f"phase {i} ({phase.name})"
        _check(phase, place)
        if phase.name in (earlier.name for earlier in phases[:i]):
            raise UserError(f"{place}: an earlier phase has the same name; give each its own")
        if phase.teacher == "frozen" and i == 0:
            raise UserError(f"{place}: a frozen teacher needs an earlier phase that trains the largest subnet")
        if missing := elastic - set(phase.elastic):
            raise UserError(
                f"{place}: {min(missing)} was elastic in an earlier phase and must stay elastic; add it to `elastic`"
            )
        newly_elastic, elastic = frozenset(phase.elastic) - elastic, frozenset(phase.elastic)
        share_so_far += phase.share
        start, stop = scheduled[-1].stop if scheduled else 0, round(num_steps * share_so_far / total)
        if stop <= start:
            raise UserError(f"{place} would get no step out of {num_steps}; raise steps or its share")
        middle = space.resolutions[len(space.resolutions) // 2]
        scheduled.append(ScheduledPhase(phase, start, stop, space.restrict(phase.elastic), newly_elastic, middle))
    return scheduled


def _check(phase: Phase, place: str) -> None:
    """Raise UserError for a value of ``phase`` that is wrong whatever the other phases are."""
    check_numbers(phase, "share", "learning_rate", "largest_weight", above=0, place=f"{place}: ")
    check_numbers(phase, "resolution_scale", above=0, most=4, place=f"{place}: ")
    if not phase.subnets or set(phase.subnets) - {"largest", "smallest", "random"}:
        raise UserError(f"{place}: subnets must be one or more of largest, smallest, random, got {list(phase.subnets)}")
    if phase.teacher == "inplace" and phase.subnets[0] != "largest":
        raise UserError(
            f"{place}: with teacher=inplace the first of subnets must be 'largest', got {phase.subnets[0]!r}"
        )


def step_archs(scheduled: ScheduledPhase, resolution: int, seed: int, step: int) -> list[Arch]:
    """Return the subnets that training step ``step`` runs; they depend on (seed, step, slot) only.

    Their ``resolution`` is that of the step or, where ``resolution_scale`` gives one outside the space, the largest of
    the space.
    """
    if resolution not in scheduled.space.resolutions:
        resolution = scheduled.space.resolutions[-1]
    archs = []
    for slot, role in enumerate(scheduled.phase.subnets):
        if role == "random":
            arch = scheduled.space.sample(Stream.STEP_ARCHS.generator(seed, step, slot))
        else:
            arch = scheduled.space.largest() if role == "largest" else scheduled.space.smallest()
        archs.append(replace(arch, resolution=resolution))
    return archs
