"""The archs of the study ``python -m scripts.studies.weight_sharing``, and the agreement of their scores (no torch).

To be trained alone, an arch must be the only arch of a search space. A space gives all blocks of a stage the same
choices, so only archs in which all blocks of a stage are equal are drawn.
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
from supernet.random_streams import Stream
from supernet.space import SearchSpace
from supernet.stage_choices import StageChoices

_DRAWS_PER_ARCH = 150


def spread_archs(space: SearchSpace, num: int, num_keypoints: int, seed: int) -> list[Arch]:
    """Return ``num`` archs of ``space`` by MACs, including the smallest and the largest.

    The range of log MACs between these two is divided into equal intervals, each with a random arch. All blocks of a
    stage have the same expand ratio and kernel size.

    Raises:
        UserError: ``num`` is below 3, or no arch was found in an interval.
    """
    if num < 3:
        raise UserError(f"num_archs must be at least 3 (the smallest, the largest and one between them), got {num}")
    rng = Stream.STUDY_ARCHS.generator(seed)
    smallest, largest = space.smallest(), space.largest()
    edges = np.geomspace(macs(smallest, num_keypoints), macs(largest, num_keypoints), num - 1)
    drawn = [(macs(arch, num_keypoints), arch) for arch in _random_archs(space, num * _DRAWS_PER_ARCH, rng)]
    archs = [smallest]
    for low, high in pairwise(edges.tolist()):
        candidates = [arch for cost, arch in drawn if low <= cost < high and arch not in (smallest, largest)]
        if not candidates:
            raise UserError(
                f"no arch of space {space.name} was found between {low / 1e6:.1f} and {high / 1e6:.1f} million "
                f"multiply-adds; num_archs below {num} makes wider intervals"
            )
        archs.append(candidates[int(rng.integers(len(candidates)))])
    return sorted([*archs, largest], key=lambda arch: macs(arch, num_keypoints))


def _random_archs(space: SearchSpace, num: int, rng: np.random.Generator) -> list[Arch]:
    """Draw archs of all sizes: each has a level between small and large, near which all of its choices are drawn.

    Archs of independent uniform choices would all be of medium size.
    """

    def arch_of_level(level: float) -> Arch:
        def pick(choices: Sequence[int]) -> int:
            return choices[int(rng.binomial(len(choices) - 1, level))]

        stages = []
        for stage in space.stages:
            depth = pick(stage.depths)
            ratios, kernel_sizes = (pick(stage.expand_ratios),) * depth, (pick(stage.kernel_sizes),) * depth
            stages.append(Stage(pick(stage.widths), stage.stride, ratios, kernel_sizes))
        return Arch(
            pick(space.resolutions), pick(space.stem_widths), tuple(stages), tuple(map(pick, space.deconv_widths))
        )

    return [arch_of_level(level) for level in rng.random(num).tolist()]


def single_arch_space(arch: Arch, name: str) -> SearchSpace:
    """Return the space called ``name`` whose only arch is ``arch``.

    Raises:
        UserError: Blocks of a stage differ, so that every space with this arch has other archs.
    """
    stages = []
    for i, stage in enumerate(arch.stages):
        if len(set(stage.blocks())) > 1:
            raise UserError(
                f"the blocks of stage {i} differ, but all blocks of a stage must have the same expand ratio and kernel "
                "size; choose another arch"
            )
        ratios, kernel_sizes = stage.expand_ratios[:1], stage.kernel_sizes[:1]
        stages.append(StageChoices((stage.width,), (stage.depth,), stage.stride, ratios, kernel_sizes))
    deconv_widths = tuple((width,) for width in arch.deconv_widths)
    return SearchSpace(name, (arch.resolution,), (arch.stem_width,), tuple(stages), deconv_widths)


@dataclass(frozen=True)
class RankAgreement:
    """How well the AP of subnets of a supernet agrees with the AP of the same archs trained alone.

    Attributes:
        num: Number of archs.
        kendall_tau: Tau-b of the two rankings; None if undefined (fewer than 2 archs, or all scores equal).
        median_gap: Median of AP alone minus AP shared; positive if sharing costs AP.
        largest_gap: Maximum of these differences.
    """

    num: int
    kendall_tau: float | None
    median_gap: float
    largest_gap: float


def agreement(alone: Sequence[float], shared: Sequence[float]) -> RankAgreement:
    """Compare the AP of archs trained ``alone`` with their AP as subnets of a supernet; at least one arch is needed."""
    gaps = [ap_alone - ap_shared for ap_alone, ap_shared in zip(alone, shared, strict=True)]
    defined = len(set(alone)) > 1 and len(set(shared)) > 1
    tau = float(kendalltau(alone, shared, variant="b").statistic) if defined else math.nan
    return RankAgreement(len(gaps), None if math.isnan(tau) else tau, statistics.median(gaps), max(gaps))
