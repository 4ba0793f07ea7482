"""Files that lead elsewhere or have no end: no reader follows them out of its folder or fills the memory."""

import json
import os
import zipfile
from pathlib import Path

import pytest

from search.lut.devices import merge as merging
from search.lut.devices.merge import merge
from search.runs.resume import run_to_resume
from supernet.arch import Arch
from supernet.checkpoints.supernet_file import load_supernet
from supernet.errors import UserError
from supernet.io import files
from supernet.pose.coco.dataset import CocoPeople
from supernet.pose.keypoints import COCO
from supernet.training import run_folder
from tests.reliability.fuzz_targets import annotations, search_state


def test_links_to_devices_and_pipes_do_not_hang_or_fill_the_memory(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    with pytest.raises(UserError, match=r"pipe\.json is not valid JSON"):
        Arch.load(tmp_path / "pipe.json")
    with pytest.raises(UserError, match=r"zero\.json is larger than 67,108,864 bytes"):
        Arch.load(tmp_path / "zero.json")
    with pytest.raises(UserError, match="does not begin with the format"):
        merge([tmp_path / "pipe.json"])
    with pytest.raises(UserError, match=r"zero\.json is larger than 67,108,864 bytes"):
        merge([tmp_path / "zero.json"])
    (tmp_path / "supernet.pt").symlink_to("/dev/zero")
    with pytest.raises(UserError, match=r"supernet\.pt is larger than 67,108,864 bytes"):
        load_supernet(tmp_path)


def test_files_too_large_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "arch.json").open("wb") as file:
        file.truncate(files.SMALL + 1)
    with pytest.raises(UserError, match=r"arch\.json is larger than"):
        Arch.load(tmp_path / "arch.json")
    with (tmp_path / "supernet.pt").open("wb") as file:
        file.truncate(files.HUGE + 1)
    with pytest.raises(UserError, match=r"supernet\.pt is larger than"):
        load_supernet(tmp_path)
    monkeypatch.setattr(merging, "LARGEST_BYTES", 1000)
    with zipfile.ZipFile(tmp_path / "kit.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("out.jsonl", "x" * 1001)
    assert (tmp_path / "kit.zip").stat().st_size < 1000
    (tmp_path / "large.jsonl").write_text("x" * 1001)
    for name in ("kit.zip", "large.jsonl"):
        with pytest.raises(UserError, match="is larger than 1,000 bytes"):
            merge([tmp_path / name])


def test_a_run_folder_with_links_is_not_written_to(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    for name in (".lock", "train.jsonl", "config.json"):
        folder = tmp_path / f"run{name}"
        folder.mkdir()
        (folder / name).symlink_to(precious)
        with pytest.raises(UserError, match=rf"{name} is a link"), run_folder.locked(folder):
            raise AssertionError("not refused")
    folder = tmp_path / "search"
    folder.mkdir()
    files.write_json(folder / "state.json", search_state(tmp_path))
    (folder / "scores.jsonl").symlink_to(precious)
    with pytest.raises(UserError, match=r"scores\.jsonl is a link"):
        run_to_resume({"resume": str(folder), "runs": str(tmp_path)}, [], "evolve")
    files.write_text(tmp_path / "run.lock" / ".lock", "new")  # whole files take a link's place
    assert precious.read_text() == "precious"


def test_images_of_an_annotation_file_lie_in_its_folder(tmp_path: Path) -> None:
    content = annotations(tmp_path)
    (tmp_path / "images").mkdir()
    for name in ("../secret.jpg", "/etc/passwd", "a/../../x.jpg", "..\\x.jpg"):
        content["images"][0]["file_name"] = name
        (tmp_path / "people.json").write_text(json.dumps(content))
        with pytest.raises(UserError, match="leads out of the image folder"):
            CocoPeople(tmp_path / "people.json", tmp_path / "images", COCO)
