"""Files of lines: what is cut off is repaired, what is damaged is told, and several processes may add."""

import subprocess
import sys
from pathlib import Path

import pytest

from supernet.errors import UserError
from supernet.io import jsonl

ROOT = Path(__file__).parents[3]


def test_rows_come_back_in_order(tmp_path: Path) -> None:
    rows = [{"number": i, "text": "ä\n"} for i in range(5)]
    for row in rows:
        jsonl.append(tmp_path / "log", row)
    assert jsonl.read(tmp_path / "log", "log") == jsonl.read_whole_lines(tmp_path / "log", "log") == rows


@pytest.mark.parametrize("cut", [1, 5, 12])
def test_a_cut_last_line_is_taken_away_with_a_warning_and_new_rows_follow(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "log"
    for i in range(3):
        jsonl.append(path, {"number": i})
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.warns(UserWarning, match="the last line is cut off and was taken away"):
        assert jsonl.read(path, "log") == [{"number": 0}, {"number": 1}]
    jsonl.append(path, {"number": 9})
    assert jsonl.read(path, "log") == [{"number": 0}, {"number": 1}, {"number": 9}]


def test_adding_after_a_cut_line_closes_it_off(tmp_path: Path) -> None:
    path = tmp_path / "log"
    jsonl.append(path, {"number": 0})
    path.write_bytes(path.read_bytes() + b'{"numb')
    jsonl.append(path, {"number": 1})
    assert jsonl.read_whole_lines(path, "log") == [{"number": 0}, {"number": 1}]


@pytest.mark.parametrize("line", [b"garbage", b"[1]", b"", b"\xff\xfe"])
def test_a_damaged_line_in_the_middle_is_told_with_its_number_and_the_file_left_alone(
    tmp_path: Path, line: bytes
) -> None:
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


def test_what_cannot_be_read_or_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read log .*: No such file or directory"):
        jsonl.read(tmp_path / "log", "log")
    assert jsonl.read_whole_lines(tmp_path / "log", "log") == []
    with pytest.raises(UserError, match=r"cannot write .*: Is a directory"):
        jsonl.append(tmp_path, {})


def test_two_processes_add_at_once_and_lose_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; from supernet.io import jsonl\n"
        "for i in range(100): jsonl.append(sys.argv[1], {'who': sys.argv[2], 'number': i, 'text': 'x' * 5000})"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "log")]
    started = [subprocess.Popen([*command, who], cwd=ROOT) for who in ("a", "b")]
    assert [process.wait(timeout=120) for process in started] == [0, 0]
    rows = jsonl.read(tmp_path / "log", "log")
    assert sorted((row["who"], row["number"]) for row in rows) == [(who, i) for who in "ab" for i in range(100)]


def test_a_line_nested_too_deep_is_a_damaged_one(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("[" * 5000 + "\n")
    with pytest.raises(UserError, match="line 1 is damaged"):
        jsonl.read(path, "scores")
    assert jsonl.read_whole_lines(path, "scores") == []
