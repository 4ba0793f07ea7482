"""Coordinates the workers of one study: claims, heartbeats, retries (no torch).

A worker claims an arch by adding a complete running trial. If two workers claim the same arch, the trial with the lower
number counts and the other is withdrawn. During an evaluation the worker updates a heartbeat. A worker on this machine
is dead if its process has ended; a worker on another machine is dead if its heartbeat has not changed for some time,
measured with the clock of this machine, so that clocks need not agree. Trials of dead workers fail and are retried.
"""

import hashlib
import os
import platform
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.optuna_backend.local_study import TrialParams
from supernet.errors import UserError

ARCH, WORKER, CLAIM, HEARTBEAT, WITHDRAWN = "arch", "worker", "claim", "sign_of_life", "withdrawn"
MAX_ATTEMPTS = 3
"""After so many failed evaluations, an arch is not retried."""


class SharedStudy:
    """The trials of a study with several workers, seen from one of them.

    Args:
        study: The study.
        storage: Storage of the study.
        lost_after: Seconds without a heartbeat after which a worker on another machine is dead.
    """

    def __init__(self, study: optuna.Study, storage: BaseStorage, lost_after: float) -> None:
        self.study, self.storage, self.lost_after = study, storage, lost_after
        self._heartbeats: dict[int, tuple[Any, float]] = {}
        self._worker = {"machine": _machine(), "pid": os.getpid(), "started": _start_time(os.getpid())}

    def trials(self) -> list[FrozenTrial]:
        """Fail the trials of dead workers, then return all trials of this search, by number."""
        trials = self._own_trials()
        dead = [trial for trial in trials if trial.state == TrialState.RUNNING and self._is_dead(trial)]
        for trial in dead:
            self._end(trial.number, TrialState.FAIL)
        return self._own_trials() if dead else trials

    def claim(
        self,
        arch: str,
        limit: int,
        params: TrialParams,
        user_attrs: Mapping[str, Any],
        system_attrs: Mapping[str, Any],
    ) -> FrozenTrial | None:
        """Start the evaluation of an arch.

        Args:
            arch: Digest of the arch.
            limit: Number of evaluations of the study.
            params: What describes the arch.
            user_attrs: Attributes of the trial.
            system_attrs: What the sampler stores in the trial.

        Returns:
            The running trial; None if another trial has the arch, or there are ``limit`` trials already.
        """
        token = uuid.uuid4().hex
        self.study.add_trial(
            create_trial(
                state=TrialState.RUNNING,
                params=params.values,
                distributions=params.distributions,
                constraints=params.constraints,
                user_attrs={**user_attrs, ARCH: arch, WORKER: self._worker, CLAIM: token},
                system_attrs=dict(system_attrs),
            )
        )
        earlier: list[FrozenTrial] = []
        for trial in self._own_trials():
            if trial.user_attrs.get(CLAIM) == token:
                break
            earlier.append(trial)
        active = [other.user_attrs[ARCH] for other in earlier if is_active(other)]
        if arch not in active and len(active) < limit:
            return trial
        self.storage.set_trial_user_attr(trial._trial_id, WITHDRAWN, True)
        self._end(trial.number, TrialState.FAIL)
        return None

    def add_pruned(self, arch: str, params: TrialParams, system_attrs: Mapping[str, Any]) -> None:
        """Add a pruned trial: an arch that is not evaluated because it breaks a constraint."""
        self.study.add_trial(
            create_trial(
                state=TrialState.PRUNED,
                params=params.values,
                distributions=params.distributions,
                constraints=params.constraints,
                user_attrs={ARCH: arch},
                system_attrs=dict(system_attrs),
            )
        )

    @contextmanager
    def heartbeat(self, trial: FrozenTrial) -> Iterator[None]:
        """Update the heartbeat of ``trial`` during the block; fail the trial if the block raises."""
        stop = threading.Event()

        def beat() -> None:
            count = 0
            while not stop.wait(self.lost_after / 4):
                count += 1
                try:
                    self.storage.set_trial_user_attr(trial._trial_id, HEARTBEAT, count)
                except UpdateFinishedTrialError:
                    return  # another worker declared this one dead
                except (StorageInternalError, UserError):
                    continue  # if the storage stays away, writing the score raises

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        except BaseException:
            stop.set()
            thread.join()
            self._end(trial.number, TrialState.FAIL)
            raise
        finally:
            stop.set()
            thread.join()

    def complete(self, trial: FrozenTrial, values: Sequence[float], user_attrs: Mapping[str, Any]) -> None:
        """Complete ``trial`` with its values, unless another worker declared it dead and ended it."""
        try:
            for name, value in user_attrs.items():
                self.storage.set_trial_user_attr(trial._trial_id, name, value)
        except UpdateFinishedTrialError:
            return
        self._end(trial.number, TrialState.COMPLETE, values)

    def _end(self, number: int, state: TrialState, values: Sequence[float] | None = None) -> None:
        with suppress(UpdateFinishedTrialError):  # another worker may have ended it in the meantime
            self.study.tell(number, values, state, skip_if_finished=True)

    def _own_trials(self) -> list[FrozenTrial]:
        return [trial for trial in self.study.get_trials(deepcopy=False) if ARCH in trial.user_attrs]

    def _is_dead(self, trial: FrozenTrial) -> bool:
        worker = trial.user_attrs[WORKER]
        if worker == self._worker:
            return False
        if worker["machine"] == self._worker["machine"]:
            return bool(_start_time(worker["pid"]) != worker["started"])
        heartbeat, now = trial.user_attrs.get(HEARTBEAT), time.monotonic()
        before, since = self._heartbeats.setdefault(trial.number, (heartbeat, now))
        if heartbeat != before:
            self._heartbeats[trial.number] = (heartbeat, now)
            return False
        return now - since > self.lost_after


def is_active(trial: FrozenTrial) -> bool:
    """Whether ``trial`` is scored or running."""
    return trial.state in (TrialState.COMPLETE, TrialState.RUNNING)


def to_retry(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return a failed trial of each arch that is to be evaluated again."""
    active = {trial.user_attrs[ARCH] for trial in trials if is_active(trial)}
    failed = [trial for trial in trials if trial.state == TrialState.FAIL and WITHDRAWN not in trial.user_attrs]
    attempts = Counter(trial.user_attrs[ARCH] for trial in failed)
    by_arch = {trial.user_attrs[ARCH]: trial for trial in failed}
    return [trial for arch, trial in by_arch.items() if arch not in active and attempts[arch] < MAX_ATTEMPTS]


def _machine() -> str:
    """Return digits that identify this machine since it booted, and this container, which has its own process ids."""
    parts = [platform.node()]
    for path in (Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")):
        if path.is_symlink():
            parts.append(os.readlink(path))
        elif path.exists():
            parts.append(path.read_text().strip())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _start_time(pid: int) -> str | None:
    """Return a text that identifies the start time of process ``pid``; None if there is no such process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass  # a process of another user, but alive
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return ""  # no /proc: only whether it exists is known
    return None if state == "Z" else rest[18]
