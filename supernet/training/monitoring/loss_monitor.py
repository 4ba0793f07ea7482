"""Detects NaN, infinite and diverging losses.

No step waits for the device: figures stay on it until :meth:`LossMonitor.read` fetches all of them at once.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from supernet.arch import Arch
from supernet.training.trainer import StepReport

_MEAN_DECAY = 0.9
"""Decay of the running mean of a loss per step: the mean spans about ten steps."""
_SETTLING_STEPS = 10
"""Steps of a phase before its losses can explode, so that the mean has settled."""


class TrainingDiverged(Exception):
    """A loss or gradient is not finite, or a loss exploded; the message names step, phase, subnet and images.

    Attributes:
        step: Number of the step, from 0.
        images: Ids of the images of the step.
    """

    def __init__(self, report: StepReport, arch: Arch, reason: str) -> None:
        super().__init__()
        self.step = report.step
        self._message = f"{reason} at step {report.step}, phase {report.phase}, subnet {arch.describe()}"
        self.images = [str(int(image_id)) for image_id in report.image_ids]

    def __str__(self) -> str:
        """Return the message with the images, which other processes may have added to."""
        return f"{self._message}, images {', '.join(self.images)}"


class LossMonitor:
    """Follows the losses of every step.

    A loss explodes when the running mean of a role ("largest", "smallest", "random") exceeds ``explosion_factor`` times
    its lowest value in the same phase.

    Args:
        explosion_factor: Above 1; 0 to check only for numbers that are not finite.
    """

    def __init__(self, explosion_factor: float) -> None:
        self.explosion_factor = explosion_factor
        self._pending: list[StepReport] = []
        self._phase, self._num_steps = "", 0
        self._means: dict[str, float] = {}
        self._lowest: dict[str, float] = {}
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def follow(self, report: StepReport) -> None:
        """Record a step without reading its tensors."""
        self._pending.append(report)

    def read(self) -> None:
        """Read the figures of all steps recorded since the last call, waiting for the device once.

        Raises:
            TrainingDiverged: A step's loss or gradient is not finite, or its loss exploded; the first such step.
        """
        reports, self._pending = self._pending, []
        if not reports:
            return
        scalars: list[Tensor] = []
        for report in reports:
            scalars += [*(terms.total for terms in report.losses), report.gradient_norm]
        values = iter(torch.stack(scalars).tolist())
        for report in reports:
            losses = [next(values) for _ in report.losses]
            self._check(report, losses, next(values))

    def figures(self) -> dict[str, float]:
        """Return the mean loss of each role and the mean gap between a step's subnets since the last call."""
        means = {name: total / self._counts[name] for name, total in sorted(self._sums.items())}
        self._sums, self._counts = {}, {}
        return means

    def state(self) -> dict[str, Any]:
        """Return the monitor's state as plain values."""
        assert not self._pending
        return {
            "phase": self._phase,
            "num_steps": self._num_steps,
            "means": dict(self._means),
            "lowest": dict(self._lowest),
            "sums": dict(self._sums),
            "counts": dict(self._counts),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what :meth:`state` returned; recorded steps that were not read are dropped."""
        self._pending = []
        self._phase, self._num_steps = state["phase"], state["num_steps"]
        self._means, self._lowest = dict(state["means"]), dict(state["lowest"])
        self._sums, self._counts = dict(state["sums"]), dict(state["counts"])

    def _check(self, report: StepReport, losses: list[float], norm: float) -> None:
        if report.phase != self._phase:
            self._phase, self._num_steps, self._means, self._lowest = report.phase, 0, {}, {}
        self._num_steps += 1
        for arch, role, loss in zip(report.archs, report.roles, losses, strict=True):
            if not math.isfinite(loss):
                raise TrainingDiverged(report, arch, f"the loss is {loss}")
            mean = _MEAN_DECAY * self._means.get(role, loss) + (1 - _MEAN_DECAY) * loss
            self._means[role] = mean
            lowest = self._lowest[role] = min(mean, self._lowest.get(role, mean))
            if self._num_steps > _SETTLING_STEPS and mean > self.explosion_factor * lowest > 0:
                raise TrainingDiverged(
                    report, arch, f"the loss exploded: its running mean rose from {lowest:.3g} to {mean:.3g}"
                )
            self._count(f"loss_{role}", loss)
        if not math.isfinite(norm):
            raise TrainingDiverged(report, report.archs[0], f"the gradient is {norm}")
        if len(losses) > 1:
            self._count("loss_gap", max(losses) - min(losses))

    def _count(self, name: str, value: float) -> None:
        self._sums[name] = self._sums.get(name, 0.0) + value
        self._counts[name] = self._counts.get(name, 0) + 1
