"""The summary that a command prints at its end shows every path on one line, however narrow the terminal is."""

import argparse
from pathlib import Path

import pytest

from subnet_export.exported_model import ExportedModel
from subnet_export.runs import finish


def test_paths_never_wrap(
    exported: tuple[ExportedModel, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    folder = tmp_path / "a folder with a long name"
    finish(argparse.Namespace(folder=folder, is_default_folder=False), exported[0], "title", {"seconds": 1.5})
    lines = capsys.readouterr().out.splitlines()
    for name in ("weights.pt", "model.json", "README.md", "summary.json"):
        assert any(line.endswith(str(folder / name)) for line in lines)
