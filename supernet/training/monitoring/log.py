"""The log of a training run: a JSON line per logged step, and the same figures to a tracker."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self, TextIO

from supernet.io import files
from supernet.training.monitoring.trackers import Tracker, TrackerName, open_tracker
from supernet.training.trainer import StepReport

LOG_FILE = "train.jsonl"

logger = logging.getLogger(__name__)


class TrainingLog:
    """Writes ``train.jsonl`` into a run folder and passes its figures to a tracker.

    A resumed run drops lines it will write again.

    Args:
        folder: The run folder.
        start: Next step; logged lines from this step on are removed.
        tracker: Where the figures go besides.
        config: Plain configuration of the run, for the tracker.

    Raises:
        UserError: The folder cannot be written, or the tracker cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        start: int,
        tracker: TrackerName = "tensorboard",
        config: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.path = folder / LOG_FILE
        self._aps: dict[str, float] = {}
        self._tracker_name, self._config = tracker, config
        self._lines, self._tracker = self._open(start)

    def __enter__(self) -> Self:
        """Return the log itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file and the tracker."""
        self._close(is_finished=kind is None)

    def go_back(self, start: int) -> None:
        """Remove the lines from step ``start`` on, because these steps will run again."""
        self._close(is_finished=False)
        self._lines, self._tracker = self._open(start)

    def write(self, report: StepReport, figures: Mapping[str, float]) -> str:
        """Log one step and return a short note for the display of progress: loss, latest APs and learning rate.

        Args:
            report: Report of the step.
            figures: Further figures of the line, such as means since the line before.

        Raises:
            UserError: The disk is full.
        """
        values: dict[str, Any] = {
            "step": report.step,
            "phase": report.phase,
            "resolution": report.resolution,
            "rate": report.rate,
        }
        for name in ("total", "heatmap", "push", "pull"):
            values[name] = float(sum(float(getattr(terms, name)) for terms in report.losses)) / len(report.losses)
        if report.distillation is not None:
            values["distillation"] = float(report.distillation)
        values["gradient_norm"] = float(report.gradient_norm)
        values |= figures
        values["seconds"] = round(report.seconds, 4)
        values["data_share"] = round(report.data_seconds / report.seconds, 4)
        try:
            self._lines.write(json.dumps(values) + "\n")
            self._lines.flush()
            self._tracker.log(report.step, {name: value for name, value in values.items() if isinstance(value, float)})
        except OSError as error:
            raise files.refused(self.path, error) from error
        self._aps |= {name: value for name, value in figures.items() if name.startswith("AP_")}
        aps = [f"AP {'/'.join(f'{value:.3f}' for value in self._aps.values())}"] if self._aps else []
        return ", ".join([f"{report.phase}: loss {values['total']:.4f}", *aps, f"rate {report.rate:.1e}"])

    def rows(self) -> list[dict[str, Any]]:
        """Return all lines of the run so far, including those before it was resumed."""
        return [json.loads(line) for line in self.path.read_text("utf-8").splitlines()]

    def _open(self, start: int) -> tuple[TextIO, Tracker]:
        try:
            if self.path.exists():
                self._drop_from(start)
            tracker = open_tracker(self._tracker_name, self.path.parent, start, self._config)
            try:
                return self.path.open("a", encoding="utf-8"), tracker
            except OSError:
                tracker.close(is_finished=False)
                raise
        except OSError as error:
            raise files.refused(self.path, error) from error

    def _drop_from(self, start: int) -> None:
        """Remove the lines of steps from ``start`` on and damaged lines; a last line that was cut off is no damage."""
        lines = self.path.read_bytes().split(b"\n")
        if _step(lines[-1]) is None:
            lines.pop()
        steps = [_step(line) for line in lines]
        earlier = [line + b"\n" for line, step in zip(lines, steps, strict=True) if step is not None and step < start]
        files.write_bytes(self.path, b"".join(earlier))
        if num_damaged := steps.count(None):
            logger.warning(f"{self.path}: removed {num_damaged} damaged lines; the curves lack them")

    def _close(self, is_finished: bool) -> None:
        try:
            try:
                self._lines.close()
            finally:
                self._tracker.close(is_finished)
        except OSError as error:
            raise files.refused(self.path, error) from error


def _step(line: bytes) -> int | None:
    """Return the step of a line; None if the line is damaged."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    if not isinstance(row, dict) or not isinstance(row.get("phase"), str):
        return None
    step = row.get("step")
    numbers = all(isinstance(value, int | float) for key, value in row.items() if key != "phase")
    return step if isinstance(step, int) and numbers else None
