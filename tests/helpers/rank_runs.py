"""Whole runs as work for two processes, see ``rank_jobs``."""

import copy
import io
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from supernet.checkpoints import container
from supernet.cli.console import CONSOLE
from supernet.cli.hydra_app import composed
from supernet.compute.distributed import Processes
from supernet.errors import UserError
from supernet.evaluation import run as evaluation_run
from supernet.evaluation import sharded_inference
from supernet.pose.data.pose_dataset import PoseDataset
from supernet.pose.inference import PosePredictions, estimate_dataset
from supernet.pose.training.objective import PoseObjective
from supernet.training import launch, run_folder
from supernet.training.monitoring.loss_monitor import TrainingDiverged
from supernet.training.monitoring.monitor import TrainingMonitor
from supernet.training.trainer import Trainer
from tests.helpers.evaluated_supernet import export_smallest, write_supernet
from tests.supernet.test_train import configuration


def returning(ranks: Processes, folder: Path, num_failures: int = 1) -> None:
    """A whole run, in whose eighth step the loss of rank 1 is no number, as often as told.

    Each rank leaves what it went back to and the weights that it ended with.
    """
    found: dict[str, Any] = {}
    real_step, real_loss, real_return = Trainer._train_step, PoseObjective.loss, TrainingMonitor.roll_back
    num_left, trainers = [num_failures * ranks.index], list[Trainer]()

    def step(self: Trainer, *arguments: Any) -> Any:
        trainers[:] = [self]
        return real_step(self, *arguments)

    def loss(self: PoseObjective, low: Tensor, high: Tensor, truth: Any) -> Any:
        bad = trainers[0].step == 7 and num_left[0] > 0
        num_left[0] -= bad
        return real_loss(self, low * float("nan") if bad else low, high, truth)

    def go_back(self: TrainingMonitor, failure: TrainingDiverged, place: Path) -> Any:
        recorded = run_folder.load_checkpoint(place)["trainer"]
        rollback = real_return(self, failure, place)
        found.update(recorded=recorded, after=copy.deepcopy(self.trainer.state()))
        return rollback

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "process_group", lambda _: nullcontext(ranks))
        patch.setattr(Trainer, "_train_step", step)
        patch.setattr(PoseObjective, "loss", loss)
        patch.setattr(TrainingMonitor, "roll_back", go_back)
        changes = {"steps": 12, "checkpoint_every": 4, "log_every": 1, "report_random": 0}
        try:
            launch.start_or_resume(configuration(folder, **changes), [])
            found["end"] = trainers[0].state()
        except UserError as error:
            found["told"] = str(error)
    container.save(folder / f"rank{ranks.index}", "test", found)


def evaluating(ranks: Processes, folder: Path) -> None:
    """Runs of ``supernet.evaluate``, of a subnet and of an export.

    Each rank leaves how many images it ran the networks on, and what it said.
    """
    num_run: list[int] = []

    def count(network: Any, part: PoseDataset, *rest: Any, **named: Any) -> list[PosePredictions]:
        num_run.append(len(part))
        return estimate_dataset(network, part, *rest, **named)

    def prepare() -> str:
        write_supernet(folder)
        return str(export_smallest(folder))

    export = ranks.of_main(prepare)
    CONSOLE.file = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation_run, "process_group", lambda _: nullcontext(ranks))
        patch.setattr(sharded_inference, "estimate_dataset", count)
        for name, weights, arch in (("subnet", folder, "smallest"), ("export", export, "null")):
            options = [f"weights={weights}", f"arch={arch}", f"runs={folder}", f"name={name}", "plots=true"]
            evaluation_run.run(composed("evaluate", [*options, "batch_size=4", "num_calibration_images=12"]))
    (folder / f"rank{ranks.index}").write_text(f"{num_run}{CONSOLE.file.getvalue()}")
