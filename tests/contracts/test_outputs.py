"""Every command tries its output before its work: where nothing can be written, it says so at once."""

import os
import sys
from importlib import import_module
from pathlib import Path

import pytest

from supernet.cli.runs import create_run
from supernet.errors import UserError
from supernet.io import files
from tests.helpers.coco_files import write_custom_set
from tests.helpers.latency_tables import fake_table

SPLITS = " ".join(f"dataset.{split}.annotations=annotations/train.json" for split in ("train", "val", "test"))
COMMANDS = [
    # What these read does not exist, so an attempt to work would end with another error.
    ("subnet_export.__main__", "--model nowhere --output PLACE/model"),
    ("subnet_export.__main__", "--model nowhere --runs PLACE"),
    ("subnet_export.finetune", "--model nowhere --output PLACE/model --dataset synthetic"),
    ("subnet_export.benchmark", "--model nowhere --output PLACE/figures"),
    ("subnet_export.predict", "--model nowhere --output PLACE/people"),
    ("subnet_export.predict", "--model nowhere --results PLACE/people.json"),
    ("subnet_export.import_litepose", "nowhere nowhere --keypoints coco --output PLACE/model"),
    ("search.lut.__main__", "merge nowhere --output PLACE/table.json"),
    ("search.lut.__main__", "kit --output PLACE/kit.zip"),
    ("search.lut.__main__", "build --output PLACE/table.json"),
    ("search.lut.__main__", "verify table.json --output PLACE/verified.json"),
    ("supernet.pose.check", f"dataset=custom dataset.root=people {SPLITS} splits=[train] output=PLACE/report"),
]


@pytest.mark.parametrize(("module", "arguments"), COMMANDS)
def test_a_place_that_cannot_be_written_is_named_before_any_work(
    module: str,
    arguments: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "file"
    place.write_text("no folder")
    if "table.json" in arguments:
        files.write_json(tmp_path / "table.json", fake_table().to_dict())
    if "people" in arguments:
        write_custom_set(tmp_path / "people", 1)
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(sys, "argv", ["command", *arguments.replace("PLACE", str(place)).split()])
    with pytest.raises(SystemExit) as stop:
        import_module(module).main()
    assert stop.value.code == 2
    shown = capsys.readouterr().err
    assert shown.startswith(f"error: cannot write {place}/")
    assert shown.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_folder_in_which_no_file_can_be_written_is_removed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(UserError, match=r"cannot write .*No space left on device"):
        create_run(tmp_path, "evaluate", "mine")
    assert os.listdir(tmp_path / "evaluate") == []


def test_trying_a_place_leaves_nothing_there(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("old")
    for path in (tmp_path / "report.json", tmp_path / "new" / "deep" / "report.json"):
        files.check_writable(path)
    assert os.listdir(tmp_path) == ["report.json"]
    assert (tmp_path / "report.json").read_text() == "old"
