"""Converts an exported model to the content of ``model.json`` and back."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from subnet_export.decoding.description import describe_decoding
from subnet_export.deployment.formats import FORMATS
from subnet_export.exported_model import Calibration, ExportedModel, FormatRecord, Latency, Measurement, Origin
from subnet_export.publish.front_matter import UNKNOWN, check_license
from supernet.checkpoints.exported_network import ExportedNet, check_objects, describe_net, describe_weights
from supernet.errors import UserError
from supernet.io.metric_values import with_null, without_null
from supernet.io.schema import check_number, from_mapping
from supernet.pose.training.objective import PoseObjective


def describe(model: ExportedModel, weights: bytes) -> dict[str, Any]:
    """Return the description of ``model`` as plain values; ``weights`` is the content of its weights file."""
    return {
        **describe_net(model.arch, model.keypoints, model.settings),
        "objective": asdict(model.objective),
        "dataset": model.dataset,
        "category_id": model.category_id,
        "license": model.license,
        "calibration": asdict(model.calibration),
        "measurement": with_null(asdict(model.measurement)),
        "costs": model.costs,
        "origin": asdict(model.origin),
        "weights": describe_weights(weights),
        "decoder": describe_decoding(model.keypoints, model.settings, model.arch.resolution),
        "formats": {name: record.describe() for name, record in model.formats.items()},
        "latencies": [asdict(latency) for latency in model.latencies],
    }


def from_description(net: ExportedNet) -> ExportedModel:
    """Build the model of a network from the other entries of its description.

    Raises:
        UserError: An entry is missing, unknown or of the wrong type.
    """
    value = net.description
    check_objects(value, ("objective", "calibration", "measurement", "costs", "origin"))
    formats, latencies = value.get("formats", {}), value.get("latencies", [])
    if not isinstance(formats, Mapping) or not isinstance(latencies, list):
        raise UserError("formats or latencies is malformed; restore the file or export the subnet again")
    for key in ("params", "macs"):
        remedy = "restore the file or export the subnet again"
        check_number(f"costs.{key}", value["costs"].get(key), least=0, whole=True, remedy=remedy)
    measurement = value["measurement"]
    category_id = value.get("category_id", 1)  # earlier releases wrote none
    if isinstance(category_id, bool) or not isinstance(category_id, int | str):
        raise UserError(f"category_id must be a whole number or text, got {category_id!r:.80}; export the subnet again")
    license = value.get("license", UNKNOWN)  # earlier releases wrote none
    if not isinstance(license, str):
        raise UserError(f"license must be text, got {license!r:.80}; restore the file or export the subnet again")
    return ExportedModel(
        net.network,
        net.keypoints,
        net.settings,
        from_mapping(PoseObjective, value["objective"], "objective"),
        net.dataset,
        from_mapping(Calibration, value["calibration"], "calibration"),
        replace(from_mapping(Origin, value["origin"], "origin"), trained_on=net.trained_on),
        from_mapping(Measurement, {**measurement, "metrics": without_null(measurement.get("metrics"))}, "measurement"),
        dict(value["costs"]),
        {name: _format(name, record) for name, record in formats.items()},
        tuple(from_mapping(Latency, latency, "latencies") for latency in latencies),
        category_id,
        check_license(license),
    )


def _format(name: str, value: Any) -> FormatRecord:
    """Read the record of a format; its files must be those that this format has in the model's folder."""
    if isinstance(value, Mapping):  # these follow from other entries
        value = {key: entry for key, entry in value.items() if key not in ("AP_difference", "checked")}
    record = from_mapping(FormatRecord, value, f"formats.{name}")
    if name not in FORMATS or set(record.files) != set(FORMATS[name].files):
        raise UserError(
            f"formats.{name} has the files {', '.join(map(repr, record.files))}, which this release does not know; "
            "export the subnet again"
        )
    return record
