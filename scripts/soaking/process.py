"""A command as a process that is struck by signals, runs out of disk, and must not hang."""

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
"""Between the signal that makes a hanging command tell where it is and the one that ends it."""


class Clock:
    """Seconds in which this process ran: time for which it was stopped (SIGSTOP) hardly counts.

    Attributes:
        seconds: Since the clock was made, up to the last tick.
    """

    def __init__(self) -> None:
        self.seconds, self._last = 0.0, time.monotonic()

    def tick(self) -> float:
        """Go on to now, by a second at most, and return the seconds so far."""
        now = time.monotonic()
        self.seconds += min(now - self._last, LONGEST_TICK_SECONDS)
        self._last = now
        return self.seconds


@dataclass(frozen=True)
class Strike:
    """Something that happens to a process, such as a signal.

    Attributes:
        kind: What it is called.
        act: Makes it happen.
        is_ready: Called often; the delay begins when it returns True.
        delay: Seconds from there.
    """

    kind: str
    act: Callable[["subprocess.Popen[bytes]"], None]
    is_ready: Callable[[], bool]
    delay: float


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        command: Its words after the interpreter's name.
        status: Exit status; negative for a signal.
        told: What it wrote on standard error.
        printed: What it wrote on standard output.
        struck: Whether something happened to it while it lived.
        hung: Whether it took longer than it may, and was ended.
        seconds: That it took, without those in which all was stopped.
    """

    command: tuple[str, ...]
    status: int
    told: str
    printed: str = ""
    struck: bool = False
    hung: bool = False
    seconds: float = 0.0


def run(
    words: Sequence[str],
    python: str,
    clock: Clock,
    limit_seconds: float,
    strike: Strike | None = None,
    largest_file: int | None = None,
    on_poll: Callable[[], None] = lambda: None,
) -> Ended:
    """Run ``python words`` in the project's folder to its end.

    Args:
        words: Of the command, after the interpreter's name.
        python: The interpreter.
        clock: Measures the time.
        limit_seconds: After which the command has hung; it is then made to tell where it is, and ended.
        strike: What happens to it.
        largest_file: Bytes that a file may have, as if the disk were full there.
        on_poll: Called now and then; if it raises, the process is killed.
    """

    def limit() -> None:
        if largest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

    environment = {**os.environ, "PYTHONFAULTHANDLER": "1", "COLUMNS": "200"}
    process = subprocess.Popen(
        [python, *words],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,  # not files, which the limit would hold for as well
        stderr=subprocess.PIPE,
        preexec_fn=limit,
    )
    start, ready, struck, hung = clock.tick(), None, False, False
    with ThreadPoolExecutor(2) as readers:
        texts = [readers.submit(pipe.read) for pipe in (process.stderr, process.stdout) if pipe is not None]
        try:
            while process.poll() is None:
                now = clock.tick()
                if strike is not None and not struck:
                    if ready is None and strike.is_ready():
                        ready = now
                    if ready is not None and now - ready >= strike.delay:
                        strike.act(process)
                        struck = True
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
        told, printed = (text.result().decode(errors="replace") for text in texts)
    return Ended(tuple(words), process.returncode, told, printed, struck, hung, clock.tick() - start)
