"""Training processes are killed, stopped and run out of disk space; workers that load images are killed."""

import json
import multiprocessing
import os
import pty
import resource
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from supernet.cli import signals
from supernet.cli.signals import stop_request
from supernet.errors import UserError
from supernet.training.run_folder import load_checkpoint
from tests.helpers.spaces import TINY
from tests.helpers.training import steps, tiny_trainer

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("num_kills", [30])
def test_a_run_killed_many_times_ends_with_the_same_bits(num_kills: int, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.reliability.kill_training", str(tmp_path), str(num_kills)]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1700, check=True).stdout
    counts = json.loads(output.splitlines()[-1])
    assert counts["kills"] == num_kills
    assert counts["unreadable"] == 0
    assert counts["half_written"] >= num_kills // 10
    assert counts["most_lost_steps"] <= 1  # the interval between checkpoints
    assert counts["is_equal_to_the_bit"]
    assert counts["is_log_equal"]


def command(folder: Path, *overrides: str) -> list[str]:
    """Return the command line of a run on the tiny space that takes a while."""
    experiment = {
        "space": TINY,
        "steps": 2000,
        "batch_size": 2,
        "log_every": 2,
        "checkpoint_every": 1000,
        "name": "run",
    }
    experiment |= {"dataset": {"width": 96, "height": 96, "train": {"num_images": 16}}, "threads": 1}
    (folder / "experiment").mkdir(exist_ok=True)
    (folder / "experiment" / "tiny.yaml").write_text("# @package _global_\n" + yaml.safe_dump(experiment))
    return [
        *(sys.executable, "-m", "supernet.train", f"--config-dir={folder}"),
        *("experiment=tiny", f"runs={folder / 'runs'}", *overrides),
    ]


@pytest.mark.slow
def test_sigterm_saves_and_the_command_continues(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "train" / "run"
    for arguments in ([], ["resume=latest"]):
        before = load_checkpoint(run)["trainer"]["step"] if arguments else 0
        process = subprocess.Popen(
            [*command(tmp_path), *arguments] if not arguments else
            [sys.executable, "-m", "supernet.train", f"runs={tmp_path / 'runs'}", *arguments],
            cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        log = run / "train.jsonl"
        size = log.stat().st_size if log.exists() else 0
        deadline = time.monotonic() + 200
        while not (log.exists() and log.stat().st_size > size) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=200)
        assert process.returncode == 2
        step = load_checkpoint(run)["trainer"]["step"]
        assert stderr.splitlines()[-1] == f"error: stopped after {step} steps; continue with resume={run.resolve()}"
        assert before < step < 2000


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_a_run_and_its_loading_processes_saves_it(tmp_path: Path, number: signal.Signals) -> None:
    """``timeout``, systemd, SLURM and a terminal send it to all processes of a run."""
    run = tmp_path / "runs" / "train" / "run"
    process = subprocess.Popen(
        command(tmp_path, "num_workers=2"),
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    log = run / "train.jsonl"
    while not (log.exists() and log.stat().st_size):
        time.sleep(0.05)
        assert process.poll() is None
    os.killpg(process.pid, number)
    _, stderr = process.communicate(timeout=200)
    assert process.returncode == 2
    step = load_checkpoint(run)["trainer"]["step"]
    assert stderr == f"error: stopped after {step} steps; continue with resume={run.resolve()}\n"


@pytest.mark.slow
def test_a_terminal_that_closes_saves_the_run(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "train" / "run"
    arguments = command(tmp_path, "num_workers=1")
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(ROOT)
        os.execv(arguments[0], arguments)
    while not ((log := run / "train.jsonl").exists() and log.stat().st_size):
        if select.select([terminal], [], [], 0.1)[0]:
            os.read(terminal, 65536)
    os.close(terminal)
    os.waitpid(child, 0)
    assert 0 < load_checkpoint(run)["trainer"]["step"] < 2000


@pytest.mark.slow
def test_a_full_disk_ends_a_run_before_its_first_step_in_one_sentence(tmp_path: Path) -> None:
    ended = subprocess.run(
        command(tmp_path),
        cwd=ROOT, capture_output=True, text=True, timeout=200, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000)),
    )  # fmt: skip
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"error: cannot write {tmp_path}/runs/train/run/checkpoint.pt: File too large (")
    assert " bytes are free); free space" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert not list((tmp_path / "runs" / "train" / "run").glob("*checkpoint*"))


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_the_process_at_once(second: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "SAME_REQUEST_SECONDS", 0.0 if second == signal.SIGTERM else 1e9)
    assert status_after(signal.SIGTERM, second) != 0


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGHUP])
def test_the_hang_up_of_a_terminal_or_of_systemd_is_the_same_request(
    first: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals, "SAME_REQUEST_SECONDS", 1e9)
    assert status_after(first, signal.SIGHUP) == 0


def test_an_ignored_hang_up_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_request() as stop_requested:
            signal.raise_signal(signal.SIGHUP)
            assert not stop_requested()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_two_sigterms_that_a_job_under_slurm_gets_are_one_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """SLURM sends one to every process of the job, and ``torchrun`` passes its own on."""
    monkeypatch.setattr(signals, "SAME_REQUEST_SECONDS", 1e9)
    assert status_after(signal.SIGTERM, signal.SIGTERM) == 0


def status_after(*signals: signal.Signals) -> int:
    """Return the exit status of a process that gets these signals, each after it has handled the one before."""
    reader, writer = os.pipe()
    all_sent, send = os.pipe()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # so does a process under nohup
        with suppress(BaseException), stop_request() as stop_requested:
            os.write(writer, b"1")
            while not stop_requested():
                time.sleep(0.01)
            os.write(writer, b"2")
            os.read(all_sent, 1)
            os._exit(0)
        os._exit(1)
    for number in signals:
        os.read(reader, 1)
        os.kill(child, number)
    os.write(send, b"3")
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    for pipe in (reader, writer, all_sent, send):
        os.close(pipe)
    return status


def test_a_killed_loading_process_ends_the_run_in_one_sentence() -> None:
    trainer = tiny_trainer(num_workers=1, num_steps=200)

    def kill_worker() -> None:
        for child in multiprocessing.active_children():
            child.kill()

    def train_and_kill() -> None:
        for _ in steps(trainer):
            kill_worker()

    with pytest.raises(UserError, match=r"a process that loads images has died \(.*num_workers"):
        train_and_kill()
