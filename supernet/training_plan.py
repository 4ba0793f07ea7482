"""What a training run's options stand for: space, phases, data sets, device and first weights."""

from dataclasses import dataclass
from typing import Any

import torch

from supernet.distributed import Ranks
from supernet.errors import UserError
from supernet.initialisation import StartingNetwork, read_start
from supernet.phases import Scheduled, schedule
from supernet.pose.datasets import build, resolved
from supernet.pose.geometry import check_scales
from supernet.pose.kept import KeptPictures
from supernet.pose.keypoints import KeypointSet
from supernet.space import SearchSpace
from supernet.training_settings import TrainSettings


@dataclass(frozen=True)
class Plan:
    """A run's settings, checked and turned into what they stand for."""

    settings: TrainSettings
    device: torch.device
    space: SearchSpace
    scheduled: list[Scheduled]
    keypoints: KeypointSet
    dataset: dict[str, Any]
    train_set: KeptPictures
    test_set: KeptPictures
    val_set: KeptPictures | None
    start: StartingNetwork | None


def planned(settings: TrainSettings, ranks: Ranks) -> Plan:
    """Check ``settings`` against space, phases, data set, device and number of processes; nothing is written."""
    ranks.check_batch_size(settings.batch_size)
    space = SearchSpace.from_dict(settings.space)
    scheduled = schedule(settings.phases, space, settings.steps)
    for resolution in space.resolutions:
        check_scales(settings.evaluation.scales, settings.evaluation.size_divisor, resolution)
    train_set = KeptPictures(build(settings.dataset, "train"), memory_bytes=settings.picture_memory_mib * 2**20)
    if not len(train_set):
        raise UserError("the training split has no pictures; check dataset.train")
    keypoints = train_set.keypoints
    dataset = resolved(settings.dataset, keypoints)
    test_set = KeptPictures(build(dataset, "test"))
    val_set = KeptPictures(build(dataset, "val"), settings.num_evaluate_images) if settings.evaluate_every else None
    device = ranks.device(settings.device)
    start = None if settings.init is None else read_start(settings.init, settings.init_arch, space)
    return Plan(settings, device, space, scheduled, keypoints, dataset, train_set, test_set, val_set, start)
