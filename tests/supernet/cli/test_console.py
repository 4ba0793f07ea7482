"""Commands show what the modules log; programs that use the modules as a library decide that themselves."""

import io
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from supernet.cli.console import LOGGERS, STDERR, run_command, show_logs
from supernet.errors import UserError

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _loggers_are_restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Start each test without handlers and levels, as a new process does, and put back what was there."""
    monkeypatch.delenv("RANK", raising=False)
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(logger.handlers[:], logger.level) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.level = [], logging.NOTSET
    yield
    for logger, (handlers, level) in zip(loggers, before, strict=True):
        logger.handlers = handlers
        logger.setLevel(level)


@pytest.mark.parametrize("name", LOGGERS)
def test_information_goes_to_standard_output_and_warnings_to_standard_error(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    show_logs()
    logger = logging.getLogger(f"{name}.some.module")
    logger.debug("step 1")
    logger.info("read %d images of [bold]%s[/bold] %s", 3, "coco", "x" * 200)
    logger.warning("%s has no checksum", "a.pt")
    logger.error("worker 2 died")
    captured = capsys.readouterr()
    assert captured.out == f"read 3 images of [bold]coco[/bold] {'x' * 200}\n"
    assert captured.err == "warning: a.pt has no checksum\nerror: worker 2 died\n"


def test_a_second_call_shows_nothing_twice_and_replaces_the_console(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(file=io.StringIO())
    show_logs()
    show_logs(console)
    logging.getLogger("supernet").info("once")
    logging.getLogger("supernet").warning("once")
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == "once\n"
    assert capsys.readouterr() == ("", "warning: once\n")


def test_equal_warnings_are_shown_once_per_command(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        show_logs()
        for path in ("a", "b", "a"):
            logging.getLogger("supernet.io").warning("%s is damaged", path)
    assert capsys.readouterr().err == 2 * "warning: a is damaged\nwarning: b is damaged\n"


@pytest.mark.parametrize(("rank", "shown"), [("0", "epoch 1\n"), ("1", "")])
def test_only_the_first_of_several_processes_shows_information(
    rank: str, shown: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", rank)
    show_logs()
    logging.getLogger("search").info("epoch 1")
    logging.getLogger("search").warning("process %s waits", rank)
    assert capsys.readouterr() == (shown, f"warning: process {rank} waits\n")


def test_control_characters_of_file_names_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    show_logs()
    logging.getLogger("supernet").info("read a\x1b[2Jb\nline 2")
    logging.getLogger("supernet").warning("a\x1b[2Jb is damaged")
    assert capsys.readouterr() == ("read a\\x1b[2Jb\nline 2\n", "warning: a\\x1b[2Jb is damaged\n")


def test_commands_show_logs_and_user_errors(capsys: pytest.CaptureFixture[str]) -> None:
    def job() -> None:
        logging.getLogger("subnet_export.model").info("ready")
        raise UserError("steps must be at least 1, got 0")

    with pytest.raises(SystemExit) as caught:
        run_command(job)
    assert caught.value.code == 2
    assert capsys.readouterr() == ("ready\n", "error: steps must be at least 1, got 0\n")


def test_commands_whose_output_is_data_show_logs_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    def job() -> None:
        logging.getLogger("supernet.io.hub").info("downloading")
        print("{}")

    run_command(job, STDERR)
    assert capsys.readouterr() == ("{}\n", "downloading\n")


def test_commands_with_configuration_files_show_logs() -> None:
    """Hydra configures logging itself before it calls the job."""
    program = """
import logging
from supernet.cli.hydra_app import run_with_config
def job(config):
    logging.getLogger("supernet.train").info("%d steps", config["steps"])
    logging.getLogger("search").warning("slow")
run_with_config("train", job)
"""
    command = [sys.executable, "-c", program, "steps=3"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert (ended.stdout, ended.stderr) == ("3 steps\n", "warning: slow\n")


@pytest.mark.parametrize(("options", "shown"), [([], ""), (["-W", "always"], "odd input")])
def test_warnings_of_libraries_are_shown_on_request_only(options: list[str], shown: str) -> None:
    program = """
import warnings
from supernet.cli.console import run_command
run_command(lambda: warnings.warn("odd input", UserWarning))
"""
    command = [sys.executable, *options, "-c", program]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert shown in ended.stderr
    assert bool(ended.stderr) == bool(shown)


def test_without_a_command_records_go_where_logging_sends_them() -> None:
    """Importing attaches no handler and sets no level: records propagate to the program's own handlers."""
    program = """
import logging, sys
import supernet.cli.console, supernet.cli.hydra_app
logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(name)s %(message)s", level=logging.WARNING)
logging.getLogger("supernet.io").info("hidden")
logging.getLogger("supernet.io").warning("mine")
logging.getLogger("supernet").setLevel(logging.ERROR)
logging.getLogger("supernet.io").warning("silenced")
"""
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert (ended.stdout, ended.stderr) == ("WARNING supernet.io mine\n", "")


def test_an_operation_that_a_device_lacks_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    def job() -> None:
        raise NotImplementedError(
            "The operator 'aten::scatter_reduce.two_out' is not currently implemented for the MPS device. If you want "
            "this op to be considered for addition please comment on the issue"
        )

    with pytest.raises(SystemExit) as ended:
        run_command(job)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert "aten::scatter_reduce.two_out for device mps" in error
    assert "PYTORCH_ENABLE_MPS_FALLBACK=1" in error
    assert error.count("\n") == 1


def test_other_gaps_in_the_code_keep_their_traceback() -> None:
    def job() -> None:
        raise NotImplementedError("a method of ours")

    with pytest.raises(NotImplementedError, match="of ours"):
        run_command(job)
