"""Monitors a training run and performs at most one rollback to the last checkpoint."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supernet.errors import UserError
from supernet.training import run_folder
from supernet.training.monitoring.coverage import Coverage, untrained_weights
from supernet.training.monitoring.loss_monitor import LossMonitor, TrainingDiverged
from supernet.training.monitoring.validation import PeriodicValidation
from supernet.training.trainer import StepReport, Trainer

_MAX_NAMED = 5
"""Untrained choices in a warning."""

_HEADS = (".final_refined.", ".final_raw.")
"""In the names of the last layers."""
_TAGS = ("network.final_refined.0.conv.3.", "network.final_raw.0.conv.3.")
"""Beginnings of the names of the layers that predict tags, beside the heatmaps of the coarser output."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rollback:
    """One rollback to a checkpoint.

    Attributes:
        reason: The failure, with its step, phase, subnet and images.
        failed_step: The step that diverged.
        back_to: Number of steps in the checkpoint.
        rate_factor: Factor on all learning rates from then on.
    """

    reason: str
    failed_step: int
    back_to: int
    rate_factor: float


class TrainingMonitor:
    """Follows the steps of a trainer.

    Args:
        trainer: The trainer.
        explosion_factor: See :class:`supernet.training.monitoring.loss_monitor.LossMonitor`.
        rollback_factor: Factor on all learning rates at the one rollback; 0 to stop instead of rolling back.
        validation: Measures AP during training; None for none.
    """

    def __init__(
        self,
        trainer: Trainer,
        explosion_factor: float,
        rollback_factor: float,
        validation: PeriodicValidation | None,
    ) -> None:
        self.trainer, self.rollback_factor, self.validation = trainer, rollback_factor, validation
        self.losses = LossMonitor(explosion_factor)
        self.coverage = Coverage(trainer.scheduled)
        self.rollbacks: list[Rollback] = []
        self._aps: dict[str, float] = {}

    def follow(self, report: StepReport) -> None:
        """Record a step without reading its figures."""
        self.losses.follow(report)
        self.coverage.follow(report)

    def validate_if_due(self) -> None:
        """Measure AP if it is time to; the next logged line holds the result."""
        if self.validation is not None:
            self._aps |= self.validation.run_if_due(self.trainer)

    def figures(self) -> dict[str, float]:
        """Return the mean losses and the APs since the last call."""
        figures, self._aps = self.losses.figures() | self._aps, {}
        return figures

    def roll_back(self, failure: TrainingDiverged, folder: Path) -> Rollback:
        """Return trainer and figures to the last checkpoint in ``folder``, and lower all learning rates from now on.

        Raises:
            UserError: There was a rollback before, or ``rollback_factor`` is 0.
        """
        if self.rollbacks or not self.rollback_factor:
            before = f" after a rollback to step {self.rollbacks[0].back_to} with lower rates" if self.rollbacks else ""
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
        """Return the health of a finished run as plain values."""
        return {
            "rollbacks": [vars(rollback) for rollback in self.rollbacks],
            "alarms": [] if self.validation is None else self.validation.detector.warnings,
            "weights": untrained_weights(self.trainer),
            "choices_never_trained": self.coverage.never_trained(),
            "coverage": {
                phase: {place: {str(choice): n for choice, n in counts.items()} for place, counts in tables.items()}
                for phase, tables in self.coverage.counts.items()
            },
        }

    def state(self) -> dict[str, Any]:
        """Return everything that later figures, warnings and rollbacks depend on, as plain values."""
        return {
            "losses": self.losses.state(),
            "coverage": self.coverage.state(),
            "evaluation": None if self.validation is None else self.validation.state(),
            "rollbacks": [dict(vars(rollback)) for rollback in self.rollbacks],
            "aps": dict(self._aps),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what :meth:`state` returned."""
        self.losses.load_state(state["losses"])
        self.coverage.load_state(state["coverage"])
        if self.validation is not None:
            self.validation.load_state(state["evaluation"])
        self.rollbacks = [Rollback(**values) for values in state["rollbacks"]]
        self._aps = dict(state["aps"])


def warn_untrained(summary: Mapping[str, Any], unlabelled: Sequence[str] = ()) -> None:
    """Log a warning about choices and weights that a run never trained.

    Args:
        summary: Of :meth:`TrainingMonitor.summary`.
        unlabelled: Keypoints that no training image is labelled with: nothing trains their tags, in any space.
    """
    if choices := summary["choices_never_trained"]:
        logger.warning(
            f"choices of the space that were never trained: {len(choices)}, such as {', '.join(choices[:_MAX_NAMED])}; "
            "train longer or remove them"
        )
    weights = summary["weights"]
    is_of_heads = all(any(head in name for head in _HEADS) for name in weights["never_trained"])
    if weights["num_never_trained"] and unlabelled and is_of_heads:
        logger.warning(
            f"{weights['num_never_trained']:,} weights of the last layers were never trained, because these keypoints "
            f"are labelled on no training image: {', '.join(unlabelled[:_MAX_NAMED])}; label them or remove them from "
            "the keypoints"
        )
    elif weights["num_never_trained"] and all(name.startswith(_TAGS) for name in weights["never_trained"]):
        logger.warning(
            f"{weights['num_never_trained']:,} weights of the tags were never trained, which learn from images of "
            "several people and from people with several keypoints; train longer if there are any"
        )
    elif weights["num_never_trained"]:
        logger.warning(
            f"{weights['num_never_trained']:,} of {weights['num_weights']:,} weights were never trained, such as "
            f"{', '.join(weights['never_trained'])}; train longer or let a phase make their dimension elastic"
        )
