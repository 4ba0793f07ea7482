"""A command whose reader has had enough ends without a word, and no other broken pipe is passed over."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BEGINNING = "from supernet.cli.broken_pipe import exit_on_broken_pipe\nwith exit_on_broken_pipe():\n    "


def ended(work: str, is_read: bool) -> subprocess.CompletedProcess[str]:
    """What became of ``work`` in a process of its own, whose output somebody reads or nobody does."""
    reader, writer = os.pipe()
    if not is_read:
        os.close(reader)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    try:
        return subprocess.run(
            [sys.executable, "-c", BEGINNING + work],
            cwd=Path(__file__).parents[3],
            env=environment,
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writer)
        if is_read:
            os.close(reader)


@pytest.mark.parametrize("num", [1, 100_000])
def test_an_output_that_nobody_reads_ends_a_process_without_a_word(num: int) -> None:
    """Few words are kept back until the end, and many are not."""
    done = ended(f"for _ in range({num}): print('word')", is_read=False)
    assert (done.returncode, done.stderr) == (1, "")


def test_another_pipe_that_breaks_is_not_passed_over() -> None:
    done = ended("raise BrokenPipeError('another')", is_read=True)
    assert done.returncode == 1
    assert done.stderr.endswith("BrokenPipeError: another\n")
