"""Makes what a training run consists of from its setup: the process's libraries, the supernet and its trainer."""

import logging
from functools import partial

import cv2
import torch

from supernet.compute.cpu_tuning import prefer_throughput
from supernet.compute.distributed import Processes
from supernet.compute.sync_batch_norm import synchronise_batch_norm
from supernet.pose.training.objective import PoseObjective
from supernet.training.setup import TrainingSetup
from supernet.training.trainer import Trainer
from supernet.training.warm_start import load_warm_start
from supernet.weight_sharing import SuperNet

logger = logging.getLogger(__name__)


def configure_process(setup: TrainingSetup) -> None:
    """Set the threads of this process, and tune it for training on a CPU."""
    if setup.settings.threads is not None:
        torch.set_num_threads(setup.settings.threads)
    if setup.device.type == "cpu":
        prefer_throughput(is_training=True)
    cv2.setNumThreads(0)


def new_supernet(setup: TrainingSetup, processes: Processes, is_resumed: bool) -> SuperNet:
    """Return the supernet on its device, with its first weights unless the run is resumed."""
    adapt = None
    if setup.settings.sync_batch_norm and processes.count > 1:
        adapt = partial(synchronise_batch_norm, processes=processes)
    supernet = SuperNet(setup.space, setup.keypoints.num, adapt)
    if setup.warm_start is not None and not is_resumed:
        message = load_warm_start(supernet, setup.warm_start, setup.keypoints)
        if processes.is_main:
            logger.info(f"init: {message}")
    return supernet.to(setup.device)


def new_trainer(setup: TrainingSetup, supernet: SuperNet, processes: Processes) -> Trainer:
    """Return the trainer of ``supernet`` before its first step."""
    return Trainer(supernet, new_objective(setup), setup.train_set, setup.scheduled, setup.settings, processes)


def new_objective(setup: TrainingSetup) -> PoseObjective:
    """Return the targets and losses of a training."""
    settings = setup.settings
    return PoseObjective(
        setup.keypoints.num,
        settings.sigma,
        settings.push_weight,
        settings.pull_weight,
        settings.targets,
        settings.foreground_weight,
        settings.sigma_per_size,
    )
