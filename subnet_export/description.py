"""What ``model.json`` says about an exported model."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from subnet_export.exported_model import Calibration, ExportedModel, Measurement, Origin
from supernet.arch import Arch
from supernet.errors import UserError
from supernet.litepose import LitePose
from supernet.pose.geometry import IMAGENET_MEAN, IMAGENET_STD
from supernet.pose.inference import InferenceSettings
from supernet.pose.keypoints import keypoint_set
from supernet.pose.objective import PoseObjective
from supernet.settings import from_mapping

FORMAT = 1
WEIGHTS_FILE = "weights.pt"


def describe(model: ExportedModel, sha256: str) -> dict[str, Any]:
    """Return the description of ``model``, plain values; ``sha256`` is that of its weights file."""
    return {
        "format": FORMAT,
        "network": "LitePose",
        "arch": model.arch.to_dict(),
        "keypoints": {"set": model.keypoints.name, "names": list(model.keypoints.names)},
        "input": {
            "short_side": model.arch.resolution,
            "channels": "RGB, 0..1",
            "mean": list(IMAGENET_MEAN),
            "std": list(IMAGENET_STD),
        },
        "outputs": {
            "low": {"stride": 4, "channels": "K heatmaps, then K tags"},
            "high": {"stride": 2, "channels": "K heatmaps"},
        },
        "inference": asdict(model.settings),
        "objective": asdict(model.objective),
        "dataset": model.dataset,
        "calibration": asdict(model.calibration),
        "measurement": asdict(model.measurement),
        "costs": model.costs,
        "origin": asdict(model.origin),
        "weights": {"file": WEIGHTS_FILE, "sha256": sha256},
    }


def from_description(value: Mapping[str, Any]) -> ExportedModel:
    """Build the model that ``value`` describes, on the CPU, its weights still to be filled in.

    Raises:
        UserError: An entry is missing, unknown or of the wrong type.
    """
    wanted = (
        "arch",
        "keypoints",
        "input",
        "outputs",
        "inference",
        "objective",
        "dataset",
        "calibration",
        "measurement",
        "costs",
        "origin",
        "weights",
    )
    for key in wanted:
        if not isinstance(value.get(key), Mapping):
            raise UserError(f"{key} is missing or not an object; restore the file or export the subnet anew")
    keypoints = keypoint_set(str(value["keypoints"].get("set")))
    arch = Arch.from_dict(value["arch"])
    return ExportedModel(
        LitePose(arch, keypoints.num),
        keypoints,
        from_mapping(InferenceSettings, value["inference"], "inference"),
        from_mapping(PoseObjective, value["objective"], "objective"),
        dict(value["dataset"]),
        from_mapping(Calibration, value["calibration"], "calibration"),
        from_mapping(Origin, value["origin"], "origin"),
        from_mapping(Measurement, value["measurement"], "measurement"),
        dict(value["costs"]),
    )
