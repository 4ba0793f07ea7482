"""Data sets on disk in COCO's format: an annotation file, and images in a folder or archive."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from supernet.errors import UserError
from supernet.pose.coco.annotations import read_annotations
from supernet.pose.coco.categories import CategoryName
from supernet.pose.coco.exif_choice import Exif, choose_exif
from supernet.pose.coco.image_table import ImageInfo
from supernet.pose.coco.masks import box_pixels, segmentation_pixels
from supernet.pose.coco.people_table import PeopleTable
from supernet.pose.custom_keypoints import CustomKeypoints
from supernet.pose.data.exif import orientation_of, turn
from supernet.pose.data.image_decoding import BadImage, decode_image
from supernet.pose.data.image_source import ImageSource, image_source
from supernet.pose.data.pose_dataset import ImageId, PoseSample
from supernet.pose.keypoints import KeypointSet


class CocoPeople:
    """A ``PoseDataset`` of images on disk; annotations are read at once, images on access.

    Coordinates are used as in the file. COCO marks whole pixels, so a mark may be half a pixel off; predictions are
    compared with the same marks, so they are learned without correction.

    Args:
        annotation_file: In COCO's format, for example ``annotations/person_keypoints_train2017.json``.
        images: Folder or archive that the file names are relative to, for example ``train2017`` or ``train2017.zip``;
            see ``image_source``.
        keypoints: The keypoint set of the annotations; a custom set is completed from the file's category.
        only_with_people: Leave out images without a person with keypoints.
        category: Name of the annotated category, or of several; None: "person", or the only one with keypoints.
        strict: Also reject JPEGs that can be decoded but are damaged; see ``decode_image``.
        exif: Whether the annotations refer to images as stored, or as their EXIF orientation shows them; "auto" decides
            by the sizes (``exif_choice``).
        with_masks: Whether samples have loss masks. Evaluation needs none, so that broken segmentations do not matter
            to it; masks are then True everywhere.

    Attributes:
        exif: As decided.

    Raises:
        UserError: A file or folder is missing, annotations are broken, or no image is left.
    """

    def __init__(
        self,
        annotation_file: str | Path,
        images: str | Path,
        keypoints: KeypointSet | CustomKeypoints,
        only_with_people: bool = True,
        category: CategoryName = None,
        strict: bool = False,
        exif: Exif = "stored",
        with_masks: bool = True,
    ) -> None:
        self._source = image_source(images)
        self._strict, self._with_masks = strict, with_masks
        self._file = read_annotations(annotation_file, keypoints, category, images)
        table = self._file.images
        chosen = list(range(len(table)))
        if only_with_people:
            has_person = np.zeros(len(table), np.bool_)
            has_person[self._file.people.image_rows[self._file.people.is_person]] = True
            chosen = [row for row in chosen if has_person[row]]
        if not chosen:
            people = " with annotated people" if only_with_people else ""
            raise UserError(f"annotation file {annotation_file} has no images{people}; use another file")
        self._rows = np.array(chosen)
        self.exif = exif
        if exif == "auto":
            choice = choose_exif(self._source, (table[row] for row in chosen))
            choice.check(annotation_file)
            self.exif = choice.exif

    @property
    def keypoints(self) -> KeypointSet:
        """The K keypoints that people are annotated with."""
        return self._file.keypoints

    @property
    def unlabelled(self) -> tuple[str, ...]:
        """The keypoints that no person of the annotation file is labelled with."""
        labelled = (self._file.people.keypoints[..., 2] > 0).any(axis=0)
        return tuple(self.keypoints.names[k] for k in np.flatnonzero(~labelled))

    @cached_property
    def image_ids(self) -> Sequence[ImageId]:
        """The id of each image as the file has it, in index order."""
        table = self._file.images
        if table.own_ids is None:
            return tuple(table.ids[self._rows].tolist())
        return tuple(table.own_id(row) for row in self._rows.tolist())

    @property
    def files(self) -> frozenset[str]:
        """Where each image lies."""
        names = self._file.images.names
        return frozenset(self._source.describe(names[row]) for row in self._rows.tolist())

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> PoseSample:
        """Read one image.

        Raises:
            BadImage: The image is missing, damaged, not of the annotated size, or its mask has a broken segmentation.
        """
        info = self._file.images[int(self._rows[index])]
        image = load_image(self._source, info, strict=self._strict, exif=self.exif)
        people, mask = self.annotations_of(index)
        return PoseSample(image, people, mask, info.id)

    def file_size(self, index: int) -> int | None:
        """Bytes of the file of the image at ``index``, which is not read; None if there is none."""
        return self._source.size(self._file.images.names[int(self._rows[index])])

    def annotations_of(self, index: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """People (P, K, 3) and mask (H, W) of the image at ``index``, which is not read.

        Raises:
            BadImage: A segmentation is broken.
        """
        row, table = int(self._rows[index]), self._file.people
        annotations = table.of_image(row)
        mask = loss_mask(self._file.images[row], table, annotations if self._with_masks else ())
        rows = np.arange(annotations.start, annotations.stop)
        return table.keypoints[rows[table.is_person[rows]]].astype(np.float32), mask

    def ground_truth(self) -> dict[str, Any]:
        """Images, annotations and categories of exactly these images, in COCO's format."""
        table, people, category = self._file.images, self._file.people, self._file.category
        return {
            "images": [table[row].to_coco() for row in self._rows.tolist()],
            "annotations": [
                people.to_coco(person, table.own_id(row), category["id"])
                for row in self._rows.tolist()
                for person in people.of_image(row)
            ],
            "categories": [category],
        }


def load_image(source: ImageSource, info: ImageInfo, strict: bool, exif: Exif = "stored") -> npt.NDArray[np.uint8]:
    """Read an image (H, W, 3), RGB, that an annotation file lists.

    Args:
        source: The image files.
        info: The image's entry in the annotation file.
        strict: See ``decode_image``.
        exif: The frame of its annotations; "auto" takes that of the annotated size, and the stored one if both fit.

    Raises:
        BadImage: The image is missing, damaged, or not of the annotated size.
    """
    name = source.describe(info.file_name)
    content = source.read(info.file_name)
    image = decode_image(content, name, strict=strict)
    if exif == "turned" or (exif == "auto" and not _has_size(image, info)):
        image = turn(image, orientation_of(content))
    if not _has_size(image, info):
        raise _wrong_size(name, content, image, info, "stored" if exif == "turned" else "turned")
    return image


def _has_size(image: npt.NDArray[np.uint8], info: ImageInfo) -> bool:
    return image.shape[:2] == (info.height, info.width)


def _wrong_size(name: str, content: bytes, image: npt.NDArray[np.uint8], info: ImageInfo, other: Exif) -> BadImage:
    """The error of an image that is not of the annotated size; the ``other`` frame may explain it."""
    height, width = image.shape[:2]
    remedy, orientation = "use the images that were annotated", orientation_of(content)
    if orientation > 4 and (width, height) == (info.height, info.width):
        frame = "as that orientation turns them" if other == "turned" else "as stored"
        remedy = (
            f"its EXIF orientation, {orientation}, swaps the sides; set dataset.exif={other} if the images were "
            f"annotated {frame}"
        )
    return BadImage(
        f"image {name} is {width} x {height}, but the annotation file gives {info.width} x {info.height}; {remedy}",
        "wrong_size",
    )


def loss_mask(info: ImageInfo, people: PeopleTable, rows: Iterable[int]) -> npt.NDArray[np.bool_]:
    """The loss mask (H, W): False inside crowds and people without annotated keypoints.

    Args:
        info: The image.
        people: The table of annotations.
        rows: Those of the image.

    Raises:
        BadImage: A segmentation is broken.
    """
    mask = np.ones((info.height, info.width), np.bool_)
    for row in rows:
        if not people.is_person[row]:
            mask &= ~_region(people, row, info)
    return mask


def _region(people: PeopleTable, row: int, info: ImageInfo) -> npt.NDArray[np.bool_]:
    """The pixels (H, W) of an annotation's segmentation, or of its box if it has none."""
    region = people.region(row)
    if region is None:
        return box_pixels(people.box(row), info.width, info.height)
    try:
        return segmentation_pixels(region, info.width, info.height)
    except ValueError as error:
        raise BadImage(
            f"the segmentation of annotation {people.ids[row]} of image {info.file_name} cannot be used: {error}; "
            "correct the annotation file",
            "segmentation",
        ) from error
