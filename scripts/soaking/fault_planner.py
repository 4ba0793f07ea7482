"""Draws faults: a signal or a full disk at a random moment, or damage to a file."""

import random
import signal
import subprocess
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.soaking import faults
from scripts.soaking.counts import Fault
from scripts.soaking.faults import FULL_DISK, LEFTOVER, LIMIT, Damage
from scripts.soaking.process import Interruption
from scripts.soaking.reference import Reference
from scripts.soaking.results import CHECKPOINTS, is_good
from scripts.soaking.stages import Stage
from supernet.checkpoints import container

SIGNAL_SHARE, FULL_SHARE, LIMIT_SHARE = 0.66, 0.22, 0.08
"""Probability that a command gets a signal, that its disk is filled, that its file size is limited."""
ANY_MOMENT, AFTER_WORK = 0.1, 0.6
"""Shares of interruptions at any moment, and after some part of the work; the others come during a write."""
MAX_WRITES = 4
"""Writes before the one that is interrupted."""
MAX_DELAY_SECONDS = 0.05
"""Delay after some part of the work."""
MAX_FREE_BYTES = 30_000
"""Bytes left on a full disk."""
LEFTOVER_SHARE = 0.2
"""Probability of a leftover temporary file in place of damage."""


class Changes:
    """Counts changes of a function's result since this was made.

    Args:
        observe: The function.
        wanted: Number of changes from which calls return True.

    Attributes:
        seen: Changes so far.
    """

    def __init__(self, observe: Callable[[], Any], wanted: int = 0) -> None:
        self.seen, self._observe, self._wanted, self._last = 0, observe, wanted, observe()

    def __call__(self) -> bool:
        """Observe again; whether there were enough changes."""
        current = self._observe()
        self.seen += current != self._last
        self._last = current
        return self.seen >= self._wanted


@dataclass(frozen=True)
class Injection:
    """A fault while a command runs: none, an interruption, or a limit on the size of its files."""

    fault: Fault | None = None
    interruption: Interruption | None = None
    largest_file: int | None = None


@dataclass(frozen=True)
class FaultPlanner:
    """Draws faults for one stage.

    Attributes:
        stage: The command.
        folder: Folder of the cycle.
        rng: Random generator.
        reference: Result of the undisturbed cycle.
    """

    stage: Stage
    folder: Path
    rng: random.Random
    reference: Reference

    def draw_injection(self, filler: Path | None) -> Injection:
        """Draw the fault that the command meets while it runs; ``filler`` is a file that may fill the disk."""
        drawn, name = self.rng.random(), self.stage.name
        if drawn < SIGNAL_SHARE:
            number = self.rng.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM))
            interruption = self._draw_interruption(number.name, lambda process: process.send_signal(number))
            return Injection(Fault(name, number.name, ""), interruption)
        if drawn < SIGNAL_SHARE + FULL_SHARE and filler is not None:
            free = int(self.rng.uniform(0, MAX_FREE_BYTES))
            interruption = self._draw_interruption(FULL_DISK, lambda _: faults.fill(filler, free))
            return Injection(Fault(name, FULL_DISK, f"{free} bytes left"), interruption)
        if drawn < SIGNAL_SHARE + FULL_SHARE + LIMIT_SHARE:
            limit = int(self.reference.largest_file[name] ** self.rng.uniform(0.3, 1.0))
            return Injection(Fault(name, LIMIT, f"no file above {limit} bytes"), None, limit)
        return Injection()

    def _draw_interruption(self, kind: str, act: Callable[["subprocess.Popen[bytes]"], None]) -> Interruption:
        """Draw the moment of an interruption."""
        moment, name = self.rng.random(), self.stage.name
        if moment < ANY_MOMENT:
            return Interruption(kind, act, lambda: True, self.rng.uniform(0, 0.8 * self.reference.seconds[name]))
        num_changes = self.reference.num_changes[name]
        wanted = self.rng.randint(1, max(1, num_changes // 3))
        work = Changes(lambda: modification_times(self.folder, self.stage.progress_files), wanted)
        if moment < ANY_MOMENT + AFTER_WORK:
            return Interruption(kind, act, work, self.rng.uniform(0, MAX_DELAY_SECONDS))
        earlier, num_before = self.temporary_files(), self.rng.randint(0, min(MAX_WRITES, num_changes // 8))
        writes = Changes(lambda: self.temporary_files() - earlier, 2 * num_before + 1)
        return Interruption(kind, act, lambda: any((writes(), work())), 0.0)  # a busy machine may miss the writes

    def damage_file(self, damaged: Collection[Path]) -> tuple[Fault, Damage | None] | None:
        """Damage a file that the command reads, or leave a temporary file; None if neither is possible.

        Args:
            damaged: Files that are damaged already. They and the only good checkpoint are not damaged.
        """
        choices: list[tuple[Path, tuple[str, ...]]] = []
        for pattern, kinds in self.stage.damageable.items():
            choices += [(path, kinds) for path in sorted(self.folder.glob(pattern)) if self._may_damage(path, damaged)]
        targets = [self.folder / name for name in self.stage.temporary if (self.folder / name).parent.is_dir()]
        if targets and (not choices or self.rng.random() < LEFTOVER_SHARE):
            leftover = faults.leave_temporary(self.rng.choice(targets), self.rng)
            return Fault(self.stage.name, LEFTOVER, str(leftover.relative_to(self.folder))), None
        if not choices:
            return None
        path, kinds = self.rng.choice(choices)
        damage = faults.damage(path, self.rng.choice(kinds), self.rng)
        if damage is None:
            return None
        return Fault(self.stage.name, damage.kind, f"{path.relative_to(self.folder)}: {damage.detail}"), damage

    def _may_damage(self, path: Path, damaged: Collection[Path]) -> bool:
        if path in damaged:
            return False
        newest = self.folder / CHECKPOINTS.get(self.stage.name, "")
        pair = (newest, container.previous_of(newest))
        return path not in pair or all(
            checkpoint.exists() and is_good(checkpoint, self.stage.name) for checkpoint in pair
        )

    def temporary_files(self) -> set[Path]:
        """Temporary files and folders where the command writes."""
        places = {(self.folder / name).parent for name in self.stage.temporary}
        return {path for place in places if place.is_dir() for path in faults.leftovers(place)}


def modification_times(folder: Path, patterns: Sequence[str]) -> dict[Path, int]:
    """Return the modification time of each file in ``folder`` that matches a pattern."""
    times = {}
    for path in (path for pattern in patterns for path in folder.glob(pattern)):
        try:
            times[path] = path.stat().st_mtime_ns
        except FileNotFoundError:  # between two renames
            continue
    return times
