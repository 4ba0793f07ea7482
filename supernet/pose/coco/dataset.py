"""Annotated people on disk in COCO's format: an annotation file, and pictures in a folder or archive."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from supernet.errors import UserError
from supernet.pose.coco.annotations import Annotation, Picture, read_annotations
from supernet.pose.coco.masks import box_pixels, segmentation_pixels
from supernet.pose.custom_keypoints import CustomKeypoints
from supernet.pose.data.image_decoding import BadPicture, decode_picture
from supernet.pose.data.image_source import PictureSource, picture_source
from supernet.pose.data.pose_dataset import Example
from supernet.pose.keypoints import KeypointSet


class CocoPeople:
    """A ``PoseDataset`` of pictures on disk; the annotations are read at once, a picture when it is asked for.

    Coordinates are taken as the file has them. COCO marks whole pixels, so a mark may lie half a pixel before the
    place meant; as predictions are compared with the same marks, they are learned as they are.

    Args:
        annotation_file: In COCO's format, for example ``annotations/person_keypoints_train2017.json``.
        pictures: Where the file names of the annotation file start, for example ``train2017`` or ``train2017.zip``;
            see ``picture_source``.
        keypoints: The set that the people are annotated with, completed by the file if it is a custom one.
        only_with_people: Leave out pictures without a person with keypoints.
        image_ids: Take these pictures only, in this order; default all, in the file's order.
        category: Name of the annotated category; None: "person", or the only one with keypoints.
        strict: Refuse also JPEGs that can be decoded but are damaged; see ``decode_picture``.

    Raises:
        UserError: A file or folder is missing, the annotations are broken, or no picture is left.
    """

    def __init__(
        self,
        annotation_file: str | Path,
        pictures: str | Path,
        keypoints: KeypointSet | CustomKeypoints,
        only_with_people: bool = True,
        image_ids: Sequence[int] | None = None,
        category: str | None = None,
        strict: bool = False,
    ) -> None:
        self._source = picture_source(pictures)
        self._strict = strict
        self._file = read_annotations(annotation_file, keypoints, category)
        chosen = list(self._file.pictures if image_ids is None else image_ids)
        unknown = [image_id for image_id in chosen if image_id not in self._file.pictures]
        if unknown:
            raise UserError(
                f"annotation file {annotation_file} has no picture with the ids {unknown[:5]}"
                f"{f' and {len(unknown) - 5} more' if len(unknown) > 5 else ''}; leave them out"
            )
        if len(set(chosen)) != len(chosen):
            raise UserError(f"image_ids for {annotation_file} name a picture twice; name each once")
        if only_with_people:
            chosen = [i for i in chosen if any(each.is_person for each in self._file.annotations[i])]
        if not chosen:
            people = " with annotated people" if only_with_people else ""
            raise UserError(f"annotation file {annotation_file} has no picture{people} to choose from; give another")
        self._image_ids = tuple(chosen)

    @property
    def keypoints(self) -> KeypointSet:
        """The K keypoints that people are annotated with."""
        return self._file.keypoints

    @property
    def image_ids(self) -> Sequence[int]:
        """The id of each picture, in index order."""
        return self._image_ids

    def __len__(self) -> int:
        return len(self._image_ids)

    def __getitem__(self, index: int) -> Example:
        """Read one picture.

        Raises:
            BadPicture: It is missing, damaged, not of the annotated size, or one of its segmentations is broken.
        """
        image_id = self._image_ids[index]
        picture, annotations = self._file.pictures[image_id], self._file.annotations[image_id]
        image = load_picture(self._source, picture, strict=self._strict)
        mask = counted_pixels(picture, annotations)
        people = [each.keypoints for each in annotations if each.is_person]
        return Example(image, np.array(people, np.float32).reshape(-1, self.keypoints.num, 3), mask, image_id)

    def ground_truth(self) -> dict[str, Any]:
        """Images, annotations and categories of exactly these pictures, in COCO's format."""
        return {
            "images": [self._file.pictures[image_id].to_coco() for image_id in self._image_ids],
            "annotations": [
                each.to_coco() for image_id in self._image_ids for each in self._file.annotations[image_id]
            ],
            "categories": [self._file.category],
        }


def load_picture(source: PictureSource, picture: Picture, strict: bool) -> npt.NDArray[np.uint8]:
    """The picture (H, W, 3), RGB, of an annotation file.

    Raises:
        BadPicture: It is missing, damaged, or not of the annotated size.
    """
    name = source.describe(picture.file_name)
    image = decode_picture(source.read(picture.file_name), name, strict=strict)
    height, width = image.shape[:2]
    if (width, height) != (picture.width, picture.height):
        raise BadPicture(
            f"picture {name} is {width} x {height}, but its annotation says {picture.width} x {picture.height}; "
            "give the pictures that were annotated",
            "wrong_size",
        )
    return image


def counted_pixels(picture: Picture, annotations: Sequence[Annotation]) -> npt.NDArray[np.bool_]:
    """The pixels (H, W) where the loss counts: outside of crowds and of people without annotated keypoints.

    Raises:
        BadPicture: A segmentation is broken.
    """
    mask = np.ones((picture.height, picture.width), np.bool_)
    for each in annotations:
        if not each.is_person:
            mask &= ~_region(each, picture)
    return mask


def _region(annotation: Annotation, picture: Picture) -> npt.NDArray[np.bool_]:
    """The pixels (H, W) of an annotation without usable keypoints; those of its box where it has no segmentation."""
    if annotation.region is None:
        return box_pixels(annotation.box, picture.width, picture.height)
    try:
        return segmentation_pixels(annotation.region, picture.width, picture.height)
    except ValueError as error:
        raise BadPicture(
            f"the segmentation of annotation {annotation.id} of picture {picture.file_name} cannot be used: {error}; "
            "correct the annotation file",
            "segmentation",
        ) from error
