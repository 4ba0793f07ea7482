"""What follows a training run: its health, what it covered, and the one return to the last checkpoint."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supernet.errors import UserError
from supernet.training import run_folder
from supernet.training.monitoring.coverage import Coverage, untrained_weights
from supernet.training.monitoring.loss_monitor import LossMonitor, TrainingDiverged
from supernet.training.monitoring.validation import PeriodicValidation
from supernet.training.phases import ScheduledPhase
from supernet.training.trainer import StepReport, Trainer

_MOST_NAMED = 5


@dataclass(frozen=True)
class Rollback:
    """One return to a checkpoint.

    Attributes:
        reason: What had happened, with its step, phase, subnet and images.
        failed_step: The step that went wrong.
        back_to: Number of steps that the checkpoint had seen.
        rate_factor: What all learning rates are multiplied with since.
    """

    reason: str
    failed_step: int
    back_to: int
    rate_factor: float


class TrainingMonitor:
    """Follows the steps of a trainer.

    Args:
        trainer: Whose steps are followed.
        explosion_factor: See :class:`supernet.training.monitoring.loss_monitor.LossMonitor`.
        rollback_factor: What learning rates are multiplied with at the one return to the last checkpoint; 0 to stop at
            once instead.
        evaluation: AP now and then; None for none.
    """

    def __init__(
        self,
        trainer: Trainer,
        explosion_factor: float,
        rollback_factor: float,
        evaluation: PeriodicValidation | None,
    ) -> None:
        self.trainer, self.rollback_factor, self.evaluation = trainer, rollback_factor, evaluation
        self.losses = LossMonitor(explosion_factor)
        self.coverage = Coverage(trainer.scheduled)
        self.rollbacks: list[Rollback] = []
        self._aps: dict[str, float] = {}

    def follow(self, report: StepReport) -> None:
        """Note a step without reading its figures."""
        self.losses.follow(report)
        self.coverage.follow(report)

    def evaluate_if_due(self) -> None:
        """Evaluate if it is time to; the next logged line holds the result."""
        if self.evaluation is not None and self.trainer.step:
            self._aps |= self.evaluation.run_if_due(
                self.trainer, _phase_of(self.trainer.scheduled, self.trainer.step - 1)
            )

    def figures(self) -> dict[str, float]:
        """Return what is to be logged since the last call."""
        found, self._aps = self.losses.figures() | self._aps, {}
        return found

    def roll_back(self, failure: TrainingDiverged, folder: Path) -> Rollback:
        """Take trainer and figures back to the last checkpoint in ``folder``, with lower learning rates from now on.

        Raises:
            UserError: It has been done once before, or is not wanted.
        """
        if self.rollbacks or not self.rollback_factor:
            before = f" after a return to step {self.rollbacks[0].back_to} with lower rates" if self.rollbacks else ""
            raise UserError(
                f"{failure}{before}; the last good checkpoint is {folder / run_folder.CHECKPOINT_FILE}, start a new "
                "run with a lower learning_rate of its phases or a lower clip_norm"
            ) from failure
        state = run_folder.load_checkpoint(folder)
        self.trainer.load_state(state["trainer"])
        self.load_state(state["watch"])
        self.trainer.rate_factor *= self.rollback_factor
        self.rollbacks.append(Rollback(str(failure), failure.step, self.trainer.step, self.trainer.rate_factor))
        return self.rollbacks[-1]

    def summary(self) -> dict[str, Any]:
        """Return what a finished run tells of its health, plain values."""
        return {
            "rollbacks": [vars(each) for each in self.rollbacks],
            "alarms": [] if self.evaluation is None else self.evaluation.alarm.alarms,
            "weights": untrained_weights(self.trainer),
            "choices_never_trained": self.coverage.never_trained(),
            "coverage": {
                phase: {place: {str(choice): n for choice, n in counts.items()} for place, counts in tables.items()}
                for phase, tables in self.coverage.counts.items()
            },
        }

    def state(self) -> dict[str, Any]:
        """Return everything that decides what is told and done from here on, plain values."""
        return {
            "losses": self.losses.state(),
            "coverage": self.coverage.state(),
            "evaluation": None if self.evaluation is None else self.evaluation.state(),
            "rollbacks": [dict(vars(each)) for each in self.rollbacks],
            "aps": dict(self._aps),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what :meth:`state` returned."""
        self.losses.load_state(state["losses"])
        self.coverage.load_state(state["coverage"])
        if self.evaluation is not None:
            self.evaluation.load_state(state["evaluation"])
        self.rollbacks = [Rollback(**each) for each in state["rollbacks"]]
        self._aps = dict(state["aps"])


def _phase_of(scheduled: Sequence[ScheduledPhase], step: int) -> ScheduledPhase:
    return next(each for each in scheduled if step < each.stop)


def warn_untrained(summary: Mapping[str, Any]) -> None:
    """Warn of choices and weights that a finished run never trained, as :meth:`TrainingMonitor.summary` gives them."""
    if choices := summary["choices_never_trained"]:
        warnings.warn(
            f"{len(choices)} choices were never trained, such as {', '.join(choices[:_MOST_NAMED])}; train longer or "
            "take them out of the space",
            stacklevel=2,
        )
    weights = summary["weights"]
    if weights["num_never_trained"]:
        warnings.warn(
            f"{weights['num_never_trained']:,} of {weights['num_weights']:,} weights were never trained, such as "
            f"{', '.join(weights['never_trained'])}; train longer or let a phase make their dimension elastic",
            stacklevel=2,
        )
