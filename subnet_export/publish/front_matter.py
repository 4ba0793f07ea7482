"""The YAML at the head of a model card, which hubs read: licence, data, metrics and results.

Source: the metadata of model cards on the Hugging Face Hub (huggingface.co/docs/hub/model-cards), with results as a
``model-index``. Licence and data set are free text there; ours are the names that this project knows.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from subnet_export.exported_model import ExportedModel
from supernet.checkpoints.lineage import CUSTOM, Lineage, annotations_of
from supernet.errors import UserError
from supernet.version import PROJECT

UNKNOWN = "unknown"
"""Licence of weights whose owner has not said it."""
TASK = "keypoint-detection"
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,49}")


def check_license(name: str) -> str:
    """Return ``name``; raise UserError unless it has the form of a licence's name on hubs, such as apache-2.0."""
    if not _LICENSE.fullmatch(name):
        raise UserError(
            f"license must be a name in lower case, such as mit, apache-2.0, cc-by-4.0 or other, got {name!r:.80}"
        )
    return name


def of_model(model: ExportedModel, title: str) -> str:
    """Return the front matter of an exported model's card."""
    measurement = model.measurement
    results = [
        {"type": name, "value": round(value, 4), "name": _metric_name(name)}
        for name, value in measurement.metrics.items()
        if value >= 0  # -1 stands for a stratum without people
    ]
    type, name = _measured_on(model.dataset, measurement.split)
    dataset = {"type": type, "name": name, "split": measurement.split}
    index = {
        "name": title,
        "results": [
            {"task": {"type": TASK, "name": "multi-person pose estimation"}, "dataset": dataset, "metrics": results}
        ],
    }
    tags = ["subnet", f"{model.arch.resolution}px", model.keypoints.name]
    measured = (["AP"], [index]) if results else ([], [])  # hubs refuse an index without results
    return _front_matter(model.license, model.origin.trained_on, tags, *measured)


def of_supernet(license: str, trained_on: Lineage, space: str, keypoints: str) -> str:
    """Return the front matter of a supernet's card; AP belongs to subnets, so there are no results."""
    return _front_matter(license, trained_on, ["supernet", "neural-architecture-search", space, keypoints], [], [])


def _front_matter(
    license: str, trained_on: Lineage, tags: Sequence[str], metrics: Sequence[str], index: Sequence[dict[str, Any]]
) -> str:
    value: dict[str, Any] = {
        "license": license,
        "library_name": PROJECT,
        "pipeline_tag": TASK,
        "tags": list(dict.fromkeys(["pose-estimation", "litepose", "once-for-all", *tags])),
        "datasets": list(dict.fromkeys(_hub_name(data.kind) for data in trained_on if data.kind != CUSTOM)),
    }
    value |= {"metrics": list(metrics)} if metrics else {}
    value |= {"model-index": list(index)} if index else {}
    return f"---\n{yaml.safe_dump(value, sort_keys=False, allow_unicode=True)}---\n"


def _metric_name(name: str) -> str:
    """Return a metric in words."""
    kind = "average recall" if name.startswith("AR") else "average precision"
    named = {"": "OKS 0.50 to 0.95", "50": "OKS 0.50", "75": "OKS 0.75", "M": "medium people", "L": "large people"}
    return f"{kind}, {named.get(name[2:], name[2:].strip('_'))}"


def _hub_name(kind: str) -> str:
    """Return the name of a kind of data set."""
    return {"synthetic": "drawn-people", "imagenet": "imagenet-1k"}.get(kind, kind)


def name_on_disk(dataset: Mapping[str, Any]) -> str:
    """Return the name of a data set on disk: that of its keypoints, as every one is in COCO's format."""
    keypoints = dataset.get("keypoints")
    return str(keypoints.get("name") if isinstance(keypoints, Mapping) else keypoints)


def _measured_on(dataset: Mapping[str, Any], split: str) -> tuple[str, str]:
    """Return the type and the name of a data set in results."""
    if dataset.get("kind") == "synthetic":
        return _hub_name("synthetic"), f"built-in drawn people, {dataset.get('width')} x {dataset.get('height')} px"
    return name_on_disk(dataset), f"{name_on_disk(dataset)}, annotations {annotations_of(dataset, split)}"
