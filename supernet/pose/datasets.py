"""Data sets by configuration: one mapping describes all splits of a data set."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from supernet.errors import UserError
from supernet.pose.coco import CocoPeople
from supernet.pose.dataset import PoseDataset
from supernet.pose.keypoints import keypoint_set
from supernet.pose.synthetic import SyntheticPeople

SPLITS = ("train", "val", "test")
"""Training; search and model choice; final figures."""


def build(dataset: Mapping[str, Any], split: str) -> PoseDataset:
    """Build one split of a data set.

    Args:
        dataset: ``kind`` ("synthetic" or "coco"), ``keypoints`` ("coco" or "crowdpose") and, per kind, what
            ``conf/dataset/*.yaml`` documents.
        split: "train", "val" or "test".

    Raises:
        UserError: A missing, unknown or wrong entry, or files that cannot be read.
    """
    builders = {"synthetic": _synthetic, "coco": _coco}
    kind = dataset.get("kind")
    if kind not in builders:
        raise UserError(f"dataset.kind is {kind!r}; choose one of {sorted(builders)}")
    if split not in SPLITS or not isinstance(dataset.get(split), Mapping):
        raise UserError(f"dataset has no split {split!r}; it needs the mappings {', '.join(SPLITS)}")
    return builders[kind](dataset, split)


def _synthetic(dataset: Mapping[str, Any], split: str) -> PoseDataset:
    _check_keys(dataset, split, {"width", "height"}, {"num_images", "seed"})
    part = dataset[split]
    for place, value, least in [
        ("width", dataset["width"], 1),
        ("height", dataset["height"], 1),
        (f"{split}.num_images", part["num_images"], 1),
        (f"{split}.seed", part["seed"], 0),
    ]:
        if type(value) is not int or value < least:
            raise UserError(f"dataset.{place} is {value!r}; it must be a whole number of at least {least}")
    keypoints = keypoint_set(dataset["keypoints"])
    return SyntheticPeople(keypoints, part["num_images"], part["seed"], dataset["width"], dataset["height"])


def _coco(dataset: Mapping[str, Any], split: str) -> PoseDataset:
    _check_keys(dataset, split, {"root"}, {"annotations", "images", "only_with_people"})
    if not dataset["root"]:
        raise UserError("dataset.root is not set; give the folder that holds the data set, dataset.root=FOLDER")
    part = dataset[split]
    for place, value, kind, wanted in [
        ("root", dataset["root"], str, "the name of a folder"),
        (f"{split}.annotations", part["annotations"], str, "the name of a file"),
        (f"{split}.images", part["images"], str, "the name of a folder"),
        (f"{split}.only_with_people", part["only_with_people"], bool, "true or false"),
    ]:
        if not isinstance(value, kind):
            raise UserError(f"dataset.{place} is {value!r}; it must be {wanted}")
    root = Path(dataset["root"])
    return CocoPeople(
        root / part["annotations"],
        root / part["images"],
        keypoint_set(dataset["keypoints"]),
        only_with_people=part["only_with_people"],
    )


def _check_keys(dataset: Mapping[str, Any], split: str, own: set[str], per_split: set[str]) -> None:
    for place, value, wanted in [
        ("dataset", set(dataset), {"kind", "keypoints", *SPLITS} | own),
        (f"dataset.{split}", set(dataset[split]), per_split),
    ]:
        if wrong := sorted(map(str, value ^ wanted)):
            raise UserError(f"{place} has missing or unknown keys {wrong}; it needs exactly {sorted(wanted)}")
