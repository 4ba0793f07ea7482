"""Which images weights were trained on: their own data set, and those of the weights that they started from."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import Any

from supernet.errors import UserError
from supernet.io.schema import from_mapping

_DRAWN = "synthetic"
"""Kind of the built-in data set."""
CUSTOM = "custom"
"""Kind of data sets with keypoints of their own, whose names are not public."""


@dataclass(frozen=True)
class TrainingData:
    """Images that weights were trained on: the kind of their data set, and the set in a few words.

    The kind of a data set on disk is the name of its keypoints, "coco" or "crowdpose", or ``CUSTOM``.
    """

    kind: str
    description: str

    @property
    def is_drawn(self) -> bool:
        """Whether the images show the built-in, drawn people."""
        return self.kind == _DRAWN


Lineage = tuple[TrainingData, ...]
"""All data sets of some weights, the first one first."""

PUBLISHED = TrainingData("published", "photographs, by the authors of LitePose")
IMAGENET = TrainingData("imagenet", "ImageNet's photographs without poses (the backbone)")


def training_data_of(dataset: Mapping[str, Any]) -> TrainingData:
    """Describe the training images of a data set (:func:`supernet.pose.datasets.build`)."""
    if dataset.get("kind") == _DRAWN:
        size = f"{dataset.get('width')} x {dataset.get('height')} px"
        num_images = _part(dataset, "train").get("num_images")
        return TrainingData(_DRAWN, f"built-in drawn people, {num_images} images of {size}")
    keypoints = dataset.get("keypoints")
    kind = CUSTOM if isinstance(keypoints, Mapping) else str(keypoints)
    return TrainingData(kind, f"images on disk, annotations {annotations_of(dataset, 'train')}")


def annotations_of(dataset: Mapping[str, Any], split: str) -> str:
    """Return the annotation file of a split for a text; of a file outside the data set's folder, only its name.

    A path of this machine has no place in models that others get.
    """
    annotations = str(_part(dataset, split).get("annotations"))
    return PurePath(annotations).name if PurePath(annotations).is_absolute() else annotations


def extended(lineage: Iterable[TrainingData], data: TrainingData) -> Lineage:
    """Add a data set to a lineage, once."""
    return tuple(dict.fromkeys((*lineage, data)))


def saw_only_drawings(lineage: Lineage) -> bool:
    """Whether weights learned poses from built-in people alone; a backbone from ImageNet has learned none."""
    return all(data.is_drawn or data == IMAGENET for data in lineage)


def to_plain(lineage: Lineage) -> list[dict[str, str]]:
    """Return a lineage as plain values."""
    return [asdict(data) for data in lineage]


def from_plain(value: Any) -> Lineage:
    """Read what :func:`to_plain` returned; None, from a file of an earlier release, is empty.

    Raises:
        UserError: The value is malformed.
    """
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise UserError(f"trained_on must be a list, got {value!r:.80}; restore the file")
    return tuple(from_mapping(TrainingData, data, "trained_on") for data in value)


def _part(dataset: Mapping[str, Any], split: str) -> Mapping[str, Any]:
    part = dataset.get(split)
    return part if isinstance(part, Mapping) else {}
