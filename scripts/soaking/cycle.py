"""One cycle: every command under faults until it has done its work, beside what the undisturbed ones came to."""

import random
import shlex
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from scripts.soaking import faults, results
from scripts.soaking.aim import Aim, Attack, Changes, signs_of_work
from scripts.soaking.faults import Damage
from scripts.soaking.judge import FINISHED, REFUSED, complaint, sentence, tail, verdict
from scripts.soaking.process import Clock, Ended, run
from scripts.soaking.reference import Reference
from scripts.soaking.results import CHECKPOINTS, TRAIN_LOG
from scripts.soaking.stages import CHECKPOINT_STEPS, STAGES, Stage
from scripts.soaking.tally import CONTINUED, TOLD, Defect, Fault, Tally
from supernet.errors import UserError

MOST_ATTEMPTS = 14
DAMAGE_SHARE = 0.75
"""How often files are damaged before a command."""
FULL_TOLD = ("No space left on device", "File too large")
LATEST_SHARE = 0.4
"""How often a run is gone on with as the latest, not by its name."""
LIMIT_SECONDS, LIMIT_FACTOR = 300.0, 10.0
"""A command hangs after so many seconds, or so many times those of the undisturbed one if that is more."""


class Broken(Exception):
    """The cycle cannot go on; a defect was noted."""


@dataclass
class Cycle:
    """One cycle in a folder of its own.

    Attributes:
        number: Of the cycle.
        folder: Where it writes.
        kept: Where the folder goes if there is a defect.
        rng: Draws the faults.
        clock: Measures time.
        tally: Counts.
        reference: What to come to; None for the undisturbed cycle itself.
        filler: A file that fills the disk of ``folder``; None if that must not get full.
        on_poll: Called all the time; what it raises ends the cycle.
    """

    number: int
    folder: Path
    kept: Path
    rng: random.Random
    clock: Clock
    tally: Tally
    reference: Reference | None
    on_poll: Callable[[], None]
    filler: Path | None = None
    open: list[Fault] = field(default_factory=list)
    damaged: list[tuple[Damage, Fault]] = field(default_factory=list)
    is_log_damaged: bool = False
    ended: Ended = field(default_factory=lambda: Ended((), 0, ""))

    def undisturbed(self) -> Reference:
        """Run every command once."""
        found = Reference({}, {}, {}, {})
        for stage in STAGES:
            changes = Changes(lambda signs=stage.signs: signs_of_work(self.folder, signs))  # type: ignore[misc]
            ended = self._run(stage, on_poll=changes)
            if verdict(ended) != FINISHED or not stage.is_done(self.folder):
                raise UserError(f"the undisturbed {stage.name} failed: {tail(ended)}; mend that first")
            found.results[stage.name], found.seconds[stage.name] = stage.result(self.folder), ended.seconds
            found.num_signs[stage.name] = changes.seen
            sizes = [path.stat().st_size for path in self.folder.rglob("*") if path.is_file()]
            found.largest_file[stage.name] = max(sizes)
        return found

    def disturbed(self) -> None:
        """Run every command under faults to its end; stops at a stage that cannot be brought there.

        Raises:
            Broken: A defect that makes the rest of the cycle meaningless.
        """
        for stage in STAGES:
            self._bring_to_end(stage)
            self._compare(stage)

    def forget_open(self) -> None:
        """Take back the faults of which it is not known yet whether they are survived."""
        gone = [fault for fault in self.open if not fault.outcome]
        self.tally.faults = [fault for fault in self.tally.faults if not any(fault is each for each in gone)]

    def _bring_to_end(self, stage: Stage) -> None:
        assert self.reference is not None
        reference, name = self.reference, stage.name
        num_disturbed = self.rng.randint(3, 8)
        for attempt in range(MOST_ATTEMPTS):
            self._clear_unusable(stage)
            disturbs = attempt < num_disturbed
            aim = Aim(stage, self.folder, self.rng, reference) if disturbs else None
            if aim is not None and self.rng.random() < DAMAGE_SHARE:
                self._damage(aim)
            how = self._run(stage, aim)
            if stage.is_done(self.folder):
                if attempt == 0 and not how.struck:
                    reference.seconds[name] = min(reference.seconds[name], how.seconds)
                return
            if verdict(how) == FINISHED:
                self._defect(stage, f"ended with status 0, but {stage.output}/summary.json is not there")
                raise Broken
            self._check_work(stage)
        self._defect(stage, f"had not come to its end after {MOST_ATTEMPTS} attempts, most of them undisturbed")
        raise Broken

    def _run(self, stage: Stage, aim: Aim | None = None, on_poll: Callable[[], object] = lambda: None) -> Ended:
        """Run the stage's command once and judge how it ended."""
        already = set() if aim is None else aim.temporary()
        attack = Attack() if aim is None else aim.attack(self.filler)
        fault = attack.fault
        seconds = 0.0 if self.reference is None else self.reference.seconds[stage.name]
        limit = max(LIMIT_SECONDS, LIMIT_FACTOR * seconds)
        words = stage.command(self.folder, self.rng.random() < LATEST_SHARE)

        def poll() -> None:
            self.on_poll()
            on_poll()

        ended = run(words, sys.executable, self.clock, limit, attack.strike, attack.largest_file, poll)
        self.ended = ended
        self.tally.commands += 1
        if self.filler is not None:
            self.filler.unlink(missing_ok=True)
        is_full = verdict(ended) == REFUSED and any(words in sentence(ended) for words in FULL_TOLD)
        if fault is not None and (ended.struck or is_full):
            fault.detail = fault.detail or f"after {ended.seconds:.2f} s"
            self._note(fault)
        wrong = complaint(ended)
        if wrong is not None and self.reference is not None:
            self._defect(stage, wrong)
            raise Broken
        for each, of in self.damaged:
            of.warned |= any(each.path.name in line and "Warning" in line for line in ended.told.splitlines())
        if ended.status == -signal.SIGKILL:
            self.tally.half_written += bool(aim is not None and aim.temporary() - already)
        if is_full and fault is not None:
            fault.outcome = TOLD
        elif verdict(ended) == REFUSED and self.reference is not None:
            self._restore_named(stage, sentence(ended))
        return ended

    def _restore_named(self, stage: Stage, why: str) -> None:
        """Do what the sentence advises: restore the file that is damaged."""
        named = [(each, of) for each, of in self.damaged if each.is_there() and each.path.name in why]
        if not named:
            self._defect(stage, f"refused without a cause that it names: {why}")
            raise Broken
        for each, of in named:
            each.restore()
            of.outcome = TOLD
        self.damaged = [(each, of) for each, of in self.damaged if not of.outcome]

    def _damage(self, aim: Aim) -> None:
        """Damage a file before the command begins."""
        drawn = aim.damage([each.path for each, _ in self.damaged if each.is_there()])
        if drawn is None:
            return
        fault, found = drawn
        self._note(fault)
        if found is not None:
            self.damaged.append((found, fault))
            self.is_log_damaged |= found.path == self.folder / TRAIN_LOG

    def _check_work(self, stage: Stage) -> None:
        """After a command that was stopped: a checkpoint can be read, and no more is lost than promised."""
        if stage.name not in CHECKPOINTS:
            return
        try:
            step = results.good_step(self.folder, stage.name)
        except UserError as error:
            self._defect(stage, f"neither the newest nor the previous checkpoint can be read: {error}")
            raise Broken from error
        if stage.name == "train" and not self.is_log_damaged and step is not None and self.ended.status < 0:
            lost = results.logged_steps(self.folder) - step
            self.tally.lost_steps.append(max(0, lost))
            newest = self.folder / CHECKPOINTS["train"]
            both = newest.exists() and not any(each.path == newest and each.is_there() for each, _ in self.damaged)
            most = CHECKPOINT_STEPS * (1 if both else 2)
            if lost > most:
                self._defect(stage, f"{lost} steps were lost, but at most {most} may be")

    def _clear_unusable(self, stage: Stage) -> None:
        """Take away what a user would have to: a folder that was begun and that the command will not go on with."""
        output = self.folder / stage.output
        if stage.is_done(self.folder) or not output.exists():
            return
        if stage.name == "evolve" and not (output / "state.json").exists():
            shutil.rmtree(output)
        elif stage.name in ("export", "finetune"):
            if complaints := results.model_complaints(output):
                self._defect(stage, f"the folder of a model appeared, but it is not whole: {complaints}")
            shutil.rmtree(output)
        elif stage.name == "predict":
            shutil.rmtree(output)

    def _compare(self, stage: Stage) -> None:
        """Judge the work of a stage that ended well, and close its open faults."""
        assert self.reference is not None
        try:
            found, expected = stage.result(self.folder), dict(self.reference.results[stage.name])
        except (UserError, OSError, ValueError, LookupError, TypeError) as error:
            self._defect(stage, f"what it left cannot be read: {error!r}")
            raise Broken from error
        if self.is_log_damaged:  # its lines may be gone or changed; what they tell of is not
            for value in (found, expected):
                value.pop("log", None)
        different = results.differences(expected, found)
        if different:
            self._defect(stage, f"the result is not the undisturbed one's: {', '.join(different[:5])}")
        output = self.folder / stage.output
        if left := [path.name for place in (output, output.parent) for path in faults.leftovers(place)]:
            self._defect(stage, f"finished with leftovers: {', '.join(left)}")
        self._count_repeated(stage)
        for fault in self.open:
            fault.outcome = fault.outcome or ("" if different else CONTINUED)
        for each, _ in self.damaged:  # not for the next stage: what was not read is not to be found there
            if each.is_there():
                each.restore()
        self.open, self.damaged = [], []
        if different:
            raise Broken

    def _count_repeated(self, stage: Stage) -> None:
        if stage.name == "evolve":
            self.tally.repeated_scores.append(results.num_repeated_scores(self.folder))
        elif stage.name == "optuna":
            self.tally.retried_trials.append(results.num_failed_trials(self.folder))

    def _note(self, fault: Fault) -> None:
        self.tally.faults.append(fault)
        self.open.append(fault)

    def _defect(self, stage: Stage, what: str) -> None:
        told = tuple(f"{each.kind}: {each.detail}" for each in self.open if not each.outcome)
        command = shlex.join(["python", *self.ended.command])
        defect = Defect(self.number, stage.name, what, told, command, tail(self.ended), str(self.kept))
        self.tally.defects.append(defect)
