"""The log of a training run: a JSON line and TensorBoard scalars per logged step."""

import json
import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from torch.utils.tensorboard import SummaryWriter

from supernet.io import files
from supernet.training.trainer import StepReport

LOG_FILE = "train.jsonl"

logger = logging.getLogger(__name__)


class TrainingLog:
    """Writes ``train.jsonl`` and TensorBoard events into a run folder; a resumed run drops lines it will write again.

    Args:
        folder: The run folder.
        start: Next step; logged lines from this step on are removed.

    Raises:
        UserError: The folder cannot be written.
    """

    def __init__(self, folder: Path, start: int) -> None:
        self.path = folder / LOG_FILE
        self._aps: dict[str, float] = {}
        # On a full disk TensorBoard's thread fails first. Its error is raised again at the next write, where it becomes
        # a UserError, so the thread's own traceback is suppressed.
        self._hook = threading.excepthook
        threading.excepthook = self._suppress_disk_errors
        try:
            self._lines, self._events = self._open(start)
        except BaseException:
            threading.excepthook = self._hook
            raise

    def __enter__(self) -> Self:
        """Return the log itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close both files."""
        try:
            self._close()
        finally:
            threading.excepthook = self._hook

    def go_back(self, start: int) -> None:
        """Remove the lines from step ``start`` on, because these steps will run again."""
        self._close()
        self._lines, self._events = self._open(start)

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
            for name, value in values.items():
                if isinstance(value, float):
                    self._events.add_scalar(f"train/{name}", value, report.step)
        except OSError as error:
            raise files.refused(self.path, error) from error
        self._aps |= {name: value for name, value in figures.items() if name.startswith("AP_")}
        aps = [f"AP {'/'.join(f'{value:.3f}' for value in self._aps.values())}"] if self._aps else []
        return ", ".join([f"{report.phase}: loss {values['total']:.4f}", *aps, f"rate {report.rate:.1e}"])

    def rows(self) -> list[dict[str, Any]]:
        """Return all lines of the run so far, including those before it was resumed."""
        return [json.loads(line) for line in self.path.read_text("utf-8").splitlines()]

    def _open(self, start: int) -> tuple[TextIO, SummaryWriter]:
        try:
            if self.path.exists():
                self._drop_from(start)
            return self.path.open("a", encoding="utf-8"), SummaryWriter(str(self.path.parent), purge_step=start)
        except OSError as error:
            raise files.refused(self.path, error) from error

    def _suppress_disk_errors(self, failed: threading.ExceptHookArgs) -> None:
        if not isinstance(failed.exc_value, OSError):
            self._hook(failed)

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

    def _close(self) -> None:
        try:
            self._lines.close()
            self._events.close()
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
