"""JSON lines: an incomplete last line is removed, a damaged line is reported, and several processes may append."""

import subprocess
import sys
from pathlib import Path

import pytest

from supernet.errors import UserError
from supernet.io import jsonl

ROOT = Path(__file__).parents[3]


def test_rows_are_read_in_order(tmp_path: Path) -> None:
    rows = [{"number": i, "text": "ä\n"} for i in range(5)]
    for row in rows:
        jsonl.append(tmp_path / "log", row)
    assert jsonl.read(tmp_path / "log", "log") == jsonl.read_whole_lines(tmp_path / "log", "log") == rows


@pytest.mark.parametrize("cut", [1, 5, 12])
def test_an_incomplete_last_line_is_removed_with_a_warning_and_new_rows_follow(
    tmp_path: Path, cut: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "log"
    for i in range(3):
        jsonl.append(path, {"number": i})
    path.write_bytes(path.read_bytes()[:-cut])
    assert jsonl.read(path, "log") == [{"number": 0}, {"number": 1}]
    assert caplog.messages == [f"{path}: the last line was incomplete and has been removed"]
    jsonl.append(path, {"number": 9})
    assert jsonl.read(path, "log") == [{"number": 0}, {"number": 1}, {"number": 9}]


def test_appending_after_an_incomplete_line_ends_it_first(tmp_path: Path) -> None:
    path = tmp_path / "log"
    jsonl.append(path, {"number": 0})
    path.write_bytes(path.read_bytes() + b'{"numb')
    jsonl.append(path, {"number": 1})
    assert jsonl.read_whole_lines(path, "log") == [{"number": 0}, {"number": 1}]


@pytest.mark.parametrize("line", [b"garbage", b"[1]", b"", b"\xff\xfe"])
def test_a_damaged_line_is_reported_with_its_number_and_the_file_is_not_changed(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "log"
    content = b'{"number": 0}\n' + line + b'\n{"number": 2}\n'
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"my log .*log, line 2 is damaged; restore"):
        jsonl.read(path, "my log")
    assert path.read_bytes() == content
    assert jsonl.read_whole_lines(path, "log") == [{"number": 0}, {"number": 2}]


def test_a_changed_digit_is_a_damaged_line_and_lines_without_checksum_are_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for ap in (0.25, 0.5):
        jsonl.append(path, {"ap": ap})
    path.write_text(path.read_text().replace("0.25", "0.75") + '{"ap": 1.0}\n')
    with pytest.raises(UserError, match="line 1 is damaged"):
        jsonl.read(path, "log")
    assert jsonl.read_whole_lines(path, "log") == [{"ap": 0.5}, {"ap": 1.0}]


def test_errors_of_reading_and_writing_are_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read log .*: No such file or directory"):
        jsonl.read(tmp_path / "log", "log")
    assert jsonl.read_whole_lines(tmp_path / "log", "log") == []
    with pytest.raises(UserError, match=r"cannot write .*: Is a directory"):
        jsonl.append(tmp_path, {})


def test_two_processes_append_at_once_and_lose_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; from supernet.io import jsonl\n"
        "for i in range(100): jsonl.append(sys.argv[1], {'writer': sys.argv[2], 'number': i, 'text': 'x' * 5000})"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "log")]
    processes = [subprocess.Popen([*command, name], cwd=ROOT) for name in ("a", "b")]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    rows = jsonl.read(tmp_path / "log", "log")
    assert sorted((row["writer"], row["number"]) for row in rows) == [(name, i) for name in "ab" for i in range(100)]


def test_a_line_nested_too_deeply_counts_as_damaged(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("[" * 5000 + "\n")
    with pytest.raises(UserError, match="line 1 is damaged"):
        jsonl.read(path, "scores")
    assert jsonl.read_whole_lines(path, "scores") == []
