"""The file of measurements survives a kill of the process that writes it."""

import errno
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from search.lut import measure
from search.lut.measure import FORMAT, LEAST_RUNS, MOST_RUNS, Journal, JournalError, parse_journal, time_runs
from supernet.compute import machine

HEADER = {"format": FORMAT, "version": 1, "settings": {"threads": 2}}
ENDLESS = """
import itertools, pathlib, runpy, sys
script = runpy.run_path(sys.argv[1])
header = {"format": script["FORMAT"], "version": 1, "settings": {"threads": 2}}
journal = script["Journal"](pathlib.Path(sys.argv[2]), header)
for number in itertools.count(len(journal.visits)):
    journal.add(number, "subject", [0.1] * 20)
"""


def test_a_killed_writer_leaves_whole_visits(tmp_path: Path) -> None:
    path, done = tmp_path / "journal", 0
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", ENDLESS, measure.__file__, str(path)])
        deadline = time.monotonic() + 60
        while (not path.exists() or path.read_bytes().count(b"\n") < done + 20) and time.monotonic() < deadline:
            time.sleep(0.01)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        _, visits = parse_journal(path.read_bytes(), path)
        assert len(visits) >= done + 19
        assert [visit["round"] for visit in visits] == list(range(len(visits)))
        done = len(visits)
    journal = Journal(path, HEADER)
    assert len(journal.visits) == done
    journal.add(done, "subject", [0.1])
    journal.close()
    assert len(parse_journal(path.read_bytes(), path)[1]) == done + 1


def test_a_run_that_the_clock_does_not_see_is_above_0(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", HEADER)
    journal.add(0, "subject", [0.0, 4e-6])
    journal.close()
    assert min(parse_journal((tmp_path / "journal").read_bytes(), tmp_path)[1][0]["ms"]) > 0


def test_two_processes_never_write_one_file(tmp_path: Path) -> None:
    first = Journal(tmp_path / "journal", HEADER)
    with pytest.raises(JournalError, match="another process is writing"):
        Journal(tmp_path / "journal", HEADER)
    first.close()
    Journal(tmp_path / "journal", HEADER).close()


def test_a_file_system_without_locks_is_measured_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    path = tmp_path / "m.jsonl"
    journal = Journal(path, {"format": FORMAT})
    journal.add(0, "empty", [1.0])
    journal.close()
    assert len(path.read_text().splitlines()) == 2


def test_a_file_that_was_interrupted_in_its_first_line_begins_again(tmp_path: Path) -> None:
    path, line = tmp_path / "journal", json.dumps(HEADER) + "\n"
    for length in (0, 1, 20, len(line)):
        path.write_text(line[:length])
        Journal(path, HEADER).close()
        assert parse_journal(path.read_bytes(), path) == (HEADER, [])


def test_a_file_of_something_else_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    for text in ("notes\nwithout a last line break", "notes"):
        path.write_text(text)
        with pytest.raises(JournalError):
            Journal(path, HEADER)
        assert path.read_text() == text


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "does not begin with the format"),
        ('{"format": "other"}\n', "does not begin with the format"),
        (json.dumps(HEADER) + "\n{}\nhello\n{}\n", "line 3 of .* is no JSON object"),
        (json.dumps(HEADER) + "\n[1]\n", "line 2 of .* is no JSON object"),
    ],
)
def test_what_is_no_file_of_measurements_is_refused(text: str, named: str, tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with pytest.raises(JournalError, match=named):
        parse_journal(text.encode(), path)
    path.write_text(json.dumps(HEADER) + '\n{"round": []}\n')
    with pytest.raises(JournalError, match="holds a line that is no visit"):
        Journal(path, HEADER)


def test_slow_subjects_run_less_often_and_never_too_seldom() -> None:
    now = [0.0]
    for seconds, num_runs in ((1e-5, MOST_RUNS), (2e-3, 10), (1.0, LEAST_RUNS)):

        def run(seconds: float = seconds) -> None:
            now[0] += seconds

        milliseconds = time_runs(run, lambda: now[0])
        assert len(milliseconds) == num_runs
        assert milliseconds == pytest.approx([1e3 * seconds] * num_runs)


@pytest.mark.parametrize("content", [b"Raspberry Pi 5 Model B Rev 1.0\0", None])
def test_a_device_has_one_name_in_kits_and_in_the_project(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = tmp_path / "model"
    if content is not None:
        board.write_bytes(content)
    monkeypatch.setattr(measure, "BOARD", board)
    monkeypatch.setattr(machine, "BOARD", board)
    assert measure._processor() == machine.processor()
    assert (machine.processor() == "Raspberry Pi 5 Model B Rev 1.0") == (content is not None)
