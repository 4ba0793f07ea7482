"""What a request to stop shows."""

import os
import signal

import pytest

from supernet.cli.signals import stop_request


@pytest.mark.parametrize(
    ("number", "is_terminal", "is_shown"),
    [(signal.SIGINT, True, True), (signal.SIGINT, False, False), (signal.SIGTERM, True, False)],
)
def test_ctrl_c_at_a_terminal_says_that_the_work_in_progress_is_finished_first(
    number: signal.Signals,
    is_terminal: bool,
    is_shown: bool,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(os, "isatty", lambda descriptor: is_terminal)
    with stop_request() as stop_requested:
        signal.raise_signal(number)
        assert stop_requested()
    assert ("Ctrl-C again" in capfd.readouterr().err) == is_shown
