"""What a program without this project must know to find people with an exported network, as plain values."""

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from supernet.pose.geometry import IMAGENET_MEAN, IMAGENET_STD
from supernet.pose.grouping import matching_order
from supernet.pose.inference import InferenceSettings
from supernet.pose.keypoints import KeypointSet
from supernet.version import VERSION

METADATA_KEY = "litepose"
"""Of an ONNX file's ``metadata_props``; its value is the description in JSON."""
Gives = Literal["maps", "detections"]
"""What a graph returns: ``low`` and ``high``, or ``detections`` (:mod:`subnet_export.decoding.graph`)."""


@dataclass(frozen=True)
class Decoding:
    """How the outputs of a network become people.

    Attributes:
        keypoints: The K keypoints of the network.
        settings: How images become people.
        in_graph: The graph decodes itself (:mod:`subnet_export.decoding.graph`).
    """

    keypoints: KeypointSet
    settings: InferenceSettings
    in_graph: bool = False


def describe_decoding(keypoints: KeypointSet, settings: InferenceSettings, resolution: int) -> dict[str, Any]:
    """Return the description of a network with these keypoints; it is part of ``model.json``.

    Args:
        keypoints: The K keypoints.
        settings: How images become people.
        resolution: Short side of the input, px.
    """
    num = keypoints.num
    return {
        "version": VERSION,
        "keypoints": {
            "name": keypoints.name,
            "names": list(keypoints.names),
            "flip_pairs": [list(pair) for pair in keypoints.flip_pairs],
            "skeleton": [list(bone) for bone in keypoints.skeleton],
        },
        "keypoint_order": list(matching_order(num)),
        "input": {
            "name": "images",
            "short_side": resolution,
            "long_side_multiple_of": settings.size_divisor,
            "padding": "black, centred",
            "channels": "RGB",
            "mean": [value * 255 for value in IMAGENET_MEAN],
            "std": [value * 255 for value in IMAGENET_STD],
        },
        "outputs": {
            "low": f"(B, {2 * num}, H/4, W/4): {num} heatmaps, then {num} tag maps",
            "high": f"(B, {num}, H/2, W/2): {num} heatmaps",
            "detections": f"(B, {num}, {settings.max_people}, 4): x, y in pixels of the input, value, tag; per "
            "keypoint by falling value, all 0 where there is none",
        },
        "inference": {**asdict(settings), "scales": list(settings.scales)},
    }


def as_metadata(description: dict[str, Any], takes: str, gives: Gives) -> str:
    """Return a description as the JSON text that a file of one graph holds.

    Args:
        description: Of :func:`describe_decoding`.
        takes: Kind of input of the graph, "uint8" or "float32" (:mod:`subnet_export.deployment.deployed_network`).
        gives: What the graph returns.
    """
    return json.dumps({**description, "takes": takes, "gives": gives})
