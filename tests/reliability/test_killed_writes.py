"""A process that is killed while it writes leaves a readable checkpoint, at whatever call it is killed."""

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from supernet.checkpoints import container
from supernet.io import files

KIND = "training"


def in_child(job: Callable[[], None]) -> int:
    """Run ``job`` in a fork of this process, which then ends without cleaning up; returns its process id."""
    child = os.fork()
    if child == 0:
        try:
            job()
        finally:
            os._exit(1)
    return child


def write(path: Path, step: int) -> None:
    weights = torch.full((50_000,), float(step))
    container.save(path, KIND, {"step": step, "weights": weights}, keep_previous=True)


def newest(path: Path) -> int:
    """Load as a resumed run does and return the step."""
    value = container.load_newest(path, KIND)
    assert (value["weights"] == value["step"]).all()
    return int(value["step"])


@pytest.mark.parametrize("num_kills", [25, pytest.param(200, marks=pytest.mark.slow)])
def test_a_kill_at_any_moment_loses_at_most_the_save_it_hits(num_kills: int, tmp_path: Path) -> None:
    path, done = tmp_path / "checkpoint.pt", tmp_path / "done"
    write(path, 1)
    rng, before, num_leftovers = random.Random(0), 1, 0

    reader, writer = os.pipe()

    def save_on_and_on() -> None:
        step = before
        os.write(writer, b"x")
        while True:
            step += 1
            write(path, step)
            done.write_text(str(step))

    for _ in range(num_kills):
        done.write_text(str(before))
        child = in_child(save_on_and_on)
        os.read(reader, 1)
        time.sleep(0.01 + 0.05 * rng.random())
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        finished = int(done.read_text() or before)
        step = newest(path)
        assert step >= finished >= before, "a finished save is lost"
        num_leftovers += len(files.sweep(tmp_path))
        assert not list(tmp_path.glob(".checkpoint*"))
        before = step
    os.close(reader)
    os.close(writer)
    assert num_leftovers >= num_kills // 10, "few kills hit a write"


def test_a_crash_at_every_call_of_a_write_leaves_the_old_or_the_new_file(tmp_path: Path) -> None:
    calls: list[tuple[Any, str]] = [(Path, "write_bytes"), (os, "fsync"), (os, "replace"), (os, "open"), (os, "close")]
    steps = []
    for number in range(1, 12):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = folder / "checkpoint.pt"
        write(path, 1)

        def crash_at(number: int = number, path: Path = path) -> None:
            left = number

            def counted(original: Callable[..., Any]) -> Callable[..., Any]:
                def call(*arguments: Any) -> Any:
                    nonlocal left
                    left -= 1
                    if left == 0:
                        if original is Path.write_bytes:
                            original(arguments[0], bytes(arguments[1])[:1000])
                        os._exit(9)
                    return original(*arguments)

                return call

            originals = {(owner, name): getattr(owner, name) for owner, name in calls}
            wrapped = {key: counted(original) for key, original in originals.items()}
            for (owner, name), function in wrapped.items():
                setattr(owner, name, function)
            write(path, 2)
            os._exit(0)

        _, status = os.waitpid(in_child(crash_at), 0)
        if os.waitstatus_to_exitcode(status) == 0:
            break
        steps.append(newest(path))
        files.sweep(folder)
        assert {path.name for path in folder.iterdir()} <= {"checkpoint.pt", "checkpoint.previous.pt"}
    assert number > 5, "too few calls were intercepted"
    # Up to the second rename it is the old one: written, synchronised, two renames, then the folder is synchronised.
    assert steps == sorted(steps)
    assert set(steps) == {1, 2}


def test_temporary_files_of_dead_writers_are_swept_and_those_of_running_ones_kept(tmp_path: Path) -> None:
    child = in_child(lambda: time.sleep(300))
    ended = in_child(lambda: None)
    os.waitpid(ended, 0)
    try:
        stray = [tmp_path / f".file{i}.tmp{ended}.pt" for i in range(18)]
        stray += [tmp_path / f".mine.tmp{os.getpid()}.json", tmp_path / ".link.tmp99999999999999999999"]
        kept = [tmp_path / f".living.tmp{child}.pt", tmp_path / "data.tmp1.pt", tmp_path / ".lock", tmp_path / "a.pt"]
        for path in stray + kept:
            path.write_bytes(b"half of")
        stray.append(tmp_path / f".folder.tmp{ended}")
        kept += [tmp_path / f".new.tmp{ended}", tmp_path / f".new.tmp{child}"]
        for folder in (stray[-1], *kept[-2:]):
            (folder / "half").mkdir(parents=True)
        os.utime(stray[-1], times=(0, 0))
        assert sorted(files.sweep(tmp_path)) == sorted(stray)
        assert files.sweep(tmp_path, "new") == [kept.pop(-2)]
        assert all(path.exists() for path in kept)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
