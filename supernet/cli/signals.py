"""Lets Ctrl-C and SIGTERM stop work at a clean point."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SAME_REQUEST_SECONDS = 2.0
"""A SIGTERM this soon after the first is the same request: SLURM and ``torchrun`` both send one to each process."""


@contextmanager
def stop_request() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether Ctrl-C or SIGTERM has arrived, so that work can stop at a clean point.

    A second signal ends the process at once, unless it is a SIGTERM within ``SAME_REQUEST_SECONDS`` of the first.
    """
    requested_at: float | None = None
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def request(number: int, frame: object) -> None:
        nonlocal requested_at
        now = time.monotonic()
        if requested_at is None:
            requested_at = now
        elif number != signal.SIGTERM or now - requested_at > SAME_REQUEST_SECONDS:
            restore()
            signal.raise_signal(number)

    for number in before:
        signal.signal(number, request)
    try:
        yield lambda: requested_at is not None
    finally:
        restore()
