"""The console script starts every command in-process, quickly says what there is, and imports nothing of the user's."""

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from supernet.cli import commands
from supernet.cli.commands import COMMANDS, importable, installed, spelled
from supernet.cli.entry.main import main
from supernet.version import VERSION

ROOT = Path(__file__).parents[4]
HEAVY = ("torch", "hydra", "rich", "numpy", "cv2", "yaml", "matplotlib")
"""Packages that take long to import."""

Run = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("name", installed())
def test_every_command_explains_itself_by_its_name(name: str, litepose: Run) -> None:
    status, shown, errors = litepose(name, "--help")
    assert (status, errors) == (0, "")
    assert shown.startswith(f"usage: litepose {name}")
    assert "python -m" not in shown
    text = shown.partition("examples:\n")[2].partition("\n\n")[0]
    assert len(text.splitlines()) == 2
    assert all(line.startswith(f"  litepose {name}") for line in text.splitlines())
    assert litepose("help", name) == (0, shown, "")


@pytest.mark.parametrize("name", installed())
def test_every_command_takes_both_forms_and_refuses_what_it_does_not_know(name: str, litepose: Run) -> None:
    for words in (["--no-such-option=1"], ["--no-such-option", "1"]):
        status, shown, errors = litepose(name, *words)
        assert (status, shown) == (2, "")
        assert errors.startswith("error: ")
        assert errors.count("\n") == 1
        missed_first = "required" in errors or "invalid choice" in errors  # arguments without a name
        assert missed_first or "no_such_option" in errors.replace("-", "_")


def test_the_list_shows_what_is_installed(litepose: Run) -> None:
    for words in ((), ("--help",), ("-h",), ("help",)):
        status, shown, _ = litepose(*words)
        assert status == 0
        listed = {line.split()[0] for line in shown.splitlines() if line.startswith("  ") and "litepose" not in line}
        assert listed == set(installed())


def test_a_command_whose_module_is_missing_is_unknown(litepose: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = commands.Command("fly", "supernet.no_such_module", "fly", commands.USE)
    monkeypatch.setattr(commands, "COMMANDS", (*COMMANDS, missing))
    assert importable(missing) is None
    assert "fly" not in litepose("--help")[1]
    assert litepose("fly")[0] == 2


def test_every_module_with_an_entry_point_is_a_command() -> None:
    found = set()
    for package in ("supernet", "search", "subnet_export"):
        for path in (ROOT / package).rglob("*.py"):
            if "@command\ndef main" in path.read_text("utf-8"):
                name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
                found.add(name.removesuffix(".__main__"))
    assert found == {command.module for command in installed().values()}
    assert len({command.name for command in COMMANDS}) == len(COMMANDS)


def test_the_version_is_that_of_the_package(litepose: Run) -> None:
    assert litepose("--version") == (0, f"litepose {VERSION}\n", "")


def test_the_script_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["scripts"] == {commands.SCRIPT: f"{main.__module__}:{main.__name__}"}


@pytest.mark.parametrize(("words", "name"), [(["trian"], "train"), (["steps=5"], "COMMAND"), (["--steps"], "COMMAND")])
def test_an_unknown_command_is_an_error(words: list[str], name: str, litepose: Run) -> None:
    status, shown, errors = litepose(*words)
    assert (status, shown) == (2, "")
    assert name in errors
    assert errors.count("\n") == 1


def test_messages_name_commands_as_the_process_was_started(litepose: Run) -> None:
    text = "run python -m search.lut build, python -m subnet_export. or python -m pip"
    assert spelled(text) == text
    _, _, errors = litepose("predict", "model=nowhere", "a.jpg")
    assert "run litepose export" in errors
    assert spelled(text) == text, "the next command of this process is started in another way"


def test_a_command_runs_and_the_command_line_is_left_as_it_was(litepose: Run) -> None:
    status, shown, _ = litepose("train", "--cfg", "job", "--steps", "7", "batch-size=3")
    assert status == 0
    assert "steps: 7\n" in shown
    assert "batch_size: 3\n" in shown
    assert sys.argv[0] == "litepose"


def outside(folder: Path, *words: str, path: str = "") -> subprocess.CompletedProcess[str]:
    """Run the console script as an installed one, in ``folder``; prints the heavy packages that it imported."""
    script = folder.parent / "bin" / "litepose"
    script.parent.mkdir(exist_ok=True)
    script.write_text(
        "import sys\nfrom supernet.cli.entry.main import main\n"
        f"try:\n    main()\nfinally:\n    print('imported', *({set(HEAVY)} & sys.modules.keys()))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([path, str(ROOT)])}
    return subprocess.run(
        [sys.executable, str(script), *words],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "words",
    [("--help",), ("--version",), *((name, "--help") for name in installed()), ("completion", "words", "train", "st")],
    ids=" ".join,
)
def test_help_and_completion_import_nothing_slow(words: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    done = outside(tmp_path / "work", *words)
    assert done.stdout.splitlines()[-1] == "imported", done.stdout[-200:]


@pytest.mark.parametrize("path", ["", "."])
def test_files_of_the_user_with_the_names_of_our_packages_are_not_imported(path: str, tmp_path: Path) -> None:
    """Also where ``PYTHONPATH`` has the working folder before ours."""
    folder = tmp_path / "work"
    folder.mkdir()
    for name in ("search.py", "conf.py", "subnet_export.py"):
        (folder / name).write_text("raise SystemExit('the file of the user')")
    for command in ("search", "export"):
        done = outside(folder, command, "stepz=1", path=path)
        assert done.stderr.startswith("error: there is no option stepz"), done.stderr
        assert done.returncode == 2
