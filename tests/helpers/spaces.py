"""Small search spaces that several test files share."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from supernet.arch import Arch, Stage
from supernet.space import SearchSpace, StageChoices

TINY: dict[str, Any] = {
    "name": "tiny",
    "resolutions": [64, 96],
    "stem_widths": [8],
    "stages": [
        {"widths": [8], "depths": [1], "stride": 2, "expand_ratios": [2], "kernel_sizes": [3, 5]},
        {"widths": [8, 16], "depths": [1], "stride": 2, "expand_ratios": [2], "kernel_sizes": [3]},
        {"widths": [16], "depths": [1, 2], "stride": 2, "expand_ratios": [2], "kernel_sizes": [3]},
        {"widths": [24], "depths": [1], "stride": 1, "expand_ratios": [2, 3], "kernel_sizes": [3]},
    ],
    "deconv_widths": [[8], [8], [8]],
}
"""For trainings: elastic in every dimension, as plain values for a configuration."""

_SHALLOW = {"widths": [8, 16], "depths": [1], "stride": 2, "expand_ratios": [3], "kernel_sizes": [3, 5]}
SHALLOW: dict[str, Any] = {
    "name": "tiny",
    "resolutions": [64],
    "stem_widths": [8],
    "stages": [_SHALLOW, _SHALLOW, _SHALLOW, {**_SHALLOW, "stride": 1}],
    "deconv_widths": [[8, 16], [8], [8]],
}
"""For evaluation and export: one resolution and one block per stage, as plain values."""

_FIXED = StageChoices((24,), (1,), 2, (3,), (3,))
FIXED_STAGES = SearchSpace(
    "tiny", (64, 96), (8, 16), (_FIXED, _FIXED, _FIXED, replace(_FIXED, stride=1)), ((16, 24), (16, 24), (16, 24))
)
"""32 archs: every stage is fixed."""


def enumerate_archs(space: SearchSpace) -> Iterator[Arch]:
    """Every arch of a space, by enumeration."""
    stages = []
    for choices in space.stages:
        blocks = list(itertools.product(choices.expand_ratios, choices.kernel_sizes))
        stages.append(
            [
                Stage(width, choices.stride, tuple(b[0] for b in chosen), tuple(b[1] for b in chosen))
                for width in choices.widths
                for depth in choices.depths
                for chosen in itertools.product(blocks, repeat=depth)
            ]
        )
    for resolution, stem in itertools.product(space.resolutions, space.stem_widths):
        for chosen in itertools.product(*stages):
            for deconv in itertools.product(*space.deconv_widths):
                yield Arch(resolution, stem, chosen, deconv)
