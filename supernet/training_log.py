"""Curves of a training run: TensorBoard scalars and one JSON line per logged step."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from torch.utils.tensorboard import SummaryWriter

from supernet import files
from supernet.loop import StepReport

LOG_FILE = "train.jsonl"


class TrainingLog:
    """Writes ``train.jsonl`` and TensorBoard events into a run folder; a resumed run drops what it will write again.

    Args:
        folder: The run folder.
        start: First step to come; logged lines from there on are removed.

    Raises:
        UserError: The folder cannot be written.
    """

    def __init__(self, folder: Path, start: int) -> None:
        self.path = folder / LOG_FILE
        self._lines, self._events = self._open(start)

    def __enter__(self) -> Self:
        """Return the log itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close both files."""
        self._close()

    def go_back(self, start: int) -> None:
        """Drop the lines from step ``start`` on, which is to be run again."""
        self._close()
        self._lines, self._events = self._open(start)

    def write(self, report: StepReport, figures: Mapping[str, float]) -> str:
        """Log one step and return a short note for people.

        Args:
            report: Of the step.
            figures: What else belongs to it, such as means since the line before.

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
        return f"{report.phase}: loss {values['total']:.4f}"

    def rows(self) -> list[dict[str, Any]]:
        """Return all lines written so far, by this process and those it went on from."""
        return [json.loads(line) for line in self.path.read_text("utf-8").splitlines()]

    def _open(self, start: int) -> tuple[TextIO, SummaryWriter]:
        try:
            if self.path.exists():
                kept = [line for line in self.path.read_text("utf-8").splitlines() if _step(line) < start]
                files.write_text(self.path, "".join(line + "\n" for line in kept))
            return self.path.open("a", encoding="utf-8"), SummaryWriter(str(self.path.parent), purge_step=start)
        except OSError as error:
            raise files.refused(self.path, error) from error

    def _close(self) -> None:
        try:
            self._lines.close()
            self._events.close()
        except OSError as error:
            raise files.refused(self.path, error) from error


def _step(line: str) -> int:
    """Step of one line; a line cut off by a crash counts as one to be dropped."""
    try:
        return int(json.loads(line)["step"])
    except json.JSONDecodeError:
        return 2**63
