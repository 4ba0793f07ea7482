"""Independent streams of random numbers, one for each purpose.

A generator is seeded with its stream and a key such as (seed, step), so that the numbers depend on nothing else and
two purposes never draw the same ones.
"""

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What random numbers are drawn for. The values are part of every seed: a run repeats only if they stay."""

    STEP_RESOLUTION = 0
    """Key (seed, step): the input resolution of a training step."""
    IMAGE_ORDER = 1
    """Key (seed, epoch): the order of the training images."""
    STEP_ARCHS = 2
    """Key (seed, step, slot): the random subnets of a training step."""
    REPORT_ARCHS = 3
    """Key (seed,): the random subnets in a run's final report."""
    STUDY_ARCHS = 4
    """Key (seed,): the archs compared in the study of weight sharing."""

    def generator(self, *key: int) -> np.random.Generator:
        """Return the stream's generator for ``key``."""
        return np.random.default_rng((int(self), *key))
