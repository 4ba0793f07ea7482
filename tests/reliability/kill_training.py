"""Kill training runs at random moments: ``python -m tests.reliability.kill_training FOLDER NUM_KILLS``.

It prints counts as JSON. It runs as a separate process, which imports everything once and forks for every run, because
a fork of a process that has trained cannot train.
"""

import json
import os
import random
import signal
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch

from supernet.checkpoints import container
from supernet.training import run_folder
from supernet.training.launch import start_or_resume
from tests.supernet.test_train import configuration, state_of


def main(folder: Path, num_kills: int) -> None:
    """Train once without kills and once with them, and compare."""
    torch.set_num_threads(1)
    steps = 10 * num_kills
    changes = {"steps": steps, "checkpoint_every": 1, "log_every": 1, "report_random": 0, "threads": 1}
    names = ("uninterrupted", "killed")
    uninterrupted, killed = (configuration(folder / name, **changes) for name in names)
    assert exit_status(start_training(uninterrupted, [])) == 0
    run = folder / "killed" / "train" / "run"
    rng, counts = random.Random(0), {"kills": 0, "unreadable": 0, "half_written": 0, "most_lost_steps": 0}
    while counts["kills"] < num_kills:
        resumes = run.exists() and run_folder.has_checkpoint(run)
        child = start_training(killed | ({"resume": "latest"} if resumes else {}), ["resume=latest"] if resumes else [])
        if not still_runs_after(run, rng.randint(1, 6), child):
            break  # it finished
        if counts["kills"] % 3 == 0:
            wait_for_write(run)
        else:
            time.sleep(0.05 * rng.random())
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        counts["kills"] += 1
        counts["half_written"] += bool(list(run.glob(".*.tmp*")))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                step = container.load_newest(run / run_folder.CHECKPOINT_FILE, "training")["trainer"]["step"]
            except Exception:  # noqa: BLE001 - any error counts
                counts["unreadable"] += 1
                continue
        lines = (run / "train.jsonl").read_text().splitlines() if (run / "train.jsonl").exists() else []
        complete = [line for line in lines if line.endswith("}")]
        logged = json.loads(complete[-1])["step"] + 1 if complete else 0
        counts["most_lost_steps"] = max(counts["most_lost_steps"], logged - step)
    assert exit_status(start_training(killed | {"resume": "latest"}, ["resume=latest"])) == 0
    first, second = (state_of(folder / name / "train" / "run" / "supernet.pt") for name in names)
    counts["is_equal_to_the_bit"] = all(torch.equal(first[name], second[name]) for name in first)
    logs = [
        (folder / name / "train" / "run" / "train.jsonl").read_text().splitlines()
        for name in ("uninterrupted", "killed")
    ]
    figures = [[without_times(json.loads(line)) for line in lines] for lines in logs]
    counts["is_log_equal"] = figures[0] == figures[1]
    print(json.dumps(counts))


def start_training(config: dict[str, Any], overrides: list[str]) -> int:
    """Train in a fork of this process; returns its process id."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            start_or_resume(config, overrides)
            status = 0
        finally:
            os._exit(status)
    return child


def exit_status(child: int) -> int:
    """Wait for the end of ``child`` and return its exit status."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def still_runs_after(run: Path, num_checkpoints: int, child: int) -> bool:
    """Wait until ``child`` has written some checkpoints; returns whether it still runs."""
    seen: set[int] = set()
    path = run / run_folder.CHECKPOINT_FILE
    first = path.stat().st_mtime_ns if path.exists() else 0
    while len(seen - {first}) < num_checkpoints:
        time.sleep(0.002)
        if os.waitpid(child, os.WNOHANG)[0]:
            return False
        if path.exists():
            try:
                seen.add(path.stat().st_mtime_ns)
            except FileNotFoundError:  # between two renames
                continue
    return True


def wait_for_write(run: Path) -> None:
    """Wait until a checkpoint is being written, for a minute at most."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not any(name.startswith(".checkpoint.tmp") for name in os.listdir(run)):
        pass


def without_times(line: dict[str, Any]) -> dict[str, Any]:
    """Return a logged line without what depends on the clock."""
    return {key: value for key, value in line.items() if key not in ("seconds", "data_share")}


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
