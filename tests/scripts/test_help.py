"""Every script answers --help without starting its work."""

import argparse
import importlib
import runpy
import sys
from pathlib import Path

import pytest

from supernet.cli.arguments import CommandLine
from supernet.errors import UserError

SCRIPTS = Path(__file__).parents[2] / "scripts"
MODULES = [
    ".".join(path.relative_to(SCRIPTS.parent).with_suffix("").parts)
    for folder in (SCRIPTS, SCRIPTS / "benchmarks", SCRIPTS / "studies")
    for path in sorted(folder.glob("*.py"))
    if "__main__" in path.read_text("utf-8")
]


@pytest.mark.parametrize("name", MODULES)
def test_a_script_answers_help(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    script = importlib.import_module(name)
    monkeypatch.setattr(script, "subprocess", None, raising=False)  # the demo and some benchmarks start processes
    with pytest.raises(SystemExit) as ended:
        script.main()
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("usage:")


@pytest.mark.parametrize("name", [name for name in MODULES if name.split(".")[1] in ("benchmarks", "studies")])
def test_a_script_reports_the_errors_of_its_user_in_one_line(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if name == "scripts.benchmarks.search":
        pytest.skip("runs in other checkouts, too, and imports nothing of them before it is asked to")

    def refuse(*_: object, **__: object) -> None:
        raise UserError("steps must be at least 1")

    path = Path(importlib.import_module(name).__file__ or "")
    for parser in (argparse.ArgumentParser, CommandLine):
        monkeypatch.setattr(parser, "parse_args", refuse)
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(path), run_name="__main__")
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: steps must be at least 1\n"
