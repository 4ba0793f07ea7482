"""Every script answers --help without starting its work."""

import importlib
import sys
from pathlib import Path

import pytest

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
