"""Ctrl-C ends every command in one line with exit status 130, at any time."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from supernet.cli.interrupts import begin_work, command

ROOT = Path(__file__).parents[3]
LINE = "error: stopped by Ctrl-C\n"


def outcome(job: Callable[[Callable[[], None]], None], default: bool = True) -> tuple[int, str]:
    """Run ``job`` as a command in another process; its argument sends Ctrl-C. Return exit status and error output."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler if default else signal.SIG_IGN)
        os.dup2(writer, 2)
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
        status = 0
        try:
            command(lambda: job(lambda: signal.raise_signal(signal.SIGINT)))()
        except SystemExit as error:
            status = int(str(error.code))
        except BaseException:  # noqa: BLE001 - what would be a traceback
            status = 1
        os._exit(status)
    os.close(writer)
    with os.fdopen(reader) as shown:
        text = shown.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text


def test_before_its_work_a_command_ends_at_once_whatever_would_catch_the_interrupt() -> None:
    def job(interrupt: Callable[[], None]) -> None:
        try:
            interrupt()
        except BaseException:  # noqa: BLE001 - as libraries do while they are imported
            time.sleep(10)

    assert outcome(job) == (130, LINE)


def test_at_work_a_command_cleans_up(tmp_path: Path) -> None:
    half = tmp_path / "half"

    def job(interrupt: Callable[[], None]) -> None:
        begin_work()
        half.write_text("")
        try:
            interrupt()
        finally:
            half.unlink()

    assert outcome(job) == (130, LINE)
    assert not half.exists()


@pytest.mark.parametrize("kind", [RecursionError, AttributeError, SystemError])
def test_an_interrupt_that_a_library_turned_into_another_error_is_one_line_too(kind: type[Exception]) -> None:
    def job(interrupt: Callable[[], None]) -> None:
        begin_work()
        try:
            interrupt()
        except KeyboardInterrupt:
            raise kind from None

    assert outcome(job) == (130, LINE)


def test_a_second_interrupt_while_it_ends_is_no_traceback() -> None:
    def job(interrupt: Callable[[], None]) -> None:
        begin_work()
        interrupt()

    def twice(interrupt: Callable[[], None]) -> None:
        try:
            command(lambda: job(interrupt))()
        finally:
            interrupt()

    status, shown = outcome(twice)
    assert "Traceback" not in shown
    assert status in (130, -signal.SIGINT)


def test_errors_without_an_interrupt_and_exit_statuses_stay_as_they_are() -> None:
    @command
    def fails() -> None:
        begin_work()
        raise RuntimeError("a bug")

    @command
    def ends() -> None:
        raise SystemExit(3)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(RuntimeError, match="a bug"):
        fails()
    with pytest.raises(SystemExit) as stop:
        ends()
    assert stop.value.code == 3
    assert signal.getsignal(signal.SIGINT) is before


def test_an_ignored_interrupt_stays_ignored() -> None:
    assert outcome(lambda interrupt: interrupt(), default=False) == (0, "")


COMMANDS = {
    "supernet.train": ["steps=100000"],
    "supernet.evaluate": ["weights=tests/golden/release/supernet_format_2.pt"],
    "supernet.pose.check": ["dataset=synthetic"],
    "search.evolve": ["supernet=tests/golden/release/supernet_format_2.pt"],
    "search.optuna_search": ["supernet=tests/golden/release/supernet_format_2.pt"],
    "search.lut": ["build", "--output", "OUT/table.json"],
    "subnet_export": ["--supernet", "tests/golden/release/supernet_format_2.pt", "--output", "OUT/model"],
    "subnet_export.finetune": ["--model", "tests/golden/release/model", "--output", "OUT/model"],
    "subnet_export.predict": ["--model", "tests/golden/release/model", "--output", "OUT/people"],
    "subnet_export.benchmark": ["--model", "tests/golden/release/model", "--output", "OUT/figures"],
    "supernet.doctor": [],
}


@pytest.mark.slow
@pytest.mark.parametrize("module", COMMANDS)
@pytest.mark.parametrize("seconds", [0.5, 1.0, 2.0, 4.0, 7.0])
def test_every_command_can_be_stopped_at_any_time(module: str, seconds: float, tmp_path: Path) -> None:
    arguments = [word.replace("OUT", str(tmp_path)) for word in COMMANDS[module]]
    arguments += [f"runs={tmp_path}"] * (module in ("supernet.train", "supernet.evaluate") or "_search" in module)
    arguments += [f"runs={tmp_path}"] * (module == "search.evolve")
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, shown = process.communicate(timeout=120)
    assert process.returncode in (0, 2, 130), shown
    assert len([line for line in shown.splitlines() if not line.startswith("warning: ")]) <= 1, shown
