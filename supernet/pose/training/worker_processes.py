"""Worker processes of a loader: the signals that reach them, and what their death means."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

import cv2
import torch

from supernet.errors import UserError

_CAN_HOLD = hasattr(signal, "pthread_sigmask")  # not on Windows
_STOP_SIGNALS = {getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)}
_NOTICE_SECONDS = 5.0


@contextmanager
def held_stop_signals() -> Iterator[None]:
    """Hold back the signals that stop a run while worker processes start, which inherit this.

    ``timeout``, systemd, SLURM and a terminal send such a signal to all processes of a run. The run itself stops after
    its step; a worker that ends before makes the step fail. It is safe only once :func:`start_worker` has run.
    """
    if not _CAN_HOLD:
        yield
        return
    if multiprocessing.get_start_method() != "fork":
        resource_tracker.ensure_running()  # when it starts, it releases these signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start_worker(_: int) -> None:
    """Restrict a worker process to one core, and let only its parent end it."""
    cv2.setNumThreads(0)  # OpenCV would use all cores
    torch.set_num_threads(1)
    for number in _STOP_SIGNALS - {signal.SIGTERM}:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_with_parent, daemon=True).start()
    else:  # the sender is unknown there; a worker ends when its parent closes the queues, or has ended
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _end_with_parent() -> None:
    """End this process when its parent sends SIGTERM, as ``Process.terminate`` does; ignore that of others."""
    parent = multiprocessing.parent_process()
    while parent is not None:
        if signal.sigwaitinfo({signal.SIGTERM}).si_pid == parent.pid:
            os._exit(0)


@contextmanager
def explain_dead_worker(num_workers: int = 0) -> Iterator[None]:
    """Raise UserError if a worker process dies.

    PyTorch notices that in a signal handler, so the error may come up anywhere, not only where images are awaited.

    Args:
        num_workers: Of the loader whose images are awaited here; its broken connections are explained, too.
    """
    try:
        yield
    except (RuntimeError, ConnectionError, EOFError, FileNotFoundError) as error:
        # A worker that dies while it sends a batch may show up only as a broken connection.
        is_broken_connection = num_workers and not isinstance(error, RuntimeError) and "Caught " not in str(error)
        if not is_broken_connection and not str(error).startswith("DataLoader worker (pid"):
            raise
        notice = str(_death_notice() or error) if is_broken_connection else str(error)
        raise UserError(
            f"a process that loads images has died ({' '.join(notice.split())}); if memory ran out, lower "
            "num_workers or image_memory_mib, then resume from the last checkpoint"
        ) from error


def _death_notice() -> RuntimeError | None:
    """Return what PyTorch's signal handler raises for a worker that has just died; None if nothing within seconds.

    A process closes its connections before its parent gets the signal. Raised later, the error would interrupt the
    report of the first one.
    """
    deadline = time.monotonic() + _NOTICE_SECONDS
    try:
        while hasattr(signal, "SIGCHLD") and time.monotonic() < deadline:
            time.sleep(0.01)
    except RuntimeError as error:
        return error
    return None
