"""Runs commands of this repository as processes, with a limit on their time."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_TAIL = 4000
"""Characters of the output in an error."""
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Finished:
    """A command that has ended.

    Attributes:
        status: Its exit status; negative after a signal.
        seconds: How long it ran.
        output: What it printed, standard error included.
    """

    status: int
    seconds: float
    output: str


class CommandFailed(RuntimeError):
    """A command ended with another status than it should, or ran too long; the message holds the end of its output."""


def python(
    module: str, arguments: list[str], log: Path, limit: float, stop_when: Callable[[], bool] | None = None
) -> Finished:
    """Run ``python -m module arguments`` from the repository's root and return how it ended.

    Args:
        module: Name of the module.
        arguments: Its command line.
        log: New file for its output.
        limit: Seconds after which it is killed with all processes that it started.
        stop_when: Asked several times a second; SIGTERM is sent once it is true.

    Raises:
        CommandFailed: The command ran too long.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", module, *arguments]
    began = time.perf_counter()
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, cwd=ROOT, env=environment, start_new_session=True
        )
        is_stopped = False
        try:
            while process.poll() is None:
                if time.perf_counter() - began > limit:
                    raise CommandFailed(f"{' '.join(command)} ran for more than {limit:.0f} s\n{tail(log)}")
                if stop_when is not None and not is_stopped and stop_when():
                    process.send_signal(signal.SIGTERM)
                    is_stopped = True
                time.sleep(_POLL_SECONDS)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    return Finished(process.returncode, time.perf_counter() - began, log.read_text(encoding="utf-8", errors="replace"))


def checked(module: str, arguments: list[str], log: Path, limit: float) -> Finished:
    """Run a command as :func:`python` does; it must succeed.

    Raises:
        CommandFailed: It did not, or ran too long.
    """
    finished = python(module, arguments, log, limit)
    if finished.status:
        raise CommandFailed(f"python -m {module} {' '.join(arguments)} exited with {finished.status}\n{tail(log)}")
    return finished


def tail(log: Path) -> str:
    """Return the end of a command's output."""
    return log.read_text(encoding="utf-8", errors="replace")[-_TAIL:]
