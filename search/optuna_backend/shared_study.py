"""How workers share a study: who evaluates what, and who is dead (no torch).

A trial is created at once with everything that is known of it, so that its number says who was first: of two trials
of one arch the lower number counts and the other is withdrawn. While a worker evaluates, it renews a sign of life.
A worker on the same machine is dead when its process is; of another machine's, when its sign has not changed for a
while on the watcher's own clock, so that clocks need not agree. Trials of the dead are failed and then tried again.
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

from supernet.errors import UserError

ARCH, WORKER, CLAIM, HEARTBEAT, WITHDRAWN = "arch", "worker", "claim", "sign_of_life", "withdrawn"
MAX_ATTEMPTS = 3
"""An arch whose evaluation ended so often without a score is left alone."""


class SharedStudy:
    """The trials of a study that several workers fill.

    Args:
        study: The study.
        storage: Where it is kept.
        lost_after: Seconds without a sign of life after which a worker on another machine counts as dead.
    """

    def __init__(self, study: optuna.Study, storage: BaseStorage, lost_after: float) -> None:
        self.study, self.storage, self.lost_after = study, storage, lost_after
        self._signs: dict[int, tuple[Any, float]] = {}
        self._me = {"machine": _machine(), "pid": os.getpid(), "started": _start_of(os.getpid())}

    def trials(self) -> list[FrozenTrial]:
        """Return all trials of this search, by number, those of the dead failed."""
        found = self._ours()
        dead = [trial for trial in found if trial.state == TrialState.RUNNING and self._is_dead(trial)]
        for trial in dead:
            self._end(trial.number, TrialState.FAIL)
        return self._ours() if dead else found

    def claim(
        self,
        arch: str,
        limit: int,
        params: Mapping[str, Any],
        distributions: Mapping[str, Any],
        constraints: Mapping[str, float],
        user_attrs: Mapping[str, Any],
        system_attrs: Mapping[str, Any],
    ) -> FrozenTrial | None:
        """Begin a trial, or return None if another one has the arch or ``limit`` trials came before."""
        token = uuid.uuid4().hex
        self.study.add_trial(
            create_trial(
                state=TrialState.RUNNING,
                params=dict(params),
                distributions=dict(distributions),
                constraints=dict(constraints),
                user_attrs={**user_attrs, ARCH: arch, WORKER: self._me, CLAIM: token},
                system_attrs=dict(system_attrs),
            )
        )
        earlier: list[FrozenTrial] = []
        for trial in self._ours():
            if trial.user_attrs.get(CLAIM) == token:
                break
            earlier.append(trial)
        active = [one.user_attrs[ARCH] for one in earlier if is_active(one)]
        if arch not in active and len(active) < limit:
            return trial
        self.storage.set_trial_user_attr(trial._trial_id, WITHDRAWN, True)
        self._end(trial.number, TrialState.FAIL)
        return None

    def add_pruned(
        self,
        arch: str,
        params: Mapping[str, Any],
        distributions: Mapping[str, Any],
        constraints: Mapping[str, float],
        system_attrs: Mapping[str, Any],
    ) -> None:
        """Add a pruned trial: an arch that is not evaluated because it breaks its constraints."""
        self.study.add_trial(
            create_trial(
                state=TrialState.PRUNED,
                params=dict(params),
                distributions=dict(distributions),
                constraints=dict(constraints),
                user_attrs={ARCH: arch},
                system_attrs=dict(system_attrs),
            )
        )

    @contextmanager
    def heartbeat(self, trial: FrozenTrial) -> Iterator[None]:
        """Renew the sign of life of ``trial`` during the block; fail it if the block ends by an exception."""
        stop = threading.Event()

        def renew() -> None:
            count = 0
            while not stop.wait(self.lost_after / 4):
                count += 1
                try:
                    self.storage.set_trial_user_attr(trial._trial_id, HEARTBEAT, count)
                except UpdateFinishedTrialError:
                    return  # somebody thought us dead
                except (StorageInternalError, UserError):
                    continue  # if the storage stays away, the score cannot be written, and that is told

        thread = threading.Thread(target=renew, daemon=True)
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
        """End ``trial`` with its values; what another worker made of a trial that seemed lost stays as it is."""
        try:
            for name, value in user_attrs.items():
                self.storage.set_trial_user_attr(trial._trial_id, name, value)
        except UpdateFinishedTrialError:
            return
        self._end(trial.number, TrialState.COMPLETE, values)

    def _end(self, number: int, state: TrialState, values: Sequence[float] | None = None) -> None:
        with suppress(UpdateFinishedTrialError):  # another worker may end it between the look and the write
            self.study.tell(number, values, state, skip_if_finished=True)

    def _ours(self) -> list[FrozenTrial]:
        return [trial for trial in self.study.get_trials(deepcopy=False) if ARCH in trial.user_attrs]

    def _is_dead(self, trial: FrozenTrial) -> bool:
        worker = trial.user_attrs[WORKER]
        if worker == self._me:
            return False
        if worker["machine"] == self._me["machine"]:
            return bool(_start_of(worker["pid"]) != worker["started"])
        sign, now = trial.user_attrs.get(HEARTBEAT), time.monotonic()
        before, since = self._signs.setdefault(trial.number, (sign, now))
        if sign != before:
            self._signs[trial.number] = (sign, now)
            return False
        return now - since > self.lost_after


def is_active(trial: FrozenTrial) -> bool:
    """Whether ``trial`` is scored or being scored."""
    return trial.state in (TrialState.COMPLETE, TrialState.RUNNING)


def to_retry(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials whose evaluation ended without a score and that nobody has taken up again, one an arch."""
    active = {trial.user_attrs[ARCH] for trial in trials if is_active(trial)}
    failed = [t for t in trials if t.state == TrialState.FAIL and WITHDRAWN not in t.user_attrs]
    attempts = Counter(trial.user_attrs[ARCH] for trial in failed)
    found = {trial.user_attrs[ARCH]: trial for trial in failed}
    return [one for arch, one in found.items() if arch not in active and attempts[arch] < MAX_ATTEMPTS]


def _machine() -> str:
    """Return digits for this machine since it started, and for this container, whose processes others do not see."""
    parts = [platform.node()]
    for path in (Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")):
        if path.is_symlink():
            parts.append(os.readlink(path))
        elif path.exists():
            parts.append(path.read_text().strip())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _start_of(pid: int) -> str | None:
    """Return when process ``pid`` started, in a form that only equals itself; None if there is none."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass  # another user's, but alive
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return ""  # no /proc: its being there must do
    return None if state == "Z" else rest[18]
