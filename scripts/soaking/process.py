"""Runs a command as a process that may be interrupted or run out of disk space, and must not hang."""

import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
POLL_SECONDS = 0.001
LONGEST_TICK_SECONDS = 1.0
GRACE_SECONDS = 10.0
"""Time between the signal that makes a hanging command print its stack and the one that kills it."""


class Clock:
    """Counts the seconds during which this process ran; while it is stopped (SIGSTOP), at most one second counts.

    Attributes:
        seconds: Seconds since the clock was made, up to the last tick.
    """

    def __init__(self) -> None:
        self.seconds, self._last = 0.0, time.monotonic()

    def tick(self) -> float:
        """Advance to now, by at most one second, and return the seconds so far."""
        now = time.monotonic()
        self.seconds += min(now - self._last, LONGEST_TICK_SECONDS)
        self._last = now
        return self.seconds


@dataclass(frozen=True)
class Interruption:
    """An event during a process, such as a signal.

    Attributes:
        kind: Kind of the fault.
        act: Makes it happen.
        is_ready: Called often; the delay starts when it returns True.
        delay: Seconds.
    """

    kind: str
    act: Callable[["subprocess.Popen[bytes]"], None]
    is_ready: Callable[[], bool]
    delay: float


@dataclass(frozen=True)
class CommandResult:
    """How a command ended.

    Attributes:
        command: Arguments after the interpreter.
        status: Exit status; negative for a signal.
        stderr: Standard error.
        stdout: Standard output.
        interrupted: Whether the interruption happened while it ran.
        hung: Whether it exceeded its time limit and was killed.
        seconds: Duration on the ``Clock``.
    """

    command: tuple[str, ...]
    status: int
    stderr: str
    stdout: str = ""
    interrupted: bool = False
    hung: bool = False
    seconds: float = 0.0


def run(
    arguments: Sequence[str],
    python: str,
    clock: Clock,
    limit_seconds: float,
    interruption: Interruption | None = None,
    largest_file: int | None = None,
    on_poll: Callable[[], None] = lambda: None,
) -> CommandResult:
    """Run ``python arguments`` in the project's folder until it ends.

    Args:
        arguments: Arguments after the interpreter.
        python: The interpreter.
        clock: Measures the time.
        limit_seconds: Time limit; a command that exceeds it is made to print its stack, then killed.
        interruption: The interruption, if any.
        largest_file: Limit on the size of files in bytes, as if the disk were full there.
        on_poll: Called regularly; if it raises, the process is killed.
    """

    def limit() -> None:
        if largest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

    environment = {**os.environ, "PYTHONFAULTHANDLER": "1", "COLUMNS": "200"}
    process = subprocess.Popen(
        [python, *arguments],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,  # not files, which the limit would apply to
        stderr=subprocess.PIPE,
        preexec_fn=limit,
    )
    start, ready, interrupted, hung = clock.tick(), None, False, False
    with ThreadPoolExecutor(2) as readers:
        texts = [readers.submit(pipe.read) for pipe in (process.stderr, process.stdout) if pipe is not None]
        try:
            while process.poll() is None:
                now = clock.tick()
                if interruption is not None and not interrupted:
                    if ready is None and interruption.is_ready():
                        ready = now
                    if ready is not None and now - ready >= interruption.delay:
                        interruption.act(process)
                        interrupted = True
                if now - start > limit_seconds and not hung:
                    hung = True
                    process.send_signal(signal.SIGABRT)
                elif now - start > limit_seconds + GRACE_SECONDS:
                    process.kill()
                on_poll()
                time.sleep(POLL_SECONDS)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        stderr, stdout = (text.result().decode(errors="replace") for text in texts)
    return CommandResult(tuple(arguments), process.returncode, stderr, stdout, interrupted, hung, clock.tick() - start)
