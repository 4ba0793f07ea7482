"""One cycle: runs every command under faults until it completes, and compares results with an undisturbed cycle."""

import random
import shlex
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from scripts.soaking import faults, results
from scripts.soaking.counts import CONTINUED, REPORTED, Counts, Defect, Fault
from scripts.soaking.fault_planner import Changes, FaultPlanner, Injection, modification_times
from scripts.soaking.faults import Damage
from scripts.soaking.outcomes import FINISHED, REFUSED, error_message, last_lines, outcome_of, problem_of
from scripts.soaking.process import Clock, CommandResult, run
from scripts.soaking.reference import Reference
from scripts.soaking.results import CHECKPOINTS, TRAIN_LOG
from scripts.soaking.stages import CHECKPOINT_STEPS, STAGES, Stage
from supernet.errors import UserError

MAX_ATTEMPTS = 14
DAMAGE_SHARE = 0.75
"""Probability that a file is damaged before a command."""
DISK_FULL_ERRORS = ("No space left on device", "File too large")
LATEST_SHARE = 0.4
"""Probability that a run is resumed as the latest one instead of by name."""
LIMIT_SECONDS, LIMIT_FACTOR = 300.0, 10.0
"""Time limit of a command: these seconds, or this multiple of the undisturbed duration if that is longer."""


class Broken(Exception):
    """The cycle cannot continue; a defect was recorded."""


@dataclass
class Cycle:
    """One cycle in its own folder.

    Attributes:
        number: Number of the cycle.
        folder: Folder that the commands write to.
        kept: Where the folder is moved if there is a defect.
        rng: Random generator of the faults.
        clock: Measures time.
        counts: Counts faults and defects.
        reference: Result of the undisturbed cycle; None for the undisturbed cycle itself.
        on_poll: Called regularly; if it raises, the cycle ends.
        filler: A file that may fill the disk of ``folder``; None if the disk must not be filled.
    """

    number: int
    folder: Path
    kept: Path
    rng: random.Random
    clock: Clock
    counts: Counts
    reference: Reference | None
    on_poll: Callable[[], None]
    filler: Path | None = None
    pending: list[Fault] = field(default_factory=list)
    damages: list[tuple[Damage, Fault]] = field(default_factory=list)
    is_log_damaged: bool = False
    last_result: CommandResult = field(default_factory=lambda: CommandResult((), 0, ""))

    def undisturbed(self) -> Reference:
        """Run every command once without faults."""
        reference = Reference({}, {}, {}, {})
        for stage in STAGES:
            changes = Changes(partial(modification_times, self.folder, stage.progress_files))
            result = self._run(stage, on_poll=changes)
            if outcome_of(result) != FINISHED or not stage.is_done(self.folder):
                raise UserError(f"the undisturbed {stage.name} failed: {last_lines(result)}; fix that first")
            reference.results[stage.name], reference.seconds[stage.name] = stage.result(self.folder), result.seconds
            reference.num_changes[stage.name] = changes.seen
            sizes = [path.stat().st_size for path in self.folder.rglob("*") if path.is_file()]
            reference.largest_file[stage.name] = max(sizes)
        return reference

    def disturbed(self) -> None:
        """Run every command under faults until it completes; stop at a command that does not.

        Raises:
            Broken: A defect that makes the rest of the cycle meaningless.
        """
        for stage in STAGES:
            self._complete(stage)
            self._compare(stage)

    def discard_pending(self) -> None:
        """Remove the faults whose outcome is not known yet from the counts."""
        undecided = [fault for fault in self.pending if not fault.outcome]
        # By identity: equal faults may have been counted before.
        self.counts.faults = [
            fault for fault in self.counts.faults if not any(fault is removed for removed in undecided)
        ]

    def _complete(self, stage: Stage) -> None:
        assert self.reference is not None
        reference, name = self.reference, stage.name
        num_disturbed = self.rng.randint(3, 8)
        for attempt in range(MAX_ATTEMPTS):
            self._remove_unusable_output(stage)
            is_disturbed = attempt < num_disturbed
            planner = FaultPlanner(stage, self.folder, self.rng, reference) if is_disturbed else None
            if planner is not None and self.rng.random() < DAMAGE_SHARE:
                self._damage_file(planner)
            result = self._run(stage, planner)
            if stage.is_done(self.folder):
                if attempt == 0 and not result.interrupted:
                    reference.seconds[name] = min(reference.seconds[name], result.seconds)
                return
            if outcome_of(result) == FINISHED:
                self._record_defect(stage, f"ended with status 0, but {stage.output}/summary.json is missing")
                raise Broken
            self._check_checkpoint(stage)
        self._record_defect(stage, f"did not complete in {MAX_ATTEMPTS} attempts, most of them undisturbed")
        raise Broken

    def _run(
        self, stage: Stage, planner: FaultPlanner | None = None, on_poll: Callable[[], object] = lambda: None
    ) -> CommandResult:
        """Run the stage's command once and check its outcome."""
        leftovers_before = set() if planner is None else planner.temporary_files()
        injection = Injection() if planner is None else planner.draw_injection(self.filler)
        fault = injection.fault
        seconds = 0.0 if self.reference is None else self.reference.seconds[stage.name]
        limit = max(LIMIT_SECONDS, LIMIT_FACTOR * seconds)
        arguments = stage.command(self.folder, self.rng.random() < LATEST_SHARE)

        def poll() -> None:
            self.on_poll()
            on_poll()

        interruption, largest_file = injection.interruption, injection.largest_file
        result = run(arguments, sys.executable, self.clock, limit, interruption, largest_file, poll)
        self.last_result = result
        self.counts.commands += 1
        if self.filler is not None:
            self.filler.unlink(missing_ok=True)
        is_full = outcome_of(result) == REFUSED and any(text in error_message(result) for text in DISK_FULL_ERRORS)
        if fault is not None and (result.interrupted or is_full):
            fault.detail = fault.detail or f"after {result.seconds:.2f} s"
            self._record_fault(fault)
        problem = problem_of(result)
        if problem is not None and self.reference is not None:
            self._record_defect(stage, problem)
            raise Broken
        warnings = [line for line in result.stderr.splitlines() if "warning" in line.lower()]
        for damage, its_fault in self.damages:
            its_fault.warned |= any(damage.path.name in line for line in warnings)
        if result.status == -signal.SIGKILL:
            self.counts.kills_during_write += bool(planner is not None and planner.temporary_files() - leftovers_before)
        if is_full and fault is not None:
            fault.outcome = REPORTED
        elif outcome_of(result) == REFUSED and self.reference is not None:
            self._restore_named_files(stage, error_message(result))
        return result

    def _restore_named_files(self, stage: Stage, message: str) -> None:
        """Do what the error advises: restore the damaged file that it names."""
        named = [
            (damage, fault) for damage, fault in self.damages if damage.is_present() and damage.path.name in message
        ]
        if not named:
            self._record_defect(stage, f"refused, but the error names no damaged file: {message}")
            raise Broken
        for damage, fault in named:
            damage.restore()
            fault.outcome = REPORTED
        self.damages = [(damage, fault) for damage, fault in self.damages if not fault.outcome]

    def _damage_file(self, planner: FaultPlanner) -> None:
        """Damage a file before the command starts."""
        drawn = planner.damage_file([damage.path for damage, _ in self.damages if damage.is_present()])
        if drawn is None:
            return
        fault, damage = drawn
        self._record_fault(fault)
        if damage is not None:
            self.damages.append((damage, fault))
            self.is_log_damaged |= damage.path == self.folder / TRAIN_LOG

    def _check_checkpoint(self, stage: Stage) -> None:
        """Check after an interrupted command that a checkpoint is readable and no more steps are lost than promised."""
        if stage.name not in CHECKPOINTS:
            return
        try:
            step = results.good_step(self.folder, stage.name)
        except UserError as error:
            self._record_defect(stage, f"neither the newest nor the previous checkpoint can be read: {error}")
            raise Broken from error
        if stage.name == "train" and not self.is_log_damaged and step is not None and self.last_result.status < 0:
            num_lost = results.logged_steps(self.folder) - step
            self.counts.lost_steps.append(max(0, num_lost))
            newest = self.folder / CHECKPOINTS["train"]
            is_damaged = any(damage.path == newest and damage.is_present() for damage, _ in self.damages)
            limit = CHECKPOINT_STEPS * (1 if newest.exists() and not is_damaged else 2)
            if num_lost > limit:
                self._record_defect(stage, f"{num_lost} steps were lost, but at most {limit} may be")

    def _remove_unusable_output(self, stage: Stage) -> None:
        """Remove, as a user would have to, an incomplete output folder that the command does not resume."""
        output = self.folder / stage.output
        if stage.is_done(self.folder) or not output.exists():
            return
        if stage.name == "evolve" and not (output / "state.json").exists():
            shutil.rmtree(output)
        elif stage.name in ("export", "finetune"):
            if error := results.model_error(output):
                self._record_defect(stage, f"the folder of a model exists, but is incomplete: {error}")
            shutil.rmtree(output)
        elif stage.name == "predict":
            shutil.rmtree(output)

    def _compare(self, stage: Stage) -> None:
        """Compare the result of a completed stage with the reference, and decide its pending faults."""
        assert self.reference is not None
        try:
            actual, expected = stage.result(self.folder), dict(self.reference.results[stage.name])
        except (UserError, OSError, ValueError, LookupError, TypeError) as error:
            self._record_defect(stage, f"the output cannot be read: {error!r}")
            raise Broken from error
        if self.is_log_damaged:  # lines of the log may be missing or changed, but not the training itself
            for value in (actual, expected):
                value.pop("log", None)
        differences = results.differences(expected, actual)
        if differences:
            self._record_defect(stage, f"differs from the undisturbed result: {', '.join(differences[:5])}")
        output = self.folder / stage.output
        if left := [path.name for place in (output, output.parent) for path in faults.leftovers(place)]:
            self._record_defect(stage, f"finished with leftovers: {', '.join(left)}")
        self._count_repeated(stage)
        for fault in self.pending:
            fault.outcome = fault.outcome or ("" if differences else CONTINUED)
        for damage, _ in self.damages:  # what this stage did not read must not disturb the next one
            if damage.is_present():
                damage.restore()
        self.pending, self.damages = [], []
        if differences:
            raise Broken

    def _count_repeated(self, stage: Stage) -> None:
        if stage.name == "evolve":
            self.counts.repeated_scores.append(results.num_repeated_scores(self.folder))
        elif stage.name == "optuna":
            self.counts.retried_trials.append(results.num_failed_trials(self.folder))

    def _record_fault(self, fault: Fault) -> None:
        self.counts.faults.append(fault)
        self.pending.append(fault)

    def _record_defect(self, stage: Stage, what: str) -> None:
        pending = tuple(f"{fault.kind}: {fault.detail}" for fault in self.pending if not fault.outcome)
        command = shlex.join(["python", *self.last_result.command])
        output = last_lines(self.last_result)
        self.counts.defects.append(Defect(self.number, stage.name, what, pending, command, output, str(self.kept)))
