"""Completion offers what may come next, and the scripts of the shells are what these shells read."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from supernet.cli.commands import installed
from supernet.cli.entry import completion
from supernet.cli.entry.completion import candidates
from supernet.cli.entry.shells import SHELLS
from supernet.cli.option_docs import choices

ROOT = Path(__file__).parents[4]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("tra", ["train"]),
        ("--v", ["--version"]),
        ("train st", ["steps="]),
        ("train --st", ["--steps"]),
        ("train --batch", ["--batch-size"]),
        ("train space=p", ["space=photos"]),
        ("train --space=p", ["--space=photos"]),
        ("train --space p", ["photos"]),
        ("train plots=", ["plots=false", "plots=true"]),
        ("train --steps ", []),
        ("train steps=", []),
        ("train dataset.ro", []),
        ("train dataset=coco dataset.ro", ["dataset.root="]),
        ("train --dataset coco dataset.ro", ["dataset.root="]),
        ("finetune --augmentation=l", ["--augmentation=light"]),
        ("check dataset.ro", ["dataset.root="]),
        ("search constraint.ma", ["constraint.macs=", "constraint.macs_paper="]),
        ("export check", ["check-images="]),
        ("export --check", ["--check-images"]),
        ("finetune augmentation=l", ["augmentation=light"]),
        ("finetune --augmentation l", ["light"]),
        ("predict show=", ["show=false", "show=true"]),
        ("lut me", ["merge"]),
        ("lut build --thr", ["--threads"]),
        ("completion ", sorted(SHELLS)),
        ("nonsense ", []),
    ],
)
def test_it_offers_what_may_come_next(line: str, expected: list[str]) -> None:
    assert candidates(line.split(" ")) == expected


def test_it_offers_all_commands_and_all_options() -> None:
    assert {*installed()} == {*candidates([""])} - {"--help", "--version"}
    assert {f"experiment={name}" for name in choices("experiment")} == {*candidates(["train", "experiment="])}


def test_configurations_of_ones_own_are_offered(tmp_path: Path) -> None:
    (tmp_path / "space").mkdir()
    (tmp_path / "space" / "tiny.yaml").write_text("name: tiny\n")
    assert candidates(["train", "--config-dir", str(tmp_path), "space=t"]) == ["space=tiny"]


def run_shell(shell: str, program: str, folder: Path) -> str:
    """What a program of a shell prints, where ``litepose`` is a command."""
    script = folder / "litepose"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m supernet.cli.entry.main "$@"\n')
    script.chmod(0o755)
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "HOME": str(folder)}
    done = subprocess.run(
        [shell, "-c", program], env=environment, cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    return done.stdout


BASH = """eval "$(litepose completion bash)"
COMP_WORDBREAKS=$' =:'
ask() { COMP_LINE="$1" COMP_POINT=${#1}; COMPREPLY=(); _litepose; printf '<%s>' "${COMPREPLY[@]}"; echo; }
ask 'litepose tra'
ask 'litepose train st'
ask 'litepose train space=p'
ask 'litepose predict '
"""


def test_bash_replaces_only_what_is_behind_the_equals_sign(tmp_path: Path) -> None:
    first, option, choice, all_options = run_shell("bash", BASH, tmp_path).splitlines()
    assert (first, option, choice) == ("<train >", "<steps=>", "<photos >")
    assert "<model=>" in all_options


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_shells_read_their_scripts(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    if shell == "fish":
        program = "litepose completion fish | source; complete -C 'litepose train space=p'"
        assert run_shell(shell, program, tmp_path) == "space=photos\n"
    else:
        program = (
            'autoload -U compinit; compinit -u; source <(litepose completion zsh); print -r -- "$_comps[litepose]"'
        )
        assert run_shell(shell, program, tmp_path) == "_litepose\n"


@pytest.mark.parametrize("shell", SHELLS)
def test_the_command_prints_the_script_of_a_shell(
    shell: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["completion", shell])
    completion.main()
    assert capsys.readouterr().out == SHELLS[shell].script
