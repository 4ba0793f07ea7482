"""Worker processes outlive the signals that stop a run, and end with their parent."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from multiprocessing.process import BaseProcess

import pytest
import torch

from supernet.errors import UserError
from supernet.pose.keypoints import COCO
from supernet.pose.synthetic.dataset import SyntheticPeople
from supernet.pose.training import worker_processes
from supernet.pose.training.augmentation import Augmentation, Batch
from supernet.pose.training.loader import StepSampler, training_loader
from supernet.pose.training.worker_processes import explain_dead_worker, held_stop_signals

STEPS = 12
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the sender of a signal is unknown")


def batches(num_workers: int) -> Iterator[Batch]:
    images = SyntheticPeople(COCO, 3, 1, 64, 64)
    return training_loader(images, StepSampler(3, [32] * STEPS, 2, 0), Augmentation.none(), num_workers)


def workers() -> list[BaseProcess]:
    return [process for process in multiprocessing.active_children() if process.name.startswith("Process-")]


def test_signals_to_a_group_of_processes_leave_its_workers_running() -> None:
    loaded = batches(2)
    images = [next(loaded).images]
    assert len(workers()) == 2
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        for worker in workers():
            _send_from_another_process(worker, number)
    images += [batch.images for batch in loaded]
    expected = [batch.images for batch in batches(0)]
    assert len(images) == STEPS
    assert all(torch.equal(seen, wanted) for seen, wanted in zip(images, expected, strict=True))


def _send_from_another_process(worker: BaseProcess, number: int) -> None:
    """Send a signal that is not its parent's, which may end it."""
    child = os.fork()
    if child == 0:
        os.kill(worker.pid or 0, number)
        os._exit(0)
    os.waitpid(child, 0)


def test_a_parent_can_end_its_workers() -> None:
    loaded = batches(1)
    next(loaded)
    (worker,) = workers()
    worker.terminate()
    worker.join(5)
    assert worker.exitcode == 0


def test_a_worker_that_dies_while_nobody_waits_for_it_is_reported_too() -> None:
    loaded = batches(1)
    next(loaded)

    def step() -> None:
        for worker in workers():
            worker.kill()
        while True:  # PyTorch's signal handler interrupts it
            signal.pause()

    with pytest.raises(UserError, match="has died"), explain_dead_worker(1):
        step()


def test_a_connection_that_breaks_before_the_signal_of_the_death_arrives_is_one_error() -> None:
    def notice(*_: object) -> None:
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")

    before = signal.signal(signal.SIGALRM, notice)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with (
            pytest.raises(UserError, match=r"has died \(DataLoader worker \(pid 7\) is killed by signal: Killed\.\);"),
            explain_dead_worker(1),
        ):
            raise EOFError
        assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_connection_that_breaks_without_any_signal_is_reported_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_processes, "_NOTICE_SECONDS", 0.05)
    with pytest.raises(UserError, match=r"has died \(the connection broke\);"), explain_dead_worker(1):
        raise ConnectionResetError("the connection broke")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_arrive_once_all_workers_have_started(number: int) -> None:
    seen: list[str] = []
    before = signal.signal(number, lambda *_: seen.append("signal"))
    try:
        with held_stop_signals():
            signal.raise_signal(number)
            seen.append("started")
    finally:
        signal.signal(number, before)
    assert seen == ["started", "signal"]
