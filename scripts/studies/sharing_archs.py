"""What a study of weight sharing compares: archs spread over a space, each a space of its own, and two scores of them.

A space gives the choices of a stage to all of its blocks, so an arch is a space of its own only where all blocks of a
stage agree; the archs of a study are drawn among those (no torch).
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.stats import kendalltau

from search.cost import macs
from supernet.arch import Arch, Stage
from supernet.errors import UserError
from supernet.space import SearchSpace
from supernet.stage_choices import StageChoices

_ARCHS = 4
_DRAWS_PER_ARCH = 150


def spread_archs(space: SearchSpace, num: int, num_keypoints: int, seed: int) -> list[Arch]:
    """Return ``num`` archs of ``space`` by rising multiply-adds, the smallest and the largest among them.

    Between these two, the logarithm of the multiply-adds is cut into equal parts, and of each part comes one random
    arch. In an arch, all blocks of a stage have one expand ratio and one kernel size.

    Raises:
        UserError: ``num`` is below 3, or a part has no arch.
    """
    if num < 3:
        raise UserError(f"num_archs is {num}; it must be at least 3, the smallest, the largest and one between them")
    rng = np.random.default_rng((_ARCHS, seed))
    smallest, largest = space.smallest(), space.largest()
    edges = np.geomspace(macs(smallest, num_keypoints), macs(largest, num_keypoints), num - 1)
    drawn = [(macs(arch, num_keypoints), arch) for arch in _drawn(space, num * _DRAWS_PER_ARCH, rng)]
    found = [smallest]
    for low, high in pairwise(edges.tolist()):
        inside = [arch for cost, arch in drawn if low <= cost < high and arch not in (smallest, largest)]
        if not inside:
            raise UserError(
                f"no arch of space {space.name} was found between {low / 1e6:.1f} and {high / 1e6:.1f} million "
                f"multiply-adds; num_archs below {num} makes wider parts"
            )
        found.append(inside[int(rng.integers(len(inside)))])
    return sorted([*found, largest], key=lambda arch: macs(arch, num_keypoints))


def _drawn(space: SearchSpace, num: int, rng: np.random.Generator) -> list[Arch]:
    """Draw archs whose choices lean to the small or to the large side together: uniform ones are all of middle size."""

    def arch(lean: float) -> Arch:
        def pick(choices: Sequence[int]) -> int:
            return choices[int(rng.binomial(len(choices) - 1, lean))]

        stages = []
        for stage in space.stages:
            depth = pick(stage.depths)
            ratios, kernel_sizes = (pick(stage.expand_ratios),) * depth, (pick(stage.kernel_sizes),) * depth
            stages.append(Stage(pick(stage.widths), stage.stride, ratios, kernel_sizes))
        return Arch(
            pick(space.resolutions), pick(space.stem_widths), tuple(stages), tuple(map(pick, space.deconv_widths))
        )

    return [arch(lean) for lean in rng.random(num).tolist()]


def only(arch: Arch, name: str) -> SearchSpace:
    """Return the space called ``name`` whose only arch is ``arch``.

    Raises:
        UserError: Blocks of one stage differ, so that no space holds this arch alone.
    """
    stages = []
    for i, stage in enumerate(arch.stages):
        if len(set(stage.blocks())) > 1:
            raise UserError(
                f"the blocks of stage {i} differ, and a space gives all blocks of a stage the same choices; "
                "take an arch with one expand ratio and one kernel size per stage"
            )
        ratios, kernel_sizes = stage.expand_ratios[:1], stage.kernel_sizes[:1]
        stages.append(StageChoices((stage.width,), (stage.depth,), stage.stride, ratios, kernel_sizes))
    deconv_widths = tuple((width,) for width in arch.deconv_widths)
    return SearchSpace(name, (arch.resolution,), (arch.stem_width,), tuple(stages), deconv_widths)


@dataclass(frozen=True)
class RankAgreement:
    """How well the AP of subnets of a supernet stands for their AP trained alone.

    Attributes:
        num: Archs compared.
        kendall_tau: Of the two rankings, tau-b; None where it is undefined (fewer than 2 archs, or one score for all).
        median_gap: Median of AP alone less AP shared; above 0 where sharing costs AP.
        largest_gap: The largest of these differences.
    """

    num: int
    kendall_tau: float | None
    median_gap: float
    largest_gap: float


def agreement(alone: Sequence[float], shared: Sequence[float]) -> RankAgreement:
    """Compare the AP of the same archs trained ``alone`` and cut from a supernet; there must be one at least."""
    gaps = [one - other for one, other in zip(alone, shared, strict=True)]
    defined = len(set(alone)) > 1 and len(set(shared)) > 1
    tau = float(kendalltau(alone, shared, variant="b").statistic) if defined else math.nan
    return RankAgreement(len(gaps), None if math.isnan(tau) else tau, statistics.median(gaps), max(gaps))
