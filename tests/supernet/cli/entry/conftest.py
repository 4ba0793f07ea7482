"""The console script in this process."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from supernet.cli.entry.main import main


@pytest.fixture
def litepose(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Run a command line, whole or in words, in an empty folder; exit status, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])

    def run(*line: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["litepose", *" ".join(line).split()])
        status: object = 0
        try:
            main()
        except SystemExit as ended:
            status = ended.code
        shown = capsys.readouterr()
        return int(str(status or 0)), shown.out, shown.err

    return run
