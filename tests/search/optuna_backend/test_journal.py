"""The journal file survives killed processes, cut lines and full disks, and damage is never made worse."""

import json
import logging
import multiprocessing
import os
import random
import resource
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.storages.journal import JournalFileSymlinkLock

from search.optuna_backend.journal import JournalLock, open_journal
from supernet.errors import UserError

FORK = multiprocessing.get_context("fork")


def entry(number: int) -> dict[str, Any]:
    return {"op_code": 0, "number": number}


def numbers(path: Path) -> list[int]:
    """Return the numbers of the entries of a journal, read by Optuna."""
    return [log["number"] for log in open_journal(path).read_logs(0)]


def no_sleep(seconds: float) -> None:
    """Replaces ``time.sleep`` where nothing must be waited for."""
    raise AssertionError("it waits for a dead process")


def in_child(job: Callable[[], None]) -> int | None:
    """Run ``job`` in a new process and return its exit code."""
    process = FORK.Process(target=job)
    process.start()
    process.join(60)
    return process.exitcode


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal of three entries."""
    open_journal(tmp_path / "study.journal").append_logs([entry(number) for number in range(3)])
    return tmp_path / "study.journal"


def test_the_lock_of_a_killed_process_is_not_waited_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hold_and_die() -> None:
        JournalLock(path).acquire()
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(hold_and_die) == -signal.SIGKILL
    assert path.with_name("study.journal.lock").is_symlink()

    monkeypatch.setattr("time.sleep", no_sleep)
    open_journal(path).append_logs([entry(3)])
    assert numbers(path) == [0, 1, 2, 3]
    assert not path.with_name("study.journal.lock").is_symlink()


def test_the_lock_of_another_program_is_waited_for(path: Path) -> None:
    foreign = JournalFileSymlinkLock(str(path))
    foreign.acquire()
    journal = JournalLock(path)
    thread = threading.Thread(target=journal.acquire, daemon=True)
    thread.start()
    thread.join(0.3)
    assert thread.is_alive()
    foreign.release()
    thread.join(30)
    assert not thread.is_alive()
    journal.release()


def test_another_program_waits_for_our_lock(path: Path) -> None:
    lock = JournalLock(path)
    lock.acquire()
    foreign = JournalFileSymlinkLock(str(path))
    thread = threading.Thread(target=foreign.acquire, daemon=True)
    thread.start()
    thread.join(0.3)
    assert thread.is_alive()
    lock.release()
    thread.join(30)
    assert not thread.is_alive()
    foreign.release()


@pytest.mark.parametrize("already_open", [False, True])
def test_a_cut_line_is_moved_to_a_backup_and_new_entries_follow(
    path: Path, already_open: bool, caplog: pytest.LogCaptureFixture
) -> None:
    journal = open_journal(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    (journal if already_open else open_journal(path)).append_logs([entry(7)])
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"{path}: the last line was incomplete" in record.getMessage()
    assert numbers(path) == [0, 1, 7]
    assert path.with_name("study.journal.bak").read_bytes() == whole.splitlines()[2][:-19] + b"\n"


@pytest.mark.parametrize("damage", [b"\x00\xff\x00", b'{"op_code": 4, "trial', b"[]", b'{"other": 1}'])
def test_damage_in_the_middle_is_refused_by_line_and_nothing_is_changed(path: Path, damage: bytes) -> None:
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([lines[0], damage, lines[2], b'{"op']))
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"line 2 of the study .*study\.journal is damaged"):
        open_journal(path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["study.journal"]


def test_a_full_disk_is_a_user_error_and_loses_no_entry(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def write_too_much() -> None:
        journal = open_journal(path)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 110, resource.RLIM_INFINITY))
        with pytest.raises(UserError, match=r"study\.journal: File too large"):
            journal.append_logs([entry(number) for number in range(100)])

    assert in_child(write_too_much) == 0
    assert numbers(path) == [0, 1, 2, 0, 1, 2, 3]
    assert ["incomplete" in message for message in caplog.messages] == [True]
    assert all(json.loads(line) for line in path.read_bytes().splitlines())


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/study"):
        open_journal(tmp_path / "file" / "study")


@pytest.mark.slow
def test_fifty_killed_writers_lose_nothing_that_was_written(tmp_path: Path) -> None:
    path, rng = tmp_path / "study.journal", random.Random(0)
    open_journal(path)
    for _ in range(50):
        reader, writer = os.pipe()

        def write(writer: int = writer) -> None:
            backend, number = open_journal(path), 0
            while True:
                backend.append_logs([entry(number)])
                os.write(writer, b"x")
                number += 1

        process = FORK.Process(target=write)
        process.start()
        os.close(writer)
        os.read(reader, 1)
        before = len(numbers(path))
        time.sleep(0.02 * rng.random())
        process.kill()
        process.join()
        os.close(reader)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("time.sleep", no_sleep)
            assert len(numbers(path)) >= before
            open_journal(path).append_logs([entry(-1)])
        assert numbers(path)[-1] == -1
