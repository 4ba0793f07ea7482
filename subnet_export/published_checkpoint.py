"""Converts checkpoints of the published LitePose code to exported models."""

from pathlib import Path

from subnet_export.exported_model import Calibration, ExportedModel, Measurement, Origin
from supernet.arch import Arch
from supernet.checkpoints.lineage import PUBLISHED
from supernet.checkpoints.litepose_checkpoint import read_published
from supernet.cli.hydra_app import dataset_config
from supernet.costs.analytic import params_and_macs
from supernet.pose.inference import InferenceSettings
from supernet.pose.keypoints import keypoint_set
from supernet.pose.training.objective import PoseObjective


def published_model(path: str | Path, arch: Arch, keypoints_name: str) -> ExportedModel:
    """Return a published checkpoint as an exported model with the published objective, not measured by us.

    Its data set is described in the official layout without a folder; fine-tuning has to name one.

    Args:
        path: The checkpoint file.
        arch: Architecture of its network.
        keypoints_name: "coco" or "crowdpose".

    Raises:
        UserError: The checkpoint cannot be read or does not fit ``arch`` (:func:`read_published`).
    """
    keypoints = keypoint_set(keypoints_name)
    return ExportedModel(
        read_published(path, arch, keypoints.num),
        keypoints,
        InferenceSettings(),
        PoseObjective(keypoints.num),
        dataset_config(keypoints_name, []),
        Calibration("train, as published", 0, arch.resolution),
        Origin("published", "", trained_on=(PUBLISHED,)),
        Measurement("test", 0, {}),
        params_and_macs(arch, keypoints.num),
    )
