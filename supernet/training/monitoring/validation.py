"""Whether the supernet still is what it was: AP of its largest and smallest subnet now and then while it trains."""

import warnings
from collections.abc import Mapping
from typing import Any

from supernet.evaluation.subnet_scorer import SubnetScorer
from supernet.training.phases import ScheduledPhase
from supernet.training.trainer import Trainer

_FALL = 0.5
"""An AP below this share of the best that the same subnet had is a collapse. A phase that begins with a higher rate
costs some AP for a while, which is none."""
_LEAST_AP = 0.05
"""A best AP, or the largest subnet's, below this says nothing: small figures on few images are noise."""


class CollapseDetector:
    """Compares every AP with the best that the same subnet had; it only speaks, it stops nothing.

    It speaks when an AP falls below half of its best, and when that of the smallest subnet is 0 a second time in a row
    while the largest has some.
    """

    def __init__(self) -> None:
        self._best: dict[str, float] = {}
        self._smallest = ""
        self._num_zeros = 0
        self.alarms: list[str] = []

    def update(self, step: int, largest: float, smallest: float, smallest_name: str) -> list[str]:
        """Note the AP of two subnets after ``step`` steps and return the alarms they give.

        Args:
            step: Number of steps so far.
            largest: AP of the largest subnet.
            smallest: AP of the smallest one that the present phase trains.
            smallest_name: Which that is; another phase may have another, whose best then counts anew.
        """
        if smallest_name != self._smallest:
            self._smallest, self._num_zeros = smallest_name, 0
            self._best.pop("smallest", None)
        found = []
        for name, ap in (("largest", largest), ("smallest", smallest)):
            best = self._best[name] = max(ap, self._best.get(name, 0.0))
            if best >= _LEAST_AP and ap < _FALL * best:
                found.append(f"AP of the {name} subnet fell to {ap:.3f} at step {step}, from {best:.3f} at its best")
        self._num_zeros = self._num_zeros + 1 if smallest <= 0 else 0
        if self._num_zeros >= 2 and largest >= _LEAST_AP:
            found.append(f"AP of the smallest subnet stays at 0 at step {step}, the largest has {largest:.3f}")
        self.alarms += found
        return found

    def state(self) -> dict[str, Any]:
        """Return everything that decides the alarms to come, plain values."""
        return {
            "best": dict(self._best),
            "smallest": self._smallest,
            "num_zeros": self._num_zeros,
            "alarms": list(self.alarms),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what :meth:`state` returned."""
        self._best, self._smallest = dict(state["best"]), state["smallest"]
        self._num_zeros, self.alarms = state["num_zeros"], list(state["alarms"])


class PeriodicValidation:
    """Evaluates calibrated subnets of the averaged weights while training goes on.

    Args:
        scorer: Of validation images; its supernet is replaced by the trainer's averaged one at each evaluation.
        every: Steps between evaluations; 0 for none.
    """

    def __init__(self, scorer: SubnetScorer, every: int) -> None:
        self.scorer, self.every = scorer, every
        self.alarm = CollapseDetector()
        self._done_at = 0

    def run_if_due(self, trainer: Trainer, scheduled: ScheduledPhase) -> dict[str, float]:
        """Evaluate if as many steps have gone by, and return AP by name; alarms are warnings.

        Args:
            trainer: Between two steps.
            scheduled: The phase of the last step.
        """
        if not self.every or trainer.step % self.every or trainer.step == self._done_at:
            return {}
        self._done_at = trainer.step
        self.scorer.supernet = trainer.averaged().eval()
        space = trainer.supernet.space
        largest, smallest = space.largest(), scheduled.space.smallest()
        found = {name: self.scorer(arch).metrics["AP"] for name, arch in (("largest", largest), ("smallest", smallest))}
        for told in self.alarm.update(trainer.step, found["largest"], found["smallest"], smallest.describe()):
            warnings.warn(told, stacklevel=2)
        return {f"AP_{name}": ap for name, ap in found.items()}

    def state(self) -> dict[str, Any]:
        """Return everything that decides the evaluations to come, plain values."""
        return {"done_at": self._done_at, "alarm": self.alarm.state()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what :meth:`state` returned."""
        self._done_at = state["done_at"]
        self.alarm.load_state(state["alarm"])
