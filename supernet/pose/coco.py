"""Annotated people on disk, in COCO's or CrowdPose's layout: one annotation file and a folder of pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from supernet.errors import UserError
from supernet.pose.coco_annotations import Annotation, Picture, read_annotations
from supernet.pose.dataset import Example
from supernet.pose.keypoints import KeypointSet
from supernet.pose.pictures import read_picture
from supernet.pose.regions import box_pixels, segmentation_pixels


class CocoPeople:
    """A ``PoseDataset`` of pictures on disk; the annotations are read at once, a picture when it is asked for.

    Coordinates are taken as the file has them. COCO marks whole pixels, so a mark may lie half a pixel before the
    place meant; as predictions are compared with the same marks, they are learned as they are.

    Args:
        annotation_file: In COCO's format, for example ``annotations/person_keypoints_train2017.json``.
        image_folder: Where the file names of the annotation file start, for example ``train2017``.
        keypoints: The set that the people are annotated with.
        only_with_people: Leave out pictures without a person with keypoints.
        image_ids: Take these pictures only, in this order; default all, in the file's order.

    Raises:
        UserError: A file or folder is missing, the annotations are broken, or no picture is left.
    """

    def __init__(
        self,
        annotation_file: str | Path,
        image_folder: str | Path,
        keypoints: KeypointSet,
        only_with_people: bool = True,
        image_ids: Sequence[int] | None = None,
    ) -> None:
        self._folder = Path(image_folder)
        if not self._folder.is_dir():
            raise UserError(f"there is no picture folder {self._folder}; name the folder that holds the pictures")
        self._keypoints = keypoints
        self._file = read_annotations(annotation_file, keypoints)
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
        return self._keypoints

    @property
    def image_ids(self) -> Sequence[int]:
        """The id of each picture, in index order."""
        return self._image_ids

    def __len__(self) -> int:
        return len(self._image_ids)

    def __getitem__(self, index: int) -> Example:
        """Read one picture.

        Raises:
            UserError: It is missing, damaged, or not of the annotated size.
        """
        image_id = self._image_ids[index]
        picture, annotations = self._file.pictures[image_id], self._file.annotations[image_id]
        path = self._folder / picture.file_name
        image = read_picture(path)
        height, width = image.shape[:2]
        if (width, height) != (picture.width, picture.height):
            raise UserError(
                f"picture {path} is {width} x {height}, but its annotation says {picture.width} x {picture.height}; "
                "give the pictures that were annotated"
            )
        people = [each.keypoints for each in annotations if each.is_person]
        mask = np.ones((height, width), np.bool_)
        for each in annotations:
            if not each.is_person:
                mask &= ~_region(each, picture)
        return Example(image, np.array(people, np.float32).reshape(-1, self._keypoints.num, 3), mask, image_id)

    def ground_truth(self) -> dict[str, Any]:
        """Images, annotations and categories of exactly these pictures, in COCO's format."""
        return {
            "images": [self._file.pictures[image_id].to_coco() for image_id in self._image_ids],
            "annotations": [
                each.to_coco() for image_id in self._image_ids for each in self._file.annotations[image_id]
            ],
            "categories": [self._file.category],
        }


def _region(annotation: Annotation, picture: Picture) -> npt.NDArray[np.bool_]:
    """The pixels (H, W) of an annotation without usable keypoints; those of its box where it has no segmentation."""
    if annotation.region is None:
        return box_pixels(annotation.box, picture.width, picture.height)
    try:
        return segmentation_pixels(annotation.region, picture.width, picture.height)
    except ValueError as error:
        raise UserError(
            f"the segmentation of annotation {annotation.id} of picture {picture.file_name} cannot be used: {error}; "
            "correct the annotation file"
        ) from error
