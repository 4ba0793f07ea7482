"""What disturbed cycles are compared with."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Reference:
    """What an undisturbed cycle came to, by stage.

    Attributes:
        results: Of the commands.
        seconds: That they took; the least of all that were not struck, as the machine may be busy.
        num_signs: How often the files that show the work changed.
        largest_file: Bytes.
    """

    results: dict[str, dict[str, Any]]
    seconds: dict[str, float]
    num_signs: dict[str, int]
    largest_file: dict[str, int]
