"""Jobs for two processes that train together: ``python -m tests.helpers.rank_jobs FOLDER TIMEOUT JOB,...``.

The processes are forked, so that torch is imported once, and do the jobs one after the other; each writes ``rank0`` or
``rank1`` into the folder with the job's name. Each further list of jobs is for two new processes.
"""

import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from supernet.arch import Arch
from supernet.checkpoints import container
from supernet.cli.console import run_command
from supernet.compute.distributed import Processes, process_group
from supernet.compute.sync_batch_norm import SyncBatchNorm, synchronise_batch_norm
from supernet.errors import UserError
from supernet.evaluation.subnet_scorer import SubnetScorer
from supernet.pose.inference import InferenceSettings
from supernet.pose.keypoints import COCO
from supernet.pose.synthetic.dataset import SyntheticPeople
from supernet.pose.training.augmentation import Augmentation
from supernet.pose.training.objective import PoseObjective
from supernet.space import SearchSpace
from supernet.training.monitoring.loss_monitor import LossMonitor, TrainingDiverged
from supernet.training.phases import Phase, schedule, step_archs
from supernet.training.trainer import Trainer
from supernet.weight_sharing import SuperNet
from tests.helpers.rank_runs import evaluating, rolling_back
from tests.helpers.spaces import TINY
from tests.helpers.training import step_settings, steps, train

EVERY = ("resolution", "kernel_size", "depth", "expand_ratio", "width")
SPACE = TINY
STEPS = 8


def trainer(processes: Processes, phases: Sequence[Phase] | None = None) -> Trainer:
    """A trainer on the tiny space in float64, where rounding hides no error; processes start from different weights."""
    torch.manual_seed(processes.index)
    space = SearchSpace.from_dict(SPACE)
    adapt = partial(synchronise_batch_norm, processes=processes) if processes.count > 1 else None
    supernet = SuperNet(space, COCO.num, adapt).double()
    supernet.register_forward_pre_hook(lambda _, inputs: (inputs[0].double(), *inputs[1:]))
    phases = phases or (
        Phase("largest", 1, ("resolution",), ("largest",), 1e-2),
        Phase("kernel", 1, ("resolution", "kernel_size"), ("random",), 1e-2, "frozen"),
        Phase("width", 2, EVERY, ("largest", "random", "smallest"), 1e-2, "inplace"),
    )
    return Trainer(
        supernet,
        PoseObjective(COCO.num),
        SyntheticPeople(COCO, 10, 1, 96, 96),
        schedule(phases, space, STEPS),
        step_settings(batch_size=4, augmentation=Augmentation()),
        processes,
    )


def trained(processes: Processes, folder: Path) -> None:
    """Train, calibrate and evaluate; writes losses, weights, statistics and predictions."""
    run = trainer(processes)
    reports = train(run)
    final = run.averaged().float().eval()
    final._forward_pre_hooks.clear()
    people = SyntheticPeople(COCO, 7, 2, 96, 96)
    settings = InferenceSettings(detection_threshold=0.001)
    scorer = SubnetScorer(final, SyntheticPeople(COCO, 70, 3, 64, 64), people, settings, 70, 3, processes)
    network, evaluation = scorer.subnet(run.supernet.space.smallest()), scorer(run.supernet.space.smallest())
    value = {
        "totals": [[float(terms.total) for terms in report.losses] for report in reports],
        "norms": [float(report.gradient_norm) for report in reports],
        "weights": {name: weight.detach() for name, weight in run.weights.items()},
        "network": network.state_dict(),
        "poses": [torch.from_numpy(people.poses) for people in evaluation.predictions],
        "metrics": evaluation.metrics,
    }
    container.save(folder / f"rank{processes.index}", "test", value)


def normalised(processes: Processes, folder: Path) -> None:
    """One synchronised batch norm on this process's half of a batch; writes output and gradients of a mean loss."""
    x, weight, bias, target = norm_case()
    half = slice(len(x) // 2 * processes.index, len(x) // 2 * (processes.index + 1))
    norm, own = SyncBatchNorm(x.shape[1], 1e-5, processes), x[half].requires_grad_()
    weights = {"weight": weight.requires_grad_(), "bias": bias.requires_grad_()}
    out = torch.func.functional_call(norm, weights, (own,))
    (out - target[half]).pow(4).mean().backward()
    assert weight.grad is not None
    assert bias.grad is not None
    assert own.grad is not None
    gradients = [processes.mean(weight.grad), processes.mean(bias.grad), own.grad / processes.count]
    container.save(folder / f"rank{processes.index}", "test", {"out": out.detach(), "gradients": gradients})


def norm_case() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A batch (4, 3, 5, 5) whose halves differ, gains, offsets, and a target for its normalised values."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 3, 5, 5, generator=generator, dtype=torch.float64)
    x[2:] = 3 * x[2:] + 5
    weight, bias = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    return x, weight, bias, torch.randn(4, 3, 5, 5, generator=generator, dtype=torch.float64)


def crashing(processes: Processes, folder: Path) -> None:
    """Rank 1 fails in its fourth step."""
    for report in steps(trainer(processes)):
        if processes.index == 1 and report.step == 3:
            raise ZeroDivisionError("rank 1 fails here")


def hanging(processes: Processes, folder: Path) -> None:
    """Rank 1 stops in its fourth step and never continues."""
    for report in steps(trainer(processes)):
        if processes.index == 1 and report.step == 3:
            os.kill(os.getpid(), signal.SIGSTOP)


def poisoned(processes: Processes, folder: Path) -> None:
    """The loss of rank 1 is NaN in its fourth step; each process writes the step at which it failed."""
    run = trainer(processes)
    original = run.objective.loss

    class Poison:
        def __getattr__(self, name: str) -> Any:
            return getattr(PoseObjective(COCO.num), name)

        def loss(self, low: Tensor, high: Tensor, truth: Any) -> Any:
            return original(low * float("nan") if processes.index == 1 and run.step == 3 else low, high, truth)

    run.objective = Poison()  # type: ignore[assignment]
    monitor = LossMonitor(explosion_factor=0.0)
    try:
        for report in steps(run):
            monitor.follow(report)
            monitor.read()
    except TrainingDiverged as error:
        error.images = processes.lists(error.images)
        is_finite = all(bool(weight.isfinite().all()) for weight in run.weights.values())
        (folder / f"rank{processes.index}").write_text(
            f"{error}; weights are {'finite' if is_finite else 'not finite'}"
        )


def disagreeing(processes: Processes, folder: Path) -> None:
    """Rank 1 samples other subnets from the third step on."""

    def other(scheduled: Any, resolution: int, seed: int, step: int) -> list[Arch]:
        return step_archs(scheduled, resolution, seed + 1 if processes.index == 1 and step >= 2 else seed, step)

    pytest.MonkeyPatch().setattr("supernet.training.trainer.step_archs", other)
    run = trainer(processes, [Phase("width", 1, EVERY, ("random",), 1e-2)])
    try:
        train(run)
    except RuntimeError as error:
        (folder / f"rank{processes.index}").write_text(f"{run.step} {error}")


def gathering(processes: Processes, folder: Path) -> None:
    """The exchanges between processes besides gradients."""
    own = torch.full((1 + 2 * processes.index, 2), float(processes.index))
    empty_on_1 = torch.zeros(3 * (1 - processes.index), dtype=torch.int64)
    assert [tensor.tolist() for tensor in processes.gather(own)] == [[[0.0, 0.0]], [[1.0, 1.0]] * 3]
    assert [len(tensor) for tensor in processes.gather(empty_on_1)] == [3, 0]
    assert processes.texts("é" * processes.index) == ["", "é"]
    assert processes.lists(["a", "b"][processes.index :]) == ["a", "b"]
    assert processes.any(processes.index == 1)
    assert not processes.any(False)
    assert float(processes.mean(torch.tensor(float(processes.index)))) == 0.5
    assert [float(mean) for mean in processes.means([torch.tensor(2.0 * processes.index), torch.tensor(3.0)])] == [
        1.0,
        3.0,
    ]
    assert processes.on_main(lambda: f"made by {processes.index}") == "made by 0"

    def refuse() -> str:
        raise UserError("refused by the main process")

    with pytest.raises(UserError, match="refused by the main process"):
        processes.on_main(refuse)
    (folder / f"rank{processes.index}").write_text("done")
    raise UserError("the same error in both")


JOBS: dict[str, Callable[[Processes, Path], None]] = {
    "rolling_back_twice": partial(rolling_back, num_failures=2),
    **{
        job.__name__: job
        for job in (trained, normalised, crashing, hanging, poisoned, rolling_back, evaluating, disagreeing, gathering)
    },
}


def child(folder: Path, timeout_seconds: float, jobs: Sequence[str], rank: int) -> None:
    """Do the jobs as one process, with the environment variables of torchrun."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}

    def work() -> None:
        with process_group(timeout_seconds) as processes:
            for job in jobs:
                (folder / job).mkdir(exist_ok=True)
                JOBS[job](processes, folder / job)

    run_command(work)


def main(folder: str, timeout_seconds: str, *lists: str) -> None:
    """Let two processes do each list of jobs, and print the exit statuses of each two."""
    torch.set_num_threads(1)
    print([statuses(Path(folder), float(timeout_seconds), jobs.split(",")) for jobs in lists])


def statuses(folder: Path, timeout_seconds: float, jobs: Sequence[str]) -> list[int | None]:
    """Fork two processes, and return the exit statuses of both; rank 1 is killed if it long outlives rank 0."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=child, args=(folder, timeout_seconds, jobs, i)) for i in range(2)]
    for rank in processes:
        rank.start()
    processes[0].join()
    processes[1].join(timeout_seconds)
    processes[1].kill()
    processes[1].join()
    return [rank.exitcode for rank in processes]


if __name__ == "__main__":
    main(*sys.argv[1:])
