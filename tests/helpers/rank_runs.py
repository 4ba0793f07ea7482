"""Whole runs as jobs for two processes, see ``rank_jobs``."""

import copy
import io
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from supernet.checkpoints import container
from supernet.cli.console import CONSOLE
from supernet.cli.hydra_app import compose_config
from supernet.compute.distributed import Processes
from supernet.errors import UserError
from supernet.evaluation import run as evaluation_run
from supernet.pose.data.pose_dataset import PoseDataset
from supernet.pose.inference import PoseEstimator, PosePredictions
from supernet.pose.training.objective import PoseObjective
from supernet.training import launch, run_folder
from supernet.training.monitoring.loss_monitor import TrainingDiverged
from supernet.training.monitoring.monitor import TrainingMonitor
from supernet.training.trainer import Trainer
from tests.helpers.evaluated_supernet import export_smallest, write_supernet
from tests.helpers.quick_drawings import quick_drawings
from tests.supernet.test_train import configuration


def rolling_back(processes: Processes, folder: Path, num_failures: int = 1) -> None:
    """A whole run in which the loss of rank 1 in the eighth step is NaN ``num_failures`` times.

    Each process writes the state that it rolled back to, and the state at the end or the error.
    """
    outcome: dict[str, Any] = {}
    real_step, real_loss, real_roll_back = Trainer.train_step, PoseObjective.loss, TrainingMonitor.roll_back
    num_left, trainers = [num_failures * processes.index], list[Trainer]()

    def train_step(self: Trainer, *arguments: Any) -> Any:
        trainers[:] = [self]
        return real_step(self, *arguments)

    def loss(self: PoseObjective, low: Tensor, high: Tensor, truth: Any) -> Any:
        is_bad = trainers[0].step == 7 and num_left[0] > 0
        num_left[0] -= is_bad
        return real_loss(self, low * float("nan") if is_bad else low, high, truth)

    def roll_back(self: TrainingMonitor, failure: TrainingDiverged, run: Path) -> Any:
        recorded = run_folder.load_checkpoint(run)["trainer"]
        rollback = real_roll_back(self, failure, run)
        outcome.update(recorded=recorded, after=copy.deepcopy(self.trainer.state()))
        return rollback

    with pytest.MonkeyPatch.context() as patch, quick_drawings():
        patch.setattr(launch, "process_group", lambda _: nullcontext(processes))
        patch.setattr(Trainer, "train_step", train_step)
        patch.setattr(PoseObjective, "loss", loss)
        patch.setattr(TrainingMonitor, "roll_back", roll_back)
        changes = {"steps": 12, "checkpoint_every": 4, "log_every": 1, "report_random": 0}
        try:
            launch.start_or_resume(configuration(folder, **changes), [])
            outcome["end"] = trainers[0].state()
        except UserError as error:
            outcome["error"] = str(error)
    container.save(folder / f"rank{processes.index}", "test", outcome)


def evaluating(processes: Processes, folder: Path) -> None:
    """Runs of ``supernet.evaluate``, of a subnet and of an export.

    Each process writes on how many images it ran the networks, and what it printed.
    """
    num_images: list[int] = []

    on_dataset = PoseEstimator.on_dataset

    def count(estimator: PoseEstimator, shard: PoseDataset, *rest: Any, **named: Any) -> list[PosePredictions]:
        num_images.append(len(shard))
        return on_dataset(estimator, shard, *rest, **named)

    def prepare() -> str:
        write_supernet(folder)
        return str(export_smallest(folder))

    export = processes.on_main(prepare)
    CONSOLE.file = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation_run, "process_group", lambda _: nullcontext(processes))
        patch.setattr(PoseEstimator, "on_dataset", count)
        for name, weights, arch in (("subnet", folder, "smallest"), ("export", export, "null")):
            options = [f"weights={weights}", f"arch={arch}", f"runs={folder}", f"name={name}", "plots=true"]
            evaluation_run.run(compose_config("evaluate", [*options, "batch_size=4", "num_calibration_images=12"]))
    (folder / f"rank{processes.index}").write_text(f"{num_images}{CONSOLE.file.getvalue()}")
