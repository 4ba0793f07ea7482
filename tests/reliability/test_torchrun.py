"""Training under ``torchrun``: after restarts and signals the weights are equal to the bit."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
import yaml

from supernet.checkpoints import container
from tests.helpers.rank_jobs import SPACE

STEPS = 60
ONE_NODE = ("--standalone", "--nproc-per-node", "2")
pytestmark = pytest.mark.slow


class Job:
    """One ``torchrun``, by default of two processes, that trains the tiny space in ``runs``."""

    def __init__(
        self, folder: Path, runs: str, *more: str, max_restarts: int = 0, launch: Sequence[str] = ONE_NODE
    ) -> None:
        own = folder / "conf" / "space"
        own.mkdir(parents=True, exist_ok=True)
        (own / "tiny.yaml").write_text(yaml.safe_dump(SPACE))
        self.run = folder / runs / "train" / "run"
        command = [sys.executable, "-m", "torch.distributed.run", *launch]
        command += ["--max-restarts", str(max_restarts), "-m", "supernet.train", f"--config-dir={own.parent}"]
        command += [f"runs={folder / runs}", "threads=1", *more]
        # Without this setting about half of the restarts on CPUs were seen to hang.
        environment = os.environ | {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    @classmethod
    def new(cls, folder: Path, runs: str, *more: str, max_restarts: int = 0, launch: Sequence[str] = ONE_NODE) -> "Job":
        options = ["space=tiny", "phases=sandwich", f"steps={STEPS}", "batch_size=4", "checkpoint_every=5", "name=run"]
        options += ["num_calibration_images=4", "report_random=0", "rank_timeout_seconds=60", "log_every=1"]
        options += [f"dataset.{split}.num_images=8" for split in ("train", "test")]
        options += ["dataset.width=96", "dataset.height=96", *more]
        return cls(folder, runs, *options, max_restarts=max_restarts, launch=launch)

    def workers(self) -> list[int]:
        """Process ids of the two ranks."""
        try:
            tasks = Path(f"/proc/{self.process.pid}/task").glob("*/children")
            return sorted(int(pid) for children in tasks for pid in children.read_text().split())
        except OSError:
            return []

    def step(self) -> int:
        """Return the step of the last checkpoint."""
        path = self.run / "checkpoint.pt"
        return int(container.load(path, "training")["trainer"]["step"]) if path.exists() else 0

    def wait(self, until: Callable[[], bool]) -> None:
        """Wait until something has happened or the job has ended."""
        end = time.monotonic() + 200
        while not until() and self.process.poll() is None and time.monotonic() < end:
            time.sleep(0.1)

    def end(self) -> tuple[int, str]:
        """Wait for the end; returns exit status and output."""
        output, _ = self.process.communicate(timeout=240)
        return self.process.returncode, output

    def weights(self) -> dict[str, torch.Tensor]:
        """Return the trained weights."""
        state: dict[str, torch.Tensor] = container.load(self.run / "supernet.pt", "supernet")["state"]
        return state


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """Weights of a run that nothing interrupts."""
    job = Job.new(tmp_path_factory.mktemp("whole"), "runs")
    status, output = job.end()
    assert status == 0, output
    assert output.count("space tiny") == 1  # only one process prints
    return job.weights()


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_rank_is_restarted_and_nothing_is_lost(
    tmp_path: Path, whole: dict[str, torch.Tensor], seed: int
) -> None:
    job = Job.new(tmp_path, "runs", max_restarts=2)
    rng = random.Random(seed)
    least = rng.randrange(5, STEPS - 20)
    job.wait(lambda: job.step() >= least and len(job.workers()) == 2)
    os.kill(rng.choice(job.workers()), signal.SIGKILL)
    status, output = job.end()
    assert status == 0, output
    assert output.count("space tiny") == 2  # once more after the restart
    assert same(job.weights(), whole)


def test_sigterm_stops_all_ranks_at_one_step_and_the_run_continues(
    tmp_path: Path, whole: dict[str, torch.Tensor]
) -> None:
    job = Job.new(tmp_path, "runs")
    job.wait(lambda: job.step() >= 5)
    job.process.send_signal(signal.SIGTERM)
    status, output = job.end()
    assert status != 0
    step = job.step()
    assert 5 <= step < STEPS
    assert output.count(f"stopped after {step} steps; continue with resume=") == 1
    job = Job(tmp_path, "runs", "resume=latest")
    status, output = job.end()
    assert status == 0, output
    assert same(job.weights(), whole)


def test_a_mistake_ends_all_ranks_with_one_sentence(tmp_path: Path) -> None:
    status, output = Job(tmp_path, "runs", "space=tiny", "batch_size=3").end()
    assert status == 1
    assert output.count("error: batch_size must be a multiple of 2") == 1
    assert "supernet/train.py" not in output, "a traceback of ours"


def test_a_job_that_may_restart_needs_a_name(tmp_path: Path) -> None:
    status, output = Job(tmp_path, "runs", "space=tiny", max_restarts=1).end()
    assert status == 1
    num_errors = output.count("must find its run by name")
    assert 1 <= num_errors <= 2  # once for each attempt


def test_a_sweep_runs_under_hydras_submitit_launcher(tmp_path: Path) -> None:
    """Its local form, which needs no cluster: one process per run, as SLURM would start one job each."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="needs the extra slurm")
    own = tmp_path / "conf" / "space"
    own.mkdir(parents=True)
    (own / "tiny.yaml").write_text(yaml.safe_dump(SPACE))
    command = [sys.executable, "-m", "supernet.train", "--multirun", f"--config-dir={own.parent}"]
    command += ["hydra/launcher=submitit_local", f"hydra.sweep.dir={tmp_path / 'sweep'}", "space=tiny"]
    command += ["phases=sandwich", "steps=3", "batch_size=2", "num_calibration_images=2", "report_random=0"]
    command += ["dataset.train.num_images=4", "dataset.test.num_images=2", "threads=1", f"runs={tmp_path / 'runs'}"]
    subprocess.run([*command, "seed=0,1", "name=seed${seed}"], check=True, timeout=240)
    for seed in (0, 1):
        assert (tmp_path / "runs" / "train" / f"seed{seed}" / "summary.json").exists()
    wrong = subprocess.run([*command, "seed=2", "batch_size=0"], capture_output=True, text=True, timeout=240)
    assert wrong.returncode == 2
    assert wrong.stderr.splitlines()[-1] == "error: batch_size must be at least 1, got 0"
    assert "Traceback" not in wrong.stderr
