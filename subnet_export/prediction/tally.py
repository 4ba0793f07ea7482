"""What a prediction run says in the end: how many people, how fast, and what could not be used."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from subnet_export.prediction.sources import Source

_MOST_LINES = 10


class Stopwatch:
    """Adds up the seconds of each part of a job; one part runs at a time.

    Attributes:
        seconds: By part, in the order in which they first ran.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._part: str | None = None
        self._since = 0.0

    def start(self, part: str | None) -> None:
        """Begin ``part`` and end the one that ran; with None, nothing runs."""
        now = time.perf_counter()
        if self._part is not None:
            self.seconds[self._part] = self.seconds.get(self._part, 0.0) + now - self._since
        self._part, self._since = part, now

    @property
    def total_seconds(self) -> float:
        """Sum over all parts."""
        return sum(self.seconds.values())

    def shares(self) -> str:
        """Return the parts with their percentages, for people."""
        total = self.total_seconds or 1.0
        return ", ".join(f"{part} {100 * seconds / total:.0f} %" for part, seconds in self.seconds.items())


@dataclass
class _Done:
    """One source: its images, the people in them and the file of their drawing."""

    name: str
    num_frames: int
    num_people: int
    drawing: str | None


@dataclass
class PredictionStats:
    """What has been done so far; of the sources only the first few are remembered.

    Attributes:
        num_frames, num_people: Images (frames of videos included), and people in them.
        num_sources: Files or cameras of which at least one image was used.
        broken: Why each source that could not be used, or not to its end, could not.
        stopped: Whether the end was asked for before everything was done.
        watch: Where the time went.
    """

    num_frames: int = 0
    num_people: int = 0
    num_sources: int = 0
    broken: list[str] = field(default_factory=list)
    stopped: bool = False
    watch: Stopwatch = field(default_factory=Stopwatch)
    _first: list[_Done] = field(default_factory=list)
    _last: Source | None = None

    def add(self, source: Source, num_people: int, drawing: str | None) -> None:
        """Count one image."""
        self.num_frames += 1
        self.num_people += num_people
        if source is not self._last:
            self._last = source
            self.num_sources += 1
            if self.num_sources <= _MOST_LINES:
                self._first.append(_Done(source.name, 0, 0, drawing))
        if self.num_sources <= _MOST_LINES:
            self._first[-1].num_frames += 1
            self._first[-1].num_people += num_people

    @property
    def frames_per_second(self) -> float:
        """Images over the time of all parts; loading the model is not one of them."""
        return self.num_frames / self.watch.total_seconds

    def figures(self) -> dict[str, Any]:
        """Return what the summary file says."""
        return {
            "num_images": self.num_frames,
            "num_people": self.num_people,
            "refused": self.broken,
            "stopped": self.stopped,
            "frames_per_second": round(self.frames_per_second, 2),
            "seconds": round(self.watch.total_seconds, 3),
            "seconds_by_part": {part: round(value, 3) for part, value in self.watch.seconds.items()},
        }

    def report(self, folder: Path) -> list[str]:
        """Return the lines for people."""
        lines = []
        for done in self._first:
            images = f"{done.num_people} people" + (f" in {done.num_frames} images" if done.num_frames > 1 else "")
            lines.append(f"{done.name}: {images}" + (f", {folder / done.drawing}" if done.drawing else ""))
        if self.num_sources > _MOST_LINES:
            lines.append(f"and {self.num_sources - _MOST_LINES} more")
        if self.stopped:
            lines.append("stopped before the end, as asked")
        if self.broken:
            lines.append(f"not or not wholly used: {len(self.broken)}, named above and in summary.json")
        lines.append(
            f"images: {self.num_frames}, people: {self.num_people}, {self.frames_per_second:.1f} frames/s: "
            f"{self.watch.shares()}"
        )
        return lines
