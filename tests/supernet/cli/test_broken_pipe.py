"""A command ends quietly when its output is closed early; other broken pipes keep their traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BEGINNING = "from supernet.cli.broken_pipe import exit_on_broken_pipe\nwith exit_on_broken_pipe():\n    "


def run(statement: str, is_read: bool) -> subprocess.CompletedProcess[str]:
    """Run ``statement`` in a new process whose standard output is, unless ``is_read``, a closed pipe."""
    reader, writer = os.pipe()
    if not is_read:
        os.close(reader)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    try:
        return subprocess.run(
            [sys.executable, "-c", BEGINNING + statement],
            cwd=Path(__file__).parents[3],
            env=environment,
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            timeout=250,
            check=False,
        )
    finally:
        os.close(writer)
        if is_read:
            os.close(reader)


@pytest.mark.parametrize("num", [1, 100_000])
def test_a_closed_output_ends_a_process_without_a_message(num: int) -> None:
    """A short output is written only by the flush at the end, a long one earlier."""
    done = run(f"for _ in range({num}): print('word')", is_read=False)
    assert (done.returncode, done.stderr) == (1, "")


def test_another_broken_pipe_keeps_its_traceback() -> None:
    done = run("raise BrokenPipeError('another')", is_read=True)
    assert done.returncode == 1
    assert done.stderr.endswith("BrokenPipeError: another\n")
