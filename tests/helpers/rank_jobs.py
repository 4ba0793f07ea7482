"""Work for two processes that train together: ``python -m tests.helpers.rank_jobs FOLDER TIMEOUT JOB...``.

The processes are forked, so that torch is imported once, and do the jobs one after the other; each leaves ``rank0`` or
``rank1`` in the folder of the job's name.
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
from supernet.compute.sync_batch_norm import SynchronisedBatchNorm
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
from supernet.training.trainer import LoopSettings, StepReport, Trainer
from supernet.weight_sharing import SuperNet
from tests.helpers.rank_runs import evaluating, returning
from tests.supernet.test_train import TINY

EVERY = ("resolution", "kernel_size", "depth", "expand_ratio", "width")
SPACE = TINY
STEPS = 8


def trainer(ranks: Processes, phases: Sequence[Phase] | None = None) -> Trainer:
    """A trainer on the tiny space in float64, where rounding hides nothing; ranks start from different weights."""
    torch.manual_seed(ranks.index)
    space = SearchSpace.from_dict(SPACE)
    supernet = SuperNet(space, COCO.num).double()
    supernet.register_forward_pre_hook(lambda _, inputs: (inputs[0].double(), *inputs[1:]))
    phases = phases or (
        Phase("largest", 1, ("resolution",), ("largest",), 1e-2),
        Phase("kernel", 1, ("resolution", "kernel_size"), ("random",), 1e-2, "frozen"),
        Phase("width", 2, EVERY, ("largest", "random", "smallest"), 1e-2, "inplace"),
    )
    settings = LoopSettings(4, 0, 1.0, 0.9, 1.0, 0, Augmentation(), sync_batch_norm=True)
    return Trainer(
        supernet,
        PoseObjective(COCO.num),
        SyntheticPeople(COCO, 10, 1, 96, 96),
        schedule(phases, space, STEPS),
        settings,
        ranks,
    )


def trained(ranks: Processes, folder: Path) -> None:
    """Train, calibrate and evaluate; leaves losses, weights, statistics, and what was found in the images."""
    run = trainer(ranks)
    totals: list[list[float]] = []
    norms: list[float] = []

    def remember(report: StepReport) -> None:
        totals.append([float(terms.total) for terms in report.losses])
        norms.append(float(report.gradient_norm))

    run.run(remember, lambda _: None)
    final = run.averaged().float().eval()
    final._forward_pre_hooks.clear()
    people = SyntheticPeople(COCO, 7, 2, 96, 96)
    settings = InferenceSettings(detection_threshold=0.001)
    scorer = SubnetScorer(final, SyntheticPeople(COCO, 70, 3, 64, 64), people, settings, 70, 3, ranks)
    network, found = scorer.subnet(run.supernet.space.smallest()), scorer(run.supernet.space.smallest())
    value = {
        "totals": totals,
        "norms": norms,
        "weights": {name: weight.detach() for name, weight in run.weights.items()},
        "network": network.state_dict(),
        "poses": [torch.from_numpy(each.poses) for each in found.people],
        "metrics": found.metrics,
    }
    container.save(folder / f"rank{ranks.index}", "test", value)


def normalised(ranks: Processes, folder: Path) -> None:
    """One synchronised batch norm on this rank's half of a batch; leaves output and gradients of a mean of losses."""
    x, weight, bias, towards = norm_case()
    half = slice(len(x) // 2 * ranks.index, len(x) // 2 * (ranks.index + 1))
    norm, own = SynchronisedBatchNorm(x.shape[1], 1e-5, ranks), x[half].requires_grad_()
    weights = {"weight": weight.requires_grad_(), "bias": bias.requires_grad_()}
    out = torch.func.functional_call(norm, weights, (own,))
    (out - towards[half]).pow(4).mean().backward()
    assert weight.grad is not None
    assert bias.grad is not None
    assert own.grad is not None
    gradients = [ranks.mean(weight.grad), ranks.mean(bias.grad), own.grad / ranks.count]
    container.save(folder / f"rank{ranks.index}", "test", {"out": out.detach(), "gradients": gradients})


def norm_case() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A batch (4, 3, 5, 5) whose halves differ, gains, offsets, and what its normalised values are compared with."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 3, 5, 5, generator=generator, dtype=torch.float64)
    x[2:] = 3 * x[2:] + 5
    weight, bias = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    return x, weight, bias, torch.randn(4, 3, 5, 5, generator=generator, dtype=torch.float64)


def crashing(ranks: Processes, folder: Path) -> None:
    """Rank 1 fails in its fourth step."""
    run = trainer(ranks)

    def fail(report: StepReport) -> None:
        if ranks.index == 1 and report.step == 3:
            raise ZeroDivisionError("rank 1 fails here")

    run.run(fail, lambda _: None)


def hanging(ranks: Processes, folder: Path) -> None:
    """Rank 1 stops in its fourth step and never goes on."""
    run = trainer(ranks)

    def stop(report: StepReport) -> None:
        if ranks.index == 1 and report.step == 3:
            os.kill(os.getpid(), signal.SIGSTOP)

    run.run(stop, lambda _: None)


def poisoned(ranks: Processes, folder: Path) -> None:
    """Rank 1 gets a loss that is no number in its fourth step; each rank leaves the step at which it noticed."""
    run = trainer(ranks)
    original = run.objective.loss

    class Poison:
        def __getattr__(self, name: str) -> Any:
            return getattr(PoseObjective(COCO.num), name)

        def loss(self, low: Tensor, high: Tensor, truth: Any) -> Any:
            return original(low * float("nan") if ranks.index == 1 and run.step == 3 else low, high, truth)

    run.objective = Poison()  # type: ignore[assignment]
    watch = LossMonitor(explosion_factor=0.0)

    def check(report: StepReport) -> None:
        watch.follow(report)
        watch.read()

    try:
        run.run(check, lambda _: None)
    except TrainingDiverged as error:
        error.images = ranks.lists(error.images)
        sound = all(bool(weight.isfinite().all()) for weight in run.weights.values())
        (folder / f"rank{ranks.index}").write_text(f"{error}; weights are {'sound' if sound else 'spoilt'}")


def disagreeing(ranks: Processes, folder: Path) -> None:
    """Rank 1 draws other subnets from the third step on."""

    def other(scheduled: Any, resolution: int, seed: int, step: int) -> list[Arch]:
        return step_archs(scheduled, resolution, seed + 1 if ranks.index == 1 and step >= 2 else seed, step)

    pytest.MonkeyPatch().setattr("supernet.training.trainer.step_archs", other)
    run = trainer(ranks, [Phase("width", 1, EVERY, ("random",), 1e-2)])
    try:
        run.run(lambda _: None, lambda _: None)
    except RuntimeError as error:
        (folder / f"rank{ranks.index}").write_text(f"{run.step} {error}")


def gathering(ranks: Processes, folder: Path) -> None:
    """What ranks exchange besides gradients."""
    own = torch.full((1 + 2 * ranks.index, 2), float(ranks.index))
    empty_on_1 = torch.zeros(3 * (1 - ranks.index), dtype=torch.int64)
    assert [each.tolist() for each in ranks.gather(own)] == [[[0.0, 0.0]], [[1.0, 1.0]] * 3]
    assert [len(each) for each in ranks.gather(empty_on_1)] == [3, 0]
    assert ranks.texts("é" * ranks.index) == ["", "é"]
    assert ranks.lists(["a", "b"][ranks.index :]) == ["a", "b"]
    assert ranks.any(ranks.index == 1)
    assert not ranks.any(False)
    assert float(ranks.mean(torch.tensor(float(ranks.index)))) == 0.5
    assert [float(each) for each in ranks.means([torch.tensor(2.0 * ranks.index), torch.tensor(3.0)])] == [1.0, 3.0]
    assert ranks.of_main(lambda: f"said by {ranks.index}") == "said by 0"

    def refuse() -> str:
        raise UserError("refused by the main rank")

    with pytest.raises(UserError, match="refused by the main rank"):
        ranks.of_main(refuse)
    (folder / f"rank{ranks.index}").write_text("done")
    raise UserError("the same mistake on both")


JOBS: dict[str, Callable[[Processes, Path], None]] = {
    "returning_twice": partial(returning, num_failures=2),
    **{
        job.__name__: job
        for job in (trained, normalised, crashing, hanging, poisoned, returning, evaluating, disagreeing, gathering)
    },
}


def child(folder: Path, timeout_seconds: float, jobs: Sequence[str], rank: int) -> None:
    """Do the jobs as one rank, with the environment that torchrun would give it."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}

    def work() -> None:
        with process_group(timeout_seconds) as ranks:
            for job in jobs:
                (folder / job).mkdir(exist_ok=True)
                JOBS[job](ranks, folder / job)

    run_command(work)


def main(folder: str, timeout_seconds: str, *jobs: str) -> None:
    """Fork two ranks, wait for both, and print their exit statuses; rank 0 has to end by itself."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    torch.set_num_threads(1)
    context = multiprocessing.get_context("fork")
    ranks = [context.Process(target=child, args=(Path(folder), float(timeout_seconds), jobs, i)) for i in range(2)]
    for rank in ranks:
        rank.start()
    ranks[0].join()
    ranks[1].join(timeout=5)
    ranks[1].kill()
    ranks[1].join()
    print([rank.exitcode for rank in ranks])


if __name__ == "__main__":
    main(*sys.argv[1:])
