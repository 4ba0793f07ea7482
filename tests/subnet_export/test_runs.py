"""Start and end of a run: its folder and the lock of it, and the paths and commands that it prints."""

import argparse
import os
import shlex
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from subnet_export.exported_model import ExportedModel, FormatRecord
from subnet_export.runs import finish, locked, unlocked_folder
from tests.helpers.locks import held_by_another_process


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


@pytest.mark.parametrize(("name", "is_run"), [("onnx", True), ("litert_int8", True), ("openvino", False)])
def test_the_command_without_pytorch_is_shown_for_each_file_that_pose_runs(
    name: str,
    is_run: bool,
    exported: tuple[ExportedModel, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = replace(exported[0], formats={name: FormatRecord({}, "float32", 0.0, 0.5, 0.5, 2)})
    folder = tmp_path / "a folder & co"
    finish(argparse.Namespace(folder=folder, is_default_folder=False), model, "title", {})
    commands = [line for line in capsys.readouterr().out.splitlines() if line.startswith("without PyTorch")]
    assert [shlex.split(line)[2:] for line in commands] == [["python", str(folder / "pose.py"), "IMAGE"]] * is_run


def test_a_run_that_starts_in_the_same_second_gets_a_folder_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "finetune" / "now"
    with locked(folder):
        assert unlocked_folder(folder, is_default=True).name == "now_2"
        assert unlocked_folder(folder, is_default=False) == folder
    assert unlocked_folder(folder, is_default=True) == folder
    assert os.listdir(tmp_path) == []


def test_the_lock_of_a_killed_run_goes_with_the_next_one(tmp_path: Path) -> None:
    foreign, named = tmp_path / ".other.lock", tmp_path / ".mine.lock"
    for path, content in ((foreign, "123\n"), (named, f"process {os.getpid()} on {socket.gethostname()}\n")):
        path.write_text(content)
    with held_by_another_process(locked(tmp_path / "first")):
        assert unlocked_folder(tmp_path / "first", is_default=True).name == "first_2"
    assert (tmp_path / ".first.lock").exists()
    assert unlocked_folder(tmp_path / "model", is_default=False).name == "model"  # a folder that the user named
    assert (tmp_path / ".first.lock").exists()
    assert unlocked_folder(tmp_path / "second", is_default=True).name == "second"
    assert sorted(os.listdir(tmp_path)) == [".mine.lock", ".other.lock"]
