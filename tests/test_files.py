"""Files appear whole or not at all, and JSON that cannot be read is told in a sentence."""

import json
import os
from pathlib import Path

import pytest

from supernet import files
from supernet.errors import UserError


def test_a_finished_file_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "value.json"
    files.write_json(path, {"a": 1})
    files.write_json(path, {"a": [2.5, None, "ü"]})
    assert files.read_json(path, "test file") == {"a": [2.5, None, "ü"]}
    assert os.listdir(path.parent) == ["value.json"]


def test_the_temporary_file_lies_beside_the_path_and_keeps_its_suffix(tmp_path: Path) -> None:
    with files.atomic(tmp_path / "picture.png") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".png"
        assert temporary.name != "picture.png"
        temporary.write_bytes(b"content")
        assert not (tmp_path / "picture.png").exists()
    assert (tmp_path / "picture.png").read_bytes() == b"content"


def test_a_failing_writer_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "value.txt"
    files.write_text(path, "old")

    def fail_half_way() -> None:
        with files.atomic(path) as temporary:
            temporary.write_text("half of the n")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["value.txt"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failing_system_call_leaves_the_old_file_and_is_told(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "value.txt"
    files.write_text(path, "old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    told = r"cannot write .*value\.txt: No space left on device \([\d,]+ bytes are free\); free space"
    with pytest.raises(UserError, match=told):
        files.write_text(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["value.txt"]


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UserError, match="choose another folder"):
        files.write_text(tmp_path / "file" / "value.txt", "new")


def test_numbers_that_json_lacks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "value.json", {"AP": float("nan")})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not valid JSON"),
        (b'{"a": 1', "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"\xff\xfe\x00", "not UTF-8 text"),
        (None, "No such file"),
    ],
)
def test_a_file_that_is_no_json_is_named_with_its_purpose(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "arch.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        files.read_json(path, "arch file")
    assert f"arch file {path}" in str(caught.value)


def test_a_folder_is_no_json_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Is a directory"):
        files.read_json(tmp_path, "arch file")


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "value.json").write_bytes(b"\xef\xbb\xbf" + json.dumps({"a": 1}).encode())
    assert files.read_json(tmp_path / "value.json", "test file") == {"a": 1}
