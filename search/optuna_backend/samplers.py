"""Optuna's samplers by name (no torch, unless the sampler needs it)."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler

from supernet.errors import UserError
from supernet.io.schema import check_numbers


@dataclass(frozen=True)
class SamplerSettings:
    """Which sampler proposes archs.

    Attributes:
        sampler: Key of ``SAMPLERS``.
        startup: Random archs before the sampler learns from scores; for NSGA-II the population size.
    """

    sampler: str = "tpe"
    startup: int = 10

    def __post_init__(self) -> None:
        """Raise UserError for an unknown sampler or too few random archs."""
        if self.sampler not in SAMPLERS:
            raise UserError(f"there is no sampler {self.sampler!r}; choose among {', '.join(SAMPLERS)}")
        check_numbers(self, "startup", least=2)


def make_sampler(settings: SamplerSettings, seed: int) -> BaseSampler:
    """Return a new sampler."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return SAMPLERS[settings.sampler](settings.startup, seed)


def _tpe(startup: int, seed: int) -> BaseSampler:
    return TPESampler(n_startup_trials=startup, seed=seed)


def _nsga2(startup: int, seed: int) -> BaseSampler:
    return NSGAIISampler(population_size=startup, seed=seed)


def _gp(startup: int, seed: int) -> BaseSampler:
    return GPSampler(n_startup_trials=startup, seed=seed, warn_independent_sampling=False)


def _random(startup: int, seed: int) -> BaseSampler:
    return RandomSampler(seed=seed)


SAMPLERS: dict[str, Callable[[int, int], BaseSampler]] = {
    "tpe": _tpe,
    "nsga2": _nsga2,
    "gp": _gp,
    "random": _random,
}
"""Tree-structured Parzen estimator, NSGA-II, Gaussian process, random search."""
