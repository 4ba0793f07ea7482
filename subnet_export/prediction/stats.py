"""Statistics of a prediction run: images, people, errors and time by step; as a summary file and as text."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from subnet_export.prediction.sources import Source

_MOST_SOURCES = 10
"""Sources that the text lists."""


class Stopwatch:
    """Adds up the seconds of each step of a job; at most one step runs at a time.

    Attributes:
        seconds: By step, in the order in which they first ran.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._step: str | None = None
        self._since = 0.0

    def start(self, step: str | None) -> None:
        """Start ``step`` and end the current one; with None, only end it."""
        now = time.perf_counter()
        if self._step is not None:
            self.seconds[self._step] = self.seconds.get(self._step, 0.0) + now - self._since
        self._step, self._since = step, now

    @property
    def total_seconds(self) -> float:
        """Sum over all steps."""
        return sum(self.seconds.values())

    def percentages(self) -> str:
        """Return the steps with their percentages of the total, as text."""
        total = self.total_seconds or 1.0
        return ", ".join(f"{step} {100 * seconds / total:.0f} %" for step, seconds in self.seconds.items())


@dataclass
class _SourceStats:
    """Numbers of images of one source and of people in them, and the file of their drawing."""

    name: str
    drawing: str | None
    num_frames: int = 0
    num_people: int = 0


@dataclass
class PredictionStats:
    """Statistics of the images so far; only the first few sources are kept, so that memory stays bounded.

    Attributes:
        num_frames: Images, including frames of videos.
        num_people: People in them.
        num_sources: Files or cameras of which at least one image was used.
        errors: One message for each source that could not be read, or not to its end.
        stopped: Whether the user stopped the run before its end.
        stopwatch: Time by step.
    """

    num_frames: int = 0
    num_people: int = 0
    num_sources: int = 0
    errors: list[str] = field(default_factory=list)
    stopped: bool = False
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    _first_sources: list[_SourceStats] = field(default_factory=list)
    _last_source: Source | None = None

    def add(self, source: Source, num_people: int, drawing: str | None) -> None:
        """Count one image."""
        self.num_frames += 1
        self.num_people += num_people
        if source is not self._last_source:
            self._last_source = source
            self.num_sources += 1
            if self.num_sources <= _MOST_SOURCES:
                self._first_sources.append(_SourceStats(source.name, drawing))
        if self.num_sources <= _MOST_SOURCES:
            self._first_sources[-1].num_frames += 1
            self._first_sources[-1].num_people += num_people

    @property
    def frames_per_second(self) -> float:
        """Images divided by the time of all steps; loading the model is not one of them."""
        return self.num_frames / self.stopwatch.total_seconds

    def summary(self) -> dict[str, Any]:
        """Return the entries of ``summary.json``."""
        return {
            "num_images": self.num_frames,
            "num_people": self.num_people,
            "refused": self.errors,
            "stopped": self.stopped,
            "frames_per_second": round(self.frames_per_second, 2),
            "seconds": round(self.stopwatch.total_seconds, 3),
            "seconds_by_part": {step: round(value, 3) for step, value in self.stopwatch.seconds.items()},
        }

    def report(self, folder: Path) -> list[str]:
        """Return lines of text for the user.

        Args:
            folder: Where the drawings are.
        """
        lines = []
        for source in self._first_sources:
            images = f" in {source.num_frames} images" if source.num_frames > 1 else ""
            drawing = f", {folder / source.drawing}" if source.drawing else ""
            people = "person" if source.num_people == 1 else "people"
            lines.append(f"{source.name}: {source.num_people} {people}{images}{drawing}")
        if self.num_sources > _MOST_SOURCES:
            lines.append(f"and {self.num_sources - _MOST_SOURCES} more")
        if self.stopped:
            lines.append("stopped before the end, as requested")
        if self.errors:
            lines.append(f"not read, or only in part: {len(self.errors)}, listed above and in summary.json")
        lines.append(
            f"images: {self.num_frames}, people: {self.num_people}, {self.frames_per_second:.1f} frames/s: "
            f"{self.stopwatch.percentages()}"
        )
        return lines
