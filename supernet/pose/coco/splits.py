"""The checked configuration of a data set on disk: ``conf/dataset/{coco,crowdpose,custom}.yaml``."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from supernet.errors import UserError
from supernet.io.schema import check_numbers, from_mapping
from supernet.pose.coco.categories import CategoryName
from supernet.pose.custom_keypoints import CustomKeypoints
from supernet.pose.keypoints import KeypointSet, keypoint_set

SPLITS = ("train", "val", "test")
"""For training; for search and model selection; for final figures."""

_EARLIER_NAMES = {"on_bad_picture": "on_bad_image"}
"""Options as earlier releases wrote them into supernet files, exported models and run configurations, and as now."""


@dataclass(frozen=True)
class SplitOnDisk:
    """One split: annotation file, images (see ``image_source``), and whether to leave out images without people."""

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
    # Files of earlier releases lack these.
    category: Any = None
    on_bad_image: Literal["skip", "fail"] = "skip"
    max_bad_share: float = 0.01
    exif: Literal["stored", "turned", "auto"] = "stored"


@dataclass(frozen=True)
class DatasetOnDisk:
    """A data set in COCO's layout.

    Attributes:
        keypoints: A built-in set, or the configuration of a custom one.
        splits: Splits by name, with their paths below the root.
        category: Name of the annotated category, or of several with the same keypoints, which are merged; None:
            "person", or the only one with keypoints.
        on_bad_image: Whether training skips an image that cannot be used, or fails.
        max_bad_share: Share of the training images that may be broken before training fails.
        exif: Whether annotations refer to images as stored, or as their EXIF orientation shows them.
    """

    keypoints: KeypointSet | CustomKeypoints
    splits: Mapping[str, SplitOnDisk]
    category: CategoryName
    on_bad_image: Literal["skip", "fail"]
    max_bad_share: float
    exif: Literal["stored", "turned", "auto"]

    @classmethod
    def from_plain(cls, value: Mapping[str, Any]) -> Self:
        """Build from a plain description, as configuration and files of any release hold it.

        Raises:
            UserError: An option is missing, unknown or wrong.
        """
        options = from_mapping(_Options, with_current_names(value), "dataset")
        if not options.root:
            raise UserError("dataset.root is not set; give the data set's folder, dataset.root=FOLDER")
        check_numbers(options, "max_bad_share", least=0, below=1, place="dataset.")
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
        category = category_name(options.category)
        return cls(keypoints, splits, category, options.on_bad_image, options.max_bad_share, options.exif)


def category_name(value: Any) -> CategoryName:
    """The option ``category``: a name, a list of names, or None."""
    names = value if isinstance(value, list | tuple) else [value]
    if value is not None and (not names or not all(isinstance(name, str) and name for name in names)):
        raise UserError(f"dataset.category must be a name or a list of names, got {value!r:.80}; quote a number")
    return tuple(names) if isinstance(value, list | tuple) else value


def with_current_names(description: Mapping[str, Any]) -> dict[str, Any]:
    """``description`` of a data set with the options of earlier releases under their names of today."""
    renamed = {old: new for old, new in _EARLIER_NAMES.items() if new not in description}
    return {renamed.get(key, key): value for key, value in description.items()}
