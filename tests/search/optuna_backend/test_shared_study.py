"""Workers of one study: nothing is evaluated twice, and the trials of dead workers are retried."""

import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from search.optuna_backend import shared_study
from search.optuna_backend.local_study import TrialParams
from search.optuna_backend.shared_study import HEARTBEAT, MAX_ATTEMPTS, WORKER, SharedStudy, to_retry
from search.optuna_backend.storage import open_storage

LOST_AFTER = 100.0
WIDTH = CategoricalDistribution((16, 24))


def worker(storage: BaseStorage, machine: str | None = None, lost_after: float = LOST_AFTER) -> SharedStudy:
    """Return a worker of the study, on this machine or the given one."""
    study = optuna.create_study(storage=storage, study_name="search", direction="maximize", load_if_exists=True)
    shared = SharedStudy(study, storage, lost_after)
    if machine:
        shared._worker = {**shared._worker, "machine": machine}
    return shared


def claim(shared: SharedStudy, arch: str, limit: int = 100) -> FrozenTrial | None:
    params = TrialParams({"width": 24}, {"width": WIDTH}, {"macs": -0.5})
    return shared.claim(arch, limit, params, {"origin": "tpe"}, {"generation": 1})


def started(shared: SharedStudy, arch: str) -> FrozenTrial:
    trial = claim(shared, arch)
    assert trial is not None
    return trial


def states(shared: SharedStudy) -> list[str]:
    return [trial.state.name for trial in shared.trials()]


@pytest.fixture
def storage() -> BaseStorage:
    return InMemoryStorage()


def test_a_claim_holds_all_that_is_known_of_its_arch(storage: BaseStorage) -> None:
    trial = started(worker(storage), "a")
    assert trial.params == {"width": 24}
    assert trial.constraints == {"macs": -0.5}
    assert trial.user_attrs["origin"] == "tpe"
    assert trial.system_attrs["generation"] == 1


def test_the_second_claim_of_an_arch_is_withdrawn_and_never_retried(storage: BaseStorage) -> None:
    first, second = worker(storage), worker(storage, "elsewhere")
    trial = started(first, "a")
    assert claim(second, "a") is None
    first.complete(trial, [0.5], {})
    assert claim(second, "a") is None
    assert states(second) == ["COMPLETE", "FAIL", "FAIL"]
    assert to_retry(second.trials()) == []


def test_no_more_are_begun_than_wanted(storage: BaseStorage) -> None:
    first, second = worker(storage), worker(storage, "elsewhere")
    started(first, "a")
    assert claim(second, "b", limit=2) is not None
    assert claim(first, "c", limit=2) is None
    assert claim(first, "c", limit=3) is not None


def test_a_finished_evaluation_keeps_values_and_attributes(storage: BaseStorage) -> None:
    shared = worker(storage)
    shared.complete(started(shared, "a"), [0.25], {"metrics": {"AP": 0.25}})
    (trial,) = shared.trials()
    assert (trial.state, trial.values, trial.user_attrs["metrics"]) == (TrialState.COMPLETE, [0.25], {"AP": 0.25})


def test_an_evaluation_that_raises_is_retried_but_not_for_ever(storage: BaseStorage) -> None:
    shared = worker(storage)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        with pytest.raises(RuntimeError), shared.heartbeat(started(shared, "a")):
            raise RuntimeError
        assert len(to_retry(shared.trials())) == (attempt < MAX_ATTEMPTS)
    assert states(shared) == ["FAIL"] * MAX_ATTEMPTS


def test_what_was_taken_up_again_is_not_retried(storage: BaseStorage) -> None:
    shared = worker(storage)
    with pytest.raises(RuntimeError), shared.heartbeat(started(shared, "a")):
        raise RuntimeError
    again = started(shared, "a")
    assert to_retry(shared.trials()) == []
    shared.complete(again, [1.0], {})
    assert to_retry(shared.trials()) == []


def test_the_trial_of_a_killed_process_fails_at_the_next_look(tmp_path: Path) -> None:
    def claim_and_die() -> None:
        started(worker(open_storage(tmp_path / "journal")), "a")
        os.kill(os.getpid(), signal.SIGKILL)

    process = multiprocessing.get_context("fork").Process(target=claim_and_die)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    shared = worker(open_storage(tmp_path / "journal"))
    assert states(shared) == ["FAIL"]
    assert [trial.user_attrs["arch"] for trial in to_retry(shared.trials())] == ["a"]


def test_a_process_that_took_over_the_number_of_a_dead_one_is_not_it(storage: BaseStorage) -> None:
    shared = worker(storage)
    shared._worker = {**shared._worker, "pid": os.getppid(), "started": "long ago"}
    started(shared, "a")
    assert states(worker(storage)) == ["FAIL"]


def test_a_live_process_of_this_machine_is_kept(storage: BaseStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = worker(storage)
    parent = os.getppid()
    shared._worker = {**shared._worker, "pid": parent, "started": shared_study._start_time(parent)}
    started(shared, "a")
    watcher = worker(storage)
    assert states(watcher) == ["RUNNING"]
    monkeypatch.setattr(time, "monotonic", lambda: 1e9)
    assert states(watcher) == ["RUNNING"]


def test_a_worker_elsewhere_is_dead_when_its_heartbeat_stops(
    storage: BaseStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(shared_study, "time", type("Clock", (), {"monotonic": staticmethod(lambda: now[0])}))
    trial, watcher = started(worker(storage, "elsewhere"), "a"), worker(storage)
    for heartbeat in range(3):  # in time
        assert states(watcher) == ["RUNNING"]
        storage.set_trial_user_attr(trial._trial_id, HEARTBEAT, heartbeat)
        now[0] += LOST_AFTER - 1
    assert states(watcher) == ["RUNNING"]  # the last heartbeat is first seen here
    now[0] += LOST_AFTER
    assert states(watcher) == ["RUNNING"]
    now[0] += 1
    assert states(watcher) == ["FAIL"]


def test_a_working_process_updates_its_heartbeat(storage: BaseStorage) -> None:
    shared = worker(storage, lost_after=0.04)
    trial = started(shared, "a")
    with shared.heartbeat(trial):
        for _ in range(20_000):
            heartbeat: Any = shared.trials()[0].user_attrs.get(HEARTBEAT, 0)
            if heartbeat >= 2:
                break
            time.sleep(0.01)
    assert heartbeat >= 2


def test_a_worker_that_was_declared_dead_changes_nothing(storage: BaseStorage) -> None:
    late, other = worker(storage), worker(storage, "elsewhere")
    trial = started(late, "a")
    other.study.tell(trial.number, state=TrialState.FAIL)
    retried = started(other, "a")
    late.complete(trial, [0.9], {"metrics": {}})
    other.complete(retried, [0.5], {})
    assert states(other) == ["FAIL", "COMPLETE"]
    assert other.trials()[1].values == [0.5]


def test_an_arch_outside_its_constraints_is_a_pruned_trial_without_value(storage: BaseStorage) -> None:
    shared = worker(storage)
    shared.add_pruned("a", TrialParams({"width": 24}, {"width": WIDTH}, {"macs": 0.5}), {})
    (trial,) = shared.trials()
    assert (trial.state, trial.values, trial.constraints) == (TrialState.PRUNED, None, {"macs": 0.5})
    assert WORKER not in trial.user_attrs
    assert to_retry([trial]) == []


def test_trials_of_other_programs_are_left_alone(storage: BaseStorage) -> None:
    shared = worker(storage)
    shared.study.ask()
    assert shared.trials() == []
