"""The configuration of a data set on disk, checked: ``conf/dataset/{coco,crowdpose,custom}.yaml``."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from supernet.errors import UserError
from supernet.io.schema import from_mapping
from supernet.pose.custom_keypoints import CustomKeypoints
from supernet.pose.keypoints import KeypointSet, keypoint_set

SPLITS = ("train", "val", "test")
"""Training; search and model choice; final figures."""


@dataclass(frozen=True)
class SplitOnDisk:
    """One split: an annotation file, its images (``image_source``), and which of them count."""

    annotations: str
    images: str
    only_with_people: bool


@dataclass(frozen=True)
class _Options:
    kind: str
    keypoints: Any
    root: str | None
    train: SplitOnDisk
    val: SplitOnDisk
    test: SplitOnDisk
    # Descriptions in older files do not have these.
    category: str | None = None
    on_bad_image: Literal["skip", "fail"] = "skip"
    max_bad_share: float = 0.01


@dataclass(frozen=True)
class DatasetOnDisk:
    """A data set in COCO's layout.

    Attributes:
        keypoints: A built-in set, or what configuration says about a custom one.
        splits: By name, with their places below the root.
        category: Name of the annotated category; None: "person", or the only one with keypoints.
        on_bad_image: What training does with an image that cannot be used.
        max_bad_share: Share of the training images that may be broken before training fails.
    """

    keypoints: KeypointSet | CustomKeypoints
    splits: Mapping[str, SplitOnDisk]
    category: str | None
    on_bad_image: Literal["skip", "fail"]
    max_bad_share: float

    @classmethod
    def from_plain(cls, value: Mapping[str, Any]) -> Self:
        """Check a plain description.

        Raises:
            UserError: A missing, unknown or wrong entry.
        """
        options = from_mapping(_Options, value, "dataset")
        if not options.root:
            raise UserError("dataset.root is not set; give the folder that holds the data set, dataset.root=FOLDER")
        if not 0 <= options.max_bad_share < 1:
            raise UserError(f"dataset.max_bad_share is {options.max_bad_share}; it must be from 0 to below 1")
        root = Path(options.root)
        splits = {
            name: SplitOnDisk(str(root / part.annotations), str(root / part.images), part.only_with_people)
            for name, part in zip(SPLITS, (options.train, options.val, options.test), strict=True)
        }
        keypoints: KeypointSet | CustomKeypoints
        if isinstance(options.keypoints, str):
            keypoints = keypoint_set(options.keypoints)
        else:
            keypoints = from_mapping(CustomKeypoints, options.keypoints, "dataset.keypoints")
        return cls(keypoints, splits, options.category, options.on_bad_image, options.max_bad_share)
