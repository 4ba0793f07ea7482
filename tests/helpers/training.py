"""A training run of a few steps on a tiny space, for tests that run it many times."""

from typing import Any

import torch

from supernet.checkpoints import safe_torch
from supernet.pose.keypoints import COCO
from supernet.pose.synthetic.dataset import SyntheticPeople
from supernet.pose.training.augmentation import Augmentation
from supernet.pose.training.objective import PoseObjective
from supernet.space import SearchSpace
from supernet.training.monitoring.monitor import TrainingMonitor
from supernet.training.phases import Phase, schedule
from supernet.training.trainer import LoopSettings, Trainer
from supernet.weight_sharing import SuperNet

SPACE = SearchSpace.from_dict(
    {
        "name": "tiny",
        "resolutions": [32, 48],
        "stem_widths": [8],
        "stages": [
            {"widths": [8], "depths": [1], "stride": 2, "expand_ratios": [1], "kernel_sizes": [3, 5]},
            {"widths": [8, 16], "depths": [1], "stride": 2, "expand_ratios": [1], "kernel_sizes": [3]},
            {"widths": [8], "depths": [1, 2], "stride": 2, "expand_ratios": [1], "kernel_sizes": [3]},
            {"widths": [8], "depths": [1], "stride": 1, "expand_ratios": [1, 2], "kernel_sizes": [3]},
        ],
        "deconv_widths": [[8], [8], [8]],
    }
)
EVERY = ("resolution", "kernel_size", "depth", "expand_ratio", "width")
PHASES = (
    Phase("largest", 4, ("resolution",), ("largest",), 1e-2),
    Phase("kernel", 4, ("resolution", "kernel_size"), ("random",), 3e-3, "frozen"),
    Phase("width", 6, EVERY, ("largest", "random", "smallest"), 1e-2, "inplace"),
)
NUM_STEPS = 14
STARTS = (0, 4, 8)


def tiny_trainer(phases: tuple[Phase, ...] = PHASES, num_steps: int = NUM_STEPS, num_workers: int = 0) -> Trainer:
    """Return a trainer that has not taken a step; the same one at every call."""
    torch.manual_seed(0)
    settings = LoopSettings(2, 0, 1.0, 0.9, 1.0, num_workers, Augmentation.none())
    images = SyntheticPeople(COCO, 5, 1, 64, 64)
    return Trainer(
        SuperNet(SPACE, COCO.num), PoseObjective(COCO.num), images, schedule(phases, SPACE, num_steps), settings
    )


def watched(trainer: Trainer, rollback_factor: float = 0.5) -> TrainingMonitor:
    """Return what follows ``trainer``, without evaluations."""
    return TrainingMonitor(trainer, 10.0, rollback_factor, None)


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    """Return ``state`` as it comes back from the bytes of a checkpoint."""
    value: dict[str, Any] = safe_torch.deserialize(safe_torch.serialize(state))
    return value


def is_equal(one: Any, other: Any) -> bool:
    """Whether two values of tensors and plain values are equal to the last bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(is_equal(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(is_equal, one, other))
    return bool(one == other)
