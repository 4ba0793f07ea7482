"""Annotated people on disk in COCO's format: an annotation file, and images in a folder or archive."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from supernet.errors import UserError
from supernet.pose.coco.annotations import Annotation, ImageInfo, read_annotations
from supernet.pose.coco.masks import box_pixels, segmentation_pixels
from supernet.pose.custom_keypoints import CustomKeypoints
from supernet.pose.data.image_decoding import BadImage, decode_image
from supernet.pose.data.image_source import ImageSource, image_source
from supernet.pose.data.pose_dataset import PoseSample
from supernet.pose.keypoints import KeypointSet


class CocoPeople:
    """A ``PoseDataset`` of images on disk; the annotations are read at once, an image when it is asked for.

    Coordinates are taken as the file has them. COCO marks whole pixels, so a mark may lie half a pixel before the
    place meant; as predictions are compared with the same marks, they are learned as they are.

    Args:
        annotation_file: In COCO's format, for example ``annotations/person_keypoints_train2017.json``.
        images: Where the file names of the annotation file start, for example ``train2017`` or ``train2017.zip``;
            see ``image_source``.
        keypoints: The set that the people are annotated with, completed by the file if it is a custom one.
        only_with_people: Leave out images without a person with keypoints.
        image_ids: Take these images only, in this order; default all, in the file's order.
        category: Name of the annotated category; None: "person", or the only one with keypoints.
        strict: Refuse also JPEGs that can be decoded but are damaged; see ``decode_image``.

    Raises:
        UserError: A file or folder is missing, the annotations are broken, or no image is left.
    """

    def __init__(
        self,
        annotation_file: str | Path,
        images: str | Path,
        keypoints: KeypointSet | CustomKeypoints,
        only_with_people: bool = True,
        image_ids: Sequence[int] | None = None,
        category: str | None = None,
        strict: bool = False,
    ) -> None:
        self._source = image_source(images)
        self._strict = strict
        self._file = read_annotations(annotation_file, keypoints, category)
        chosen = list(self._file.images if image_ids is None else image_ids)
        unknown = [image_id for image_id in chosen if image_id not in self._file.images]
        if unknown:
            raise UserError(
                f"annotation file {annotation_file} has no image with the ids {unknown[:5]}"
                f"{f' and {len(unknown) - 5} more' if len(unknown) > 5 else ''}; leave them out"
            )
        if len(set(chosen)) != len(chosen):
            raise UserError(f"image_ids for {annotation_file} name an image twice; name each once")
        if only_with_people:
            chosen = [i for i in chosen if any(each.is_person for each in self._file.annotations[i])]
        if not chosen:
            people = " with annotated people" if only_with_people else ""
            raise UserError(f"annotation file {annotation_file} has no image{people} to choose from; give another")
        self._image_ids = tuple(chosen)

    @property
    def keypoints(self) -> KeypointSet:
        """The K keypoints that people are annotated with."""
        return self._file.keypoints

    @property
    def image_ids(self) -> Sequence[int]:
        """The id of each image, in index order."""
        return self._image_ids

    def __len__(self) -> int:
        return len(self._image_ids)

    def __getitem__(self, index: int) -> PoseSample:
        """Read one image.

        Raises:
            BadImage: It is missing, damaged, not of the annotated size, or one of its segmentations is broken.
        """
        image_id = self._image_ids[index]
        info, annotations = self._file.images[image_id], self._file.annotations[image_id]
        image = load_image(self._source, info, strict=self._strict)
        mask = counted_pixels(info, annotations)
        people = [each.keypoints for each in annotations if each.is_person]
        return PoseSample(image, np.array(people, np.float32).reshape(-1, self.keypoints.num, 3), mask, image_id)

    def ground_truth(self) -> dict[str, Any]:
        """Images, annotations and categories of exactly these images, in COCO's format."""
        return {
            "images": [self._file.images[image_id].to_coco() for image_id in self._image_ids],
            "annotations": [
                each.to_coco() for image_id in self._image_ids for each in self._file.annotations[image_id]
            ],
            "categories": [self._file.category],
        }


def load_image(source: ImageSource, info: ImageInfo, strict: bool) -> npt.NDArray[np.uint8]:
    """The image (H, W, 3), RGB, of an annotation file.

    Raises:
        BadImage: It is missing, damaged, or not of the annotated size.
    """
    name = source.describe(info.file_name)
    image = decode_image(source.read(info.file_name), name, strict=strict)
    height, width = image.shape[:2]
    if (width, height) != (info.width, info.height):
        raise BadImage(
            f"image {name} is {width} x {height}, but its annotation says {info.width} x {info.height}; "
            "give the images that were annotated",
            "wrong_size",
        )
    return image


def counted_pixels(info: ImageInfo, annotations: Sequence[Annotation]) -> npt.NDArray[np.bool_]:
    """The pixels (H, W) where the loss counts: outside of crowds and of people without annotated keypoints.

    Raises:
        BadImage: A segmentation is broken.
    """
    mask = np.ones((info.height, info.width), np.bool_)
    for each in annotations:
        if not each.is_person:
            mask &= ~_region(each, info)
    return mask


def _region(annotation: Annotation, info: ImageInfo) -> npt.NDArray[np.bool_]:
    """The pixels (H, W) of an annotation without usable keypoints; those of its box where it has no segmentation."""
    if annotation.region is None:
        return box_pixels(annotation.box, info.width, info.height)
    try:
        return segmentation_pixels(annotation.region, info.width, info.height)
    except ValueError as error:
        raise BadImage(
            f"the segmentation of annotation {annotation.id} of image {info.file_name} cannot be used: {error}; "
            "correct the annotation file",
            "segmentation",
        ) from error
