"""Files are written all or nothing, and errors of reading name the file."""

import json
import os
import threading
import time
from pathlib import Path

import pytest

from supernet.errors import UserError
from supernet.io import files


def test_a_finished_file_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "value.json"
    files.write_json(path, {"a": 1})
    files.write_json(path, {"a": [2.5, None, "ü"]})
    assert files.read_json(path, "test file") == {"a": [2.5, None, "ü"]}
    assert os.listdir(path.parent) == ["value.json"]


def test_the_temporary_file_lies_beside_the_path_and_keeps_its_suffix(tmp_path: Path) -> None:
    with files.atomic(tmp_path / "image.png") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".png"
        assert temporary.name != "image.png"
        temporary.write_bytes(b"content")
        assert not (tmp_path / "image.png").exists()
    assert (tmp_path / "image.png").read_bytes() == b"content"


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
def test_a_failing_system_call_leaves_the_old_file_and_is_reported(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "value.txt"
    files.write_text(path, "old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    message = r"cannot write .*value\.txt: No space left on device \([\d,]+ bytes are free\); free space"
    with pytest.raises(UserError, match=message):
        files.write_text(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["value.txt"]


def test_a_path_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
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
def test_an_invalid_json_file_is_named_with_its_purpose(content: bytes | None, message: str, tmp_path: Path) -> None:
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


def test_a_new_file_is_on_the_disk_before_its_name_and_the_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synchronise, rename = os.fsync, os.replace
    events: list[tuple[str, int]] = []

    def fsync(number: int) -> None:
        synchronise(number)
        events.append(("on the disk", os.fstat(number).st_ino))

    def replace(source: Path, target: Path) -> None:
        rename(source, target)
        events.append(("named", target.stat().st_ino))

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    files.write_text(tmp_path / "value.txt", "new")
    file, folder = (tmp_path / "value.txt").stat().st_ino, tmp_path.stat().st_ino
    assert events == [("on the disk", file), ("named", file), ("on the disk", folder)]


def test_a_file_may_not_exceed_its_size_limit(tmp_path: Path) -> None:
    (tmp_path / "ten").write_bytes(b"0123456789")
    assert files.read_bytes(tmp_path / "ten", "test file", 10) == b"0123456789"
    with pytest.raises(UserError, match="ten is larger than 9 bytes"):
        files.read_bytes(tmp_path / "ten", "test file", 9)


@pytest.mark.parametrize(("most", "is_over"), [(10, False), (9, True)])
def test_a_pipe_is_waited_for_and_may_not_exceed_the_size_limit(most: int, is_over: bool) -> None:
    reader, writer = os.pipe()

    def write() -> None:
        os.write(writer, b"0123456789")
        os.close(writer)

    writing = threading.Timer(0.2, write)
    writing.start()
    try:
        if is_over:
            with pytest.raises(UserError, match="is larger than 9 bytes"):
                files.read_bytes(f"/dev/fd/{reader}", "test file", most)
        else:
            assert files.read_bytes(f"/dev/fd/{reader}", "test file", most) == b"0123456789"
    finally:
        writing.join()
        os.close(reader)


def test_an_invalid_file_name_is_reported() -> None:
    with pytest.raises(UserError, match=r"cannot read arch file .*null byte"):
        files.read_bytes("a\0b", "arch file")


def test_only_leftovers_of_the_file_that_is_named_are_swept(tmp_path: Path) -> None:
    own, other = tmp_path / f".model.tmp{os.getpid()}", tmp_path / f".other.tmp{os.getpid()}"
    for path in (own, other):
        path.write_bytes(b"half of")
    assert files.sweep(tmp_path, "model") == [own]
    assert os.listdir(tmp_path) == [other.name]


def test_a_temporary_folder_is_swept_once_nothing_was_added_for_a_day(tmp_path: Path) -> None:
    for name, hours in (("older", 25), ("newer", 23)):
        folder = tmp_path / f".{name}.tmp{os.getpid()}"
        folder.mkdir()
        os.utime(folder, times=(0, time.time() - 3600 * hours))
    assert files.sweep(tmp_path) == [tmp_path / f".older.tmp{os.getpid()}"]


def test_sweeping_a_link_keeps_its_target(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "data").write_text("data")
    link = tmp_path / f".folder.tmp{os.getpid()}"
    link.symlink_to(tmp_path / "folder")
    assert files.sweep(tmp_path) == [link]
    assert (tmp_path / "folder" / "data").read_text() == "data"


def test_temporary_files_of_another_users_process_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(number: int, signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    (tmp_path / ".file.tmp999999.pt").write_bytes(b"half of")
    assert files.sweep(tmp_path) == []


def test_a_dangling_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "value.json").write_text("{}")
    files.refuse_links(tmp_path)
    (tmp_path / "train.jsonl").symlink_to(tmp_path.parent / "nothing yet")
    with pytest.raises(UserError, match=r"train\.jsonl is a link"):
        files.refuse_links(tmp_path)
