"""Processes that share tasks do each of them once, and end with the one that started them."""

import os
import signal
import time
from contextlib import closing

import pytest
import torch

from supernet.compute.forked import results_of
from supernet.errors import UserError


@pytest.mark.parametrize(("num_workers", "num_tasks"), [(1, 3), (2, 7), (3, 2), (2, 0)])
def test_each_task_is_done_once_in_another_process_on_one_thread(num_workers: int, num_tasks: int) -> None:
    def work(number: int) -> tuple[int, int, int]:
        return number**2, os.getpid(), torch.get_num_threads()

    results = dict(results_of(num_workers, num_tasks, work, "counts"))
    assert {number: value for number, (value, _, _) in results.items()} == {i: i**2 for i in range(num_tasks)}
    assert os.getpid() not in {process for _, process, _ in results.values()}
    assert all(threads == 1 for _, _, threads in results.values())


def test_closing_ends_the_processes() -> None:
    def work(number: int) -> int:
        if number:
            time.sleep(60)
        return os.getpid()

    with closing(results_of(2, 3, work, "sleeps")) as results:
        _, worker = next(results)
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)


def test_a_user_error_is_that_of_the_process() -> None:
    def work(number: int) -> int:
        raise UserError(f"image {number} is broken")

    with pytest.raises(UserError, match="image 0 is broken"):
        dict(results_of(1, 1, work, "counts"))


def test_a_killed_process_is_one_sentence() -> None:
    def work(number: int) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return number

    with pytest.raises(UserError, match=r"that counts was killed .*threads=1"):
        dict(results_of(2, 2, work, "counts"))


def test_another_failure_keeps_its_traceback() -> None:
    def work(number: int) -> float:
        return 1 / number

    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        dict(results_of(1, 1, work, "divides"))
