"""The teacher of fine-tuning: the largest subnet of a supernet, or any exported model."""

from pathlib import Path

import torch

from subnet_export.model import load_model
from supernet.checkpoints.exported_network import is_exported
from supernet.checkpoints.pretrained import located
from supernet.checkpoints.supernet_file import load_supernet
from supernet.compute.precision import tf32
from supernet.errors import UserError
from supernet.evaluation.calibration import calibrate
from supernet.evaluation.subnet_scorer import calibration_batches
from supernet.litepose import LitePose
from supernet.pose.data.pose_dataset import PoseDataset
from supernet.pose.inference import InferenceSettings
from supernet.pose.keypoints import KeypointSet
from supernet.pose.training.targets import Placement


def load_teacher(
    path: str | Path, keypoints: KeypointSet, device: torch.device, placement: Placement = "published"
) -> LitePose:
    """Read a teacher, whose batch-norm statistics still have to be calibrated on the training images.

    Args:
        path: Folder of an exported model, or a training run's folder or supernet, whose largest subnet is the teacher;
            or a name (:mod:`supernet.checkpoints.pretrained`).
        keypoints: The keypoints that it must predict.
        device: Where to put it.
        placement: Where its heatmaps must peak.

    Raises:
        UserError: There is nothing at ``path``, or it predicts other keypoints or peaks elsewhere.
    """
    if is_exported(path):
        model = load_model(path)
        network, own, objective = model.network, model.keypoints, model.objective
    elif located(path).exists():
        trained = load_supernet(path)
        network = trained.supernet.extract(trained.supernet.space.largest())
        own, objective = trained.keypoints, trained.objective
    else:
        raise UserError(f"there is no teacher at {path}; name an exported model's folder or a training run's")
    if own.names != keypoints.names:
        raise UserError(
            f"teacher {path} predicts the {own.num} keypoints of {own.name}, but the {keypoints.num} of "
            f"{keypoints.name} are to be learned; name a teacher of these or remove --teacher"
        )
    if objective.placement != placement:
        raise UserError(
            f"teacher {path} was trained with {objective.placement} targets, but the model with {placement} ones, and "
            "their heatmaps peak at different places; name a teacher with the model's targets or remove --teacher"
        )
    return network.to(device)


def calibrated(
    network: LitePose,
    train_set: PoseDataset,
    resolution: int,
    num_images: int,
    settings: InferenceSettings,
) -> LitePose:
    """Set the batch-norm statistics of ``network`` in place from training images, and return it in evaluation mode.

    Args:
        network: The network, on the device to compute on.
        train_set: Source of the images, which are spread evenly over it.
        resolution: Short side of the network's inputs, px.
        num_images: Number of images.
        settings: Gives the ``size_divisor``.
    """
    with tf32(allowed=False):
        calibrate(network, calibration_batches(train_set, resolution, num_images, settings.size_divisor))
    return network
