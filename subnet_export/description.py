"""What ``model.json`` says about an exported model."""

from dataclasses import asdict
from typing import Any

from subnet_export.exported_model import Calibration, ExportedModel, Measurement, Origin
from supernet.exported_net import ExportedNet, check_objects, describe_net, describe_weights
from supernet.pose.objective import PoseObjective
from supernet.settings import from_mapping


def describe(model: ExportedModel, weights: bytes) -> dict[str, Any]:
    """Return the description of ``model``, plain values; ``weights`` is the content of its weights file."""
    return {
        **describe_net(model.arch, model.keypoints, model.settings),
        "objective": asdict(model.objective),
        "dataset": model.dataset,
        "calibration": asdict(model.calibration),
        "measurement": asdict(model.measurement),
        "costs": model.costs,
        "origin": asdict(model.origin),
        "weights": describe_weights(weights),
    }


def from_description(net: ExportedNet) -> ExportedModel:
    """Build the model of a network from what its description says besides.

    Raises:
        UserError: An entry is missing, unknown or of the wrong type.
    """
    value = net.description
    check_objects(value, ("objective", "calibration", "measurement", "costs", "origin"))
    return ExportedModel(
        net.network,
        net.keypoints,
        net.settings,
        from_mapping(PoseObjective, value["objective"], "objective"),
        net.dataset,
        from_mapping(Calibration, value["calibration"], "calibration"),
        from_mapping(Origin, value["origin"], "origin"),
        from_mapping(Measurement, value["measurement"], "measurement"),
        dict(value["costs"]),
    )
