"""Work that processes of one machine share: forked from this one, they start with all that it has in memory."""

import multiprocessing
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Generator
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

import torch

from supernet.errors import UserError

T = TypeVar("T")


def can_fork() -> bool:
    """Whether this system can fork; on others, libraries do not survive it."""
    return sys.platform == "linux" and "fork" in multiprocessing.get_all_start_methods()


def results_of(
    num_workers: int, num_tasks: int, work: Callable[[int], T], purpose: str
) -> Generator[tuple[int, T], None, None]:
    """Yield the number of each task and what ``work`` returns for it, as they come.

    Each process takes the next task when it has done one. Closing the iterator ends the processes.

    Args:
        num_workers: Processes.
        num_tasks: Tasks, which are numbered from 0.
        work: Does a task in a process, with one thread of PyTorch.
        purpose: What a process does, for messages: "a process that ``purpose`` ...".

    Raises:
        UserError: As ``work``, or a process was killed.
        RuntimeError: ``work`` failed in another way; its traceback is the message.
    """
    context = multiprocessing.get_context("fork")
    next_task = context.Value("q", 0)
    workers: dict[Connection, BaseProcess] = {}
    worker: BaseProcess
    try:
        for _ in range(num_workers):
            results, sender = context.Pipe(duplex=False)
            worker = context.Process(target=_work, args=(num_tasks, work, next_task, sender), daemon=True)
            with warnings.catch_warnings():
                # Python warns of forks beside threads. The child uses none: it sets their number to 1 at once.
                warnings.simplefilter("ignore", DeprecationWarning)
                worker.start()
            sender.close()
            workers[results] = worker
        waiting = set(workers)
        while waiting:
            for ready in wait(list(waiting)):
                assert isinstance(ready, Connection)
                results = ready
                try:
                    message = results.recv()
                except EOFError:
                    raise UserError(_killed(workers[results], purpose)) from None
                if message is None:
                    waiting.remove(results)
                elif isinstance(message, UserError):
                    raise message
                elif isinstance(message, str):
                    raise RuntimeError(f"a process that {purpose} failed:\n{message}")
                else:
                    yield message
    finally:
        for results, worker in workers.items():
            results.close()
            worker.terminate()
            worker.join()
            worker.close()


def _killed(worker: BaseProcess, purpose: str) -> str:
    worker.join()
    return (
        f"a process that {purpose} was killed (exit status {worker.exitcode}), perhaps because memory ran out; use "
        "fewer with threads=1"
    )


def _work(num_tasks: int, work: Callable[[int], T], next_task: Any, results: Connection) -> None:
    """Do tasks until none is left, and send their numbers and results, then None; or else what went wrong."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parent = os.getppid()
    torch.set_num_threads(1)
    try:
        while os.getppid() == parent:
            with next_task.get_lock():
                number = next_task.value
                next_task.value += 1
            if number >= num_tasks:
                break
            results.send((number, work(number)))
        results.send(None)
    except UserError as error:
        results.send(error)
    except BrokenPipeError:
        pass  # the parent has stopped
    except Exception as error:
        results.send(traceback.format_exc())
        raise SystemExit(1) from error  # ends the process without a second traceback
