"""What fault comes next, and when: a signal and its moment, or a file and what is done to it."""

import random
import signal
import subprocess
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.soaking import faults
from scripts.soaking.faults import FULL_DISK, LEFTOVER, LIMIT, Damage
from scripts.soaking.process import Strike
from scripts.soaking.reference import Reference
from scripts.soaking.results import CHECKPOINTS, is_good
from scripts.soaking.stages import Stage
from scripts.soaking.tally import Fault
from supernet.checkpoints import container

SIGNAL_SHARE, FULL_SHARE, LIMIT_SHARE = 0.66, 0.22, 0.08
"""How often a command gets a signal, its disk is filled, and the size of its files limited."""
ANY_MOMENT, AFTER_WORK = 0.1, 0.6
"""Shares of strikes that come at any moment, and when some part of the work is done; the others come in a write."""
MOST_WRITES = 4
"""Before the one that is struck."""
DELAY_SECONDS = 0.05
MOST_LEFT_BYTES = 30_000
"""On a full disk."""
LEFTOVER_SHARE = 0.2


class Changes:
    """Whether what a function returns has changed a number of times since the first call.

    Attributes:
        seen: How often it has.
    """

    def __init__(self, of: Callable[[], Any], wanted: int = 0) -> None:
        self.seen, self._of, self._wanted, self._last = 0, of, wanted, of()

    def __call__(self) -> bool:
        """Look again."""
        now = self._of()
        self.seen += now != self._last
        self._last = now
        return self.seen >= self._wanted


@dataclass(frozen=True)
class Attack:
    """What happens to a command while it runs: nothing, something at a moment, or a limit on the size of its files."""

    fault: Fault | None = None
    strike: Strike | None = None
    largest_file: int | None = None


@dataclass(frozen=True)
class Aim:
    """Draws faults for one stage.

    Attributes:
        stage: Which command they are for.
        folder: Of the cycle.
        rng: Draws.
        reference: How the command goes if nothing happens.
    """

    stage: Stage
    folder: Path
    rng: random.Random
    reference: Reference

    def attack(self, filler: Path | None) -> Attack:
        """Return what happens to the command; ``filler`` is a file that may fill the disk."""
        drawn, name = self.rng.random(), self.stage.name
        if drawn < SIGNAL_SHARE:
            number = self.rng.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM))
            strike = self._at_a_moment(number.name, lambda process: process.send_signal(number))
            return Attack(Fault(name, number.name, ""), strike)
        if drawn < SIGNAL_SHARE + FULL_SHARE and filler is not None:
            left = int(self.rng.uniform(0, MOST_LEFT_BYTES))
            strike = self._at_a_moment(FULL_DISK, lambda _: faults.fill(filler, left))
            return Attack(Fault(name, FULL_DISK, f"{left} bytes left"), strike)
        if drawn < SIGNAL_SHARE + FULL_SHARE + LIMIT_SHARE:
            most = int(self.reference.largest_file[name] ** self.rng.uniform(0.3, 1.0))
            return Attack(Fault(name, LIMIT, f"no file above {most} bytes"), None, most)
        return Attack()

    def _at_a_moment(self, kind: str, act: Callable[["subprocess.Popen[bytes]"], None]) -> Strike:
        moment, name = self.rng.random(), self.stage.name
        if moment < ANY_MOMENT:
            return Strike(kind, act, lambda: True, self.rng.uniform(0, 0.8 * self.reference.seconds[name]))
        num_signs = self.reference.num_signs[name]
        wanted = self.rng.randint(1, max(1, num_signs // 3))
        work = Changes(lambda: signs_of_work(self.folder, self.stage.signs), wanted)
        if moment < ANY_MOMENT + AFTER_WORK:
            return Strike(kind, act, work, self.rng.uniform(0, DELAY_SECONDS))
        already, before = self.temporary(), self.rng.randint(0, min(MOST_WRITES, num_signs // 8))
        writes = Changes(lambda: self.temporary() - already, 2 * before + 1)
        return Strike(kind, act, lambda: any((writes(), work())), 0.0)  # a busy machine may miss the writes

    def damage(self, damaged: Collection[Path]) -> tuple[Fault, Damage | None] | None:
        """Change a file that the command reads, or leave a temporary one; None if there is neither.

        Args:
            damaged: Files that are damaged already; they and checkpoints that are the only good ones are let be.
        """
        choices: list[tuple[Path, tuple[str, ...]]] = []
        for pattern, kinds in self.stage.damageable.items():
            choices += [(path, kinds) for path in sorted(self.folder.glob(pattern)) if self._may_damage(path, damaged)]
        written = [self.folder / name for name in self.stage.temporary if (self.folder / name).parent.is_dir()]
        if written and (not choices or self.rng.random() < LEFTOVER_SHARE):
            left = faults.leave_temporary(self.rng.choice(written), self.rng)
            return Fault(self.stage.name, LEFTOVER, str(left.relative_to(self.folder))), None
        if not choices:
            return None
        path, kinds = self.rng.choice(choices)
        found = faults.damage(path, self.rng.choice(kinds), self.rng)
        if found is None:
            return None
        return Fault(self.stage.name, found.kind, f"{path.relative_to(self.folder)}: {found.detail}"), found

    def _may_damage(self, path: Path, damaged: Collection[Path]) -> bool:
        if path in damaged:
            return False
        newest = self.folder / CHECKPOINTS.get(self.stage.name, "")
        pair = (newest, container.previous_of(newest))
        return path not in pair or all(each.exists() and is_good(each, self.stage.name) for each in pair)

    def temporary(self) -> set[Path]:
        """Temporary files and folders where the command writes."""
        places = {(self.folder / name).parent for name in self.stage.temporary}
        return {path for place in places if place.is_dir() for path in faults.leftovers(place)}


def signs_of_work(folder: Path, patterns: Sequence[str]) -> dict[Path, int]:
    """Return when the files in ``folder`` that show a command's work were last changed."""
    found = {}
    for path in (path for pattern in patterns for path in folder.glob(pattern)):
        try:
            found[path] = path.stat().st_mtime_ns
        except FileNotFoundError:  # between two renames
            continue
    return found
