"""Counts of a soak: faults and their outcomes, repeated work, and defects."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from scripts.soaking.faults import KINDS
from supernet.compute import machine

CONTINUED, REPORTED = "completed with the same result", "refused in one sentence"
"""Outcomes of a fault that is survived."""


@dataclass
class Fault:
    """One injected fault.

    Attributes:
        stage: Name of the command.
        kind: One of ``KINDS``.
        detail: Description of the fault.
        outcome: ``CONTINUED`` or ``REPORTED``; empty while pending, and for a fault that was not survived.
        warned: Whether a warning of the command names the damaged file.
    """

    stage: str
    kind: str
    detail: str
    outcome: str = ""
    warned: bool = False


@dataclass(frozen=True)
class Defect:
    """Something that must not happen.

    Attributes:
        cycle: Number of the cycle.
        stage: Name of the command.
        what: Description of the defect.
        faults: Pending faults of the stage, the newest last.
        command: The command line.
        output: Last lines of its output.
        folder: Folder with all files as the defect left them.
    """

    cycle: int
    stage: str
    what: str
    faults: tuple[str, ...]
    command: str
    output: str
    folder: str


@dataclass
class Counts:
    """All counts of a soak.

    Attributes:
        faults: Injected faults.
        defects: Defects found.
        cycles: Completed cycles.
        commands: Started processes.
        kills_during_write: Commands killed during a write, so that a temporary file was left.
        lost_steps: Steps of each interrupted training beyond its newest good checkpoint.
        repeated_scores: Evaluations that a search repeated although their scores were written, by cycle.
        retried_trials: Evaluations that Optuna's search retried, by cycle.
    """

    faults: list[Fault] = field(default_factory=list)
    defects: list[Defect] = field(default_factory=list)
    cycles: int = 0
    commands: int = 0
    kills_during_write: int = 0
    lost_steps: list[int] = field(default_factory=list)
    repeated_scores: list[int] = field(default_factory=list)
    retried_trials: list[int] = field(default_factory=list)

    def summary_line(self) -> str:
        """Return one line with the most important counts."""
        survived = sum(bool(fault.outcome) for fault in self.faults)
        return f"{self.cycles} cycles, {len(self.faults)} faults, {survived} survived, {len(self.defects)} defects"

    def report(self) -> dict[str, Any]:
        """Return all counts as plain values, with the machine and software versions."""
        return {
            "cycles": self.cycles,
            "commands": self.commands,
            "faults": len(self.faults),
            "survived": sum(bool(fault.outcome) for fault in self.faults),
            "by_kind": {kind: _outcomes([fault for fault in self.faults if fault.kind == kind]) for kind in KINDS},
            "by_stage": {
                stage: _outcomes([fault for fault in self.faults if fault.stage == stage])
                for stage in dict.fromkeys(fault.stage for fault in self.faults)
            },
            "kills_during_a_write": self.kills_during_write,
            "work_lost": {
                "training_steps": {
                    "interruptions": len(self.lost_steps),
                    "most": max(self.lost_steps, default=0),
                    "sum": sum(self.lost_steps),
                },
                "evaluations_repeated": sum(self.repeated_scores),
                "optuna_evaluations_retried": sum(self.retried_trials),
            },
            "defects": [asdict(defect) for defect in self.defects],
            "machine": machine.machine(),
            "versions": machine.versions(),
        }


def _outcomes(faults: Sequence[Fault]) -> dict[str, int]:
    counts = Counter(fault.outcome or "open" for fault in faults)
    return {"injected": len(faults), **counts, "named in a warning": sum(fault.warned for fault in faults)}
