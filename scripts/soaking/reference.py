"""The result that disturbed cycles are compared with."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Reference:
    """Result of an undisturbed cycle, by stage.

    Attributes:
        results: Results of the commands.
        seconds: Durations; the shortest of all runs without an interruption, as the machine may be busy.
        num_changes: Number of changes of the files that show progress.
        largest_file: Size of the largest file in bytes.
    """

    results: dict[str, dict[str, Any]]
    seconds: dict[str, float]
    num_changes: dict[str, int]
    largest_file: dict[str, int]
