"""Periodic validation of the largest and smallest subnets, with a warning when AP collapses."""

import logging
from collections.abc import Mapping
from typing import Any

from supernet.evaluation.subnet_scorer import SubnetScorer
from supernet.training.trainer import Trainer

_COLLAPSED_SHARE = 0.5
"""An AP below this share of the same subnet's best is a collapse. The first steps of a phase with a higher learning
rate cost less than that."""
_NOISE_AP = 0.05
"""APs below this are noise on few images and lead to no warning."""

logger = logging.getLogger(__name__)


class CollapseDetector:
    """Compares every AP with the same subnet's best. It only warns; it never stops training.

    It warns when an AP falls below half of its best, and when the AP of the smallest subnet is 0 twice in a row while
    that of the largest is not.

    Attributes:
        warnings: All warnings so far.
    """

    def __init__(self) -> None:
        self._best: dict[str, float] = {}
        self._smallest = ""
        self._num_zeros = 0
        self.warnings: list[str] = []

    def update(self, step: int, largest: float, smallest: float, smallest_subnet: str) -> list[str]:
        """Record the AP of two subnets after ``step`` steps and return the warnings about them.

        Args:
            step: Number of steps so far.
            largest: AP of the largest subnet.
            smallest: AP of the smallest subnet of the current phase.
            smallest_subnet: Identifies that subnet; when another phase has another one, its best AP starts from 0.
        """
        if smallest_subnet != self._smallest:
            self._smallest, self._num_zeros = smallest_subnet, 0
            self._best.pop("smallest", None)
        warnings = []
        for name, ap in (("largest", largest), ("smallest", smallest)):
            best = self._best[name] = max(ap, self._best.get(name, 0.0))
            if best >= _NOISE_AP and ap < _COLLAPSED_SHARE * best:
                warnings.append(f"AP of the {name} subnet fell to {ap:.3f} at step {step}, from {best:.3f} at its best")
        self._num_zeros = self._num_zeros + 1 if smallest <= 0 else 0
        if self._num_zeros >= 2 and largest >= _NOISE_AP:
            warnings.append(f"AP of the smallest subnet stays at 0 at step {step}, the largest has {largest:.3f}")
        self.warnings += warnings
        return warnings

    def state(self) -> dict[str, Any]:
        """Return everything that later warnings depend on, as plain values."""
        return {
            "best": dict(self._best),
            "smallest": self._smallest,
            "num_zeros": self._num_zeros,
            "alarms": list(self.warnings),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what :meth:`state` returned."""
        self._best, self._smallest = dict(state["best"]), state["smallest"]
        self._num_zeros, self.warnings = state["num_zeros"], list(state["alarms"])


class PeriodicValidation:
    """Scores calibrated subnets of the averaged weights during training.

    Args:
        scorer: Scores subnets on the validation images; the weights come from the trainer.
        every: Steps between validations; 0 for none.
    """

    def __init__(self, scorer: SubnetScorer, every: int) -> None:
        self.scorer, self.every = scorer, every
        self.detector = CollapseDetector()
        self._done_at = 0

    def run_if_due(self, trainer: Trainer) -> dict[str, float]:
        """Score the subnets if ``every`` steps have passed, and return AP by name.

        The main process logs a warning if an AP collapsed.
        """
        if not self.every or not trainer.step or trainer.step % self.every or trainer.step == self._done_at:
            return {}
        self._done_at = trainer.step
        scorer = self.scorer.with_supernet(trainer.averaged().eval())
        last_phase = next(scheduled for scheduled in trainer.scheduled if trainer.step <= scheduled.stop)
        largest, smallest = trainer.supernet.space.largest(), last_phase.space.smallest()
        largest_ap, smallest_ap = (scorer(arch).metrics["AP"] for arch in (largest, smallest))
        for warning in self.detector.update(trainer.step, largest_ap, smallest_ap, smallest.digest()):
            if scorer.processes.is_main:
                logger.warning(warning)
        return {"AP_largest": largest_ap, "AP_smallest": smallest_ap}

    def state(self) -> dict[str, Any]:
        """Return everything that later validations depend on, as plain values."""
        return {"done_at": self._done_at, "alarm": self.detector.state()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what :meth:`state` returned."""
        self._done_at = state["done_at"]
        self.detector.load_state(state["alarm"])
