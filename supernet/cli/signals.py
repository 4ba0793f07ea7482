"""Lets Ctrl-C, SIGTERM and a closed terminal (SIGHUP) stop work at a clean point."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from supernet.cli.interrupts import show_at_once

STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
SAME_REQUEST_SECONDS = 2.0
"""A signal of a program this soon after the first is the same request: SLURM and ``torchrun`` both send a SIGTERM to
each process; a terminal that closes and its shell both send a SIGHUP, systemd one after its SIGTERM."""

_STOPPING = b"\nfinishing the work in progress; Ctrl-C again stops at once\n"

_HANG_UP = getattr(signal, "SIGHUP", None)  # not on Windows


@contextmanager
def stop_request() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether a signal asks to stop, so that work can stop at a clean point.

    Ctrl-C at a terminal shows at once that the work in progress is finished first. A second signal ends the process at
    once, unless it is within ``SAME_REQUEST_SECONDS`` of the first and not Ctrl-C. A SIGHUP that is ignored, as
    ``nohup`` has it, stays so. Outside the main thread, where Python handles no signals, nothing asks to stop.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    requested_at: float | None = None
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    if before.get(_HANG_UP) == signal.SIG_IGN:
        del before[_HANG_UP]

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def request(number: int, frame: object) -> None:
        nonlocal requested_at
        now = time.monotonic()
        if requested_at is None:
            requested_at = now
            if number == signal.SIGINT and os.isatty(2):
                show_at_once(_STOPPING)
        elif number == signal.SIGINT or now - requested_at > SAME_REQUEST_SECONDS:
            restore()
            signal.raise_signal(number)

    for number in before:
        signal.signal(number, request)
    try:
        yield lambda: requested_at is not None
    finally:
        restore()
