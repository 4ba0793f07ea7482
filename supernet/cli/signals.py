"""Stops on request: Ctrl-C and SIGTERM end work at a clean point."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SAME_REQUEST_SECONDS = 2.0
"""SIGTERM comes twice where two ask for one stop: SLURM signals every process of a job, and ``torchrun`` its own."""


@contextmanager
def stop_request() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether Ctrl-C or SIGTERM has come, so that work can end at a clean point.

    A second signal ends the process at once, unless it is a SIGTERM within ``SAME_REQUEST_SECONDS`` of the first.
    """
    asked_at: float | None = None
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def request(number: int, frame: object) -> None:
        nonlocal asked_at
        now = time.monotonic()
        if asked_at is None:
            asked_at = now
        elif number != signal.SIGTERM or now - asked_at > SAME_REQUEST_SECONDS:
            restore()
            signal.raise_signal(number)

    for number in before:
        signal.signal(number, request)
    try:
        yield lambda: asked_at is not None
    finally:
        restore()
