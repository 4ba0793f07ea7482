"""Where the time of a job went."""

import time


class Stopwatch:
    """Adds up the seconds of each part of a job; one part runs at a time.

    Attributes:
        seconds: By part, in the order in which they first ran.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._part: str | None = None
        self._since = 0.0

    def turn_to(self, part: str | None) -> None:
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
