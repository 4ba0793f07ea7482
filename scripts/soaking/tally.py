"""What was counted: faults, how they were survived, work done again, and defects."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from scripts.soaking.faults import KINDS
from supernet.compute import machine

CONTINUED, TOLD = "went on to the same result", "refused in one sentence"


@dataclass
class Fault:
    """One fault that was injected.

    Attributes:
        stage: Which command it met.
        kind: One of ``KINDS``.
        detail: What was done, for people.
        outcome: How it was survived; empty while that is open, and for good if it was not.
        warned: Whether the command spoke of it.
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
        stage: Of which command.
        what: Happened.
        faults: Injected into the stage that were still open, the newest last.
        command: As it was called.
        output: The last lines that it wrote.
        folder: Where everything is kept as it was found.
    """

    cycle: int
    stage: str
    what: str
    faults: tuple[str, ...]
    command: str
    output: str
    folder: str


@dataclass
class Tally:
    """All that a soak counts.

    Attributes:
        faults: All that were injected.
        defects: What must not have happened.
        cycles: That were run to their end.
        commands: Processes started.
        half_written: Commands killed while a file was being written, so that a temporary one was left.
        lost_steps: The steps that each interrupted training had done beyond its newest good checkpoint.
        repeated_scores: Evaluations that a search did again although they had been written, by cycle.
        retried_trials: Evaluations that Optuna's search began again, by cycle.
    """

    faults: list[Fault] = field(default_factory=list)
    defects: list[Defect] = field(default_factory=list)
    cycles: int = 0
    commands: int = 0
    half_written: int = 0
    lost_steps: list[int] = field(default_factory=list)
    repeated_scores: list[int] = field(default_factory=list)
    retried_trials: list[int] = field(default_factory=list)

    def note(self) -> str:
        """Return one short line for people."""
        survived = sum(bool(fault.outcome) for fault in self.faults)
        return f"{self.cycles} cycles, {len(self.faults)} faults, {survived} survived, {len(self.defects)} defects"

    def report(self) -> dict[str, Any]:
        """Return all counts as plain values, with the machine and the versions they were counted with."""
        return {
            "cycles": self.cycles,
            "commands": self.commands,
            "faults": len(self.faults),
            "survived": sum(bool(fault.outcome) for fault in self.faults),
            "by_kind": {kind: _outcomes([one for one in self.faults if one.kind == kind]) for kind in KINDS},
            "by_stage": {
                stage: _outcomes([one for one in self.faults if one.stage == stage])
                for stage in dict.fromkeys(one.stage for one in self.faults)
            },
            "kills_during_a_write": self.half_written,
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
    return {"injected": len(faults), **counts, "told in a warning": sum(fault.warned for fault in faults)}
