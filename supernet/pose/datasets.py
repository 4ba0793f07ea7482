"""Builds data sets from configuration: one mapping describes all splits of a data set."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from supernet.errors import UserError
from supernet.io.schema import check_number
from supernet.pose.coco.dataset import CocoPeople
from supernet.pose.coco.splits import SPLITS, DatasetOnDisk, with_current_names
from supernet.pose.custom_keypoints import from_plain
from supernet.pose.data.image_source import image_source
from supernet.pose.data.pose_dataset import PoseDataset, original_of
from supernet.pose.data.skip_broken import SkipBrokenImages
from supernet.pose.keypoints import KeypointSet
from supernet.pose.synthetic.dataset import SyntheticPeople

logger = logging.getLogger(__name__)


def build(dataset: Mapping[str, Any], split: str, network: KeypointSet | None = None) -> PoseDataset:
    """Build one split of a data set.

    Args:
        dataset: ``kind`` ("synthetic" or "coco"), ``keypoints`` ("coco", "crowdpose", or a custom set) and, per
            kind, what ``conf/dataset/*.yaml`` documents.
        split: "train", "val" or "test".
        network: Keypoints of the network that the data set is for; they fill in what it leaves open about its own.

    Raises:
        UserError: A missing, unknown or wrong entry, or files that cannot be read.
    """
    builders = {"synthetic": _synthetic, "coco": _on_disk}
    kind = dataset.get("kind")
    if kind not in builders:
        raise UserError(f"dataset.kind must be one of {sorted(builders)}, got {kind!r}")
    if split not in SPLITS or not isinstance(dataset.get(split), Mapping):
        raise UserError(f"dataset has no split {split!r}; it needs the mappings {', '.join(SPLITS)}")
    return builders[kind](dataset, split, network)


def _synthetic(dataset: Mapping[str, Any], split: str, network: KeypointSet | None) -> PoseDataset:
    for place, value, wanted in [
        ("dataset", set(dataset), {"kind", "keypoints", "width", "height", *SPLITS}),
        (f"dataset.{split}", set(dataset[split]), {"num_images", "seed"}),
    ]:
        if wrong := sorted(map(str, value ^ wanted)):
            raise UserError(
                f"{place} has missing or unknown keys {wrong}; built-in people need exactly {sorted(wanted)}, choose "
                "dataset=custom for images of your own"
            )
    part = dataset[split]
    for place, value, least in [
        ("width", dataset["width"], 1),
        ("height", dataset["height"], 1),
        (f"{split}.num_images", part["num_images"], 1),
        (f"{split}.seed", part["seed"], 0),
    ]:
        check_number(f"dataset.{place}", value, least=least, whole=True)
    keypoints = from_plain(dataset["keypoints"])
    if network is not None:
        keypoints = keypoints.for_network(network)
    return SyntheticPeople(keypoints, part["num_images"], part["seed"], dataset["width"], dataset["height"])


def _on_disk(dataset: Mapping[str, Any], split: str, network: KeypointSet | None) -> PoseDataset:
    described = DatasetOnDisk.from_plain(dataset)
    part = described.splits[split]
    if ".zip" not in part.images:  # the archive of a large set takes time to open, and is opened below
        try:
            image_source(part.images)
        except UserError as error:
            raise UserError(f"{error} (dataset.root, dataset.{split}.images)") from error
    if not Path(part.annotations).exists():
        raise UserError(
            f"there is no annotation file {part.annotations}; check dataset.root and dataset.{split}.annotations"
        )
    people = CocoPeople(
        part.annotations,
        part.images,
        described.keypoints if network is None else described.keypoints.for_network(network),
        only_with_people=part.only_with_people,
        category=described.category,
        # Published figures are measured on all images that decoders accept, so only training is strict.
        strict=split == "train",
        exif=described.exif,
        with_masks=split == "train",
    )
    keypoints = people.keypoints
    if split == "train" and not keypoints.mirrors:
        logger.warning(
            "the mirror images of %s are unknown, so images are not mirrored; set dataset.keypoints.flip_pairs "
            "(to [] if each keypoint is its own mirror image)",
            keypoints.unpaired_text,
        )
    if split == "train" and described.on_bad_image == "skip":
        return SkipBrokenImages(people, described.max_bad_share)
    return people


def relocated(dataset: Mapping[str, Any], root: str | None, option: str = "dataset.root") -> dict[str, Any]:
    """Return the description of a data set whose files now lie in the folder ``root``.

    Args:
        dataset: The description.
        root: The folder; None, as a command line may say, is no folder.
        option: What the command line calls ``root``, for error messages.

    Raises:
        UserError: The data set is not on disk, or there is no such folder.
    """
    if "root" not in dataset:
        raise UserError(f"a data set of kind {dataset.get('kind')!r} has no folder; leave out {option}")
    if not root or not Path(root).is_dir():
        raise UserError(f"there is no folder {root}; give {option} the folder that holds the data set")
    return {**dataset, "root": root}


def without_root(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description of a data set without its folder, which differs between machines."""
    return {**dataset, "root": None} if "root" in dataset else dict(dataset)


def resolved(dataset: Mapping[str, Any], keypoints: KeypointSet, images: PoseDataset | None = None) -> dict[str, Any]:
    """Return the description of a data set with what its files decide written out.

    Args:
        dataset: The description.
        keypoints: Its keypoints, which may come from the annotation file.
        images: One of its splits, which may have decided the frame of its annotations (``exif``).
    """
    described = {**with_current_names(dataset), "keypoints": keypoints.to_plain()}
    original = None if images is None else original_of(images)
    if isinstance(original, CocoPeople) and "exif" in described:
        described["exif"] = original.exif
    return described
