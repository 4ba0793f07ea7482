"""Built-in people: an endless, annotated pose data set, drawn on the fly without any files.

Each image shows one to seven articulated figures, dressed, shaded and turned any way, in front of clutter. They occlude
each other, stand behind objects and leave the frame. Annotations follow COCO: occlusion is known exactly.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from supernet.errors import UserError
from supernet.io.schema import check_number
from supernet.pose.data.pose_dataset import PoseSample
from supernet.pose.keypoints import KeypointSet
from supernet.pose.synthetic.body_parts import LANDMARKS
from supernet.pose.synthetic.rendering import paint
from supernet.pose.synthetic.scene import Scene, sample_scene
from supernet.pose.synthetic.textures import MAX_SIDE

_MIN_SIDE: Final = 64


class SyntheticPeople:
    """Images ``first_index`` to ``first_index + num_images - 1`` of the endless series of ``seed``.

    An image depends only on the seed and its number in the series, never on the order of access. Data sets with the
    same seed and disjoint numbers share no images. Both keypoint sets show the same images and people.

    Args:
        keypoints: The K keypoints to annotate, all of them landmarks of the figures.
        num_images: Number of images.
        seed: Seed of the series.
        width: Width of each image in pixels.
        height: Height of each image in pixels.
        first_index: Number of the first image in the series.

    Raises:
        UserError: A number is out of range, or the figures lack a keypoint.
    """

    def __init__(
        self,
        keypoints: KeypointSet,
        num_images: int,
        seed: int,
        width: int = 192,
        height: int = 192,
        first_index: int = 0,
    ) -> None:
        for name, value in (("num_images", num_images), ("seed", seed), ("first_index", first_index)):
            check_number(name, value, least=0)
        for name, value in (("width", width), ("height", height)):
            check_number(name, value, least=_MIN_SIDE, most=MAX_SIDE)
        missing = [name for name in keypoints.names if name not in LANDMARKS]
        if missing:
            raise UserError(f"built-in people have no {', '.join(missing)}; choose another keypoint set")
        self.keypoints = keypoints
        self.seed = seed
        self.width, self.height = width, height
        self.first_index = first_index
        self.num_images = num_images
        self._rows: Final = [LANDMARKS.index(name) for name in keypoints.names]

    @property
    def image_ids(self) -> Sequence[int]:
        """The id of each image in index order: 1, 2, ..., num_images."""
        return range(1, self.num_images + 1)

    def __len__(self) -> int:
        """Number of images."""
        return self.num_images

    def _scene(self, index: int) -> Scene:
        if not 0 <= index < self.num_images:
            raise IndexError(f"image {index} of {self.num_images}")
        rng = np.random.default_rng([self.seed, self.first_index + index])
        return sample_scene(rng, self.width, self.height)

    def _people(self, scene: Scene) -> npt.NDArray[np.float32]:
        """(P, K, 3) x, y, visibility, with x = y = 0 where not labelled."""
        visibility = scene.visibility[:, self._rows]
        positions = np.stack([figure.landmarks for figure in scene.figures])[:, self._rows]
        people = np.concatenate([positions, visibility[..., None]], axis=-1).astype(np.float32)
        people[visibility == 0] = 0
        return people

    def __getitem__(self, index: int) -> PoseSample:
        """The image at ``index``, from 0; everyone is annotated, so the loss mask includes every pixel."""
        scene = self._scene(index)
        mask = np.ones((self.height, self.width), dtype=np.bool_)
        return PoseSample(paint(scene), self._people(scene), mask, index + 1)

    def ground_truth(self) -> dict[str, Any]:
        """Images, annotations and categories in COCO's format, from the scenes alone, without drawing images.

        As in COCO, ``area`` and ``bbox`` cover the visible pixels of a person, and hidden keypoints are labelled if a
        neighbouring one is visible. An image's ``crowdIndex`` is that of CrowdPose: the mean over people of the ratio,
        at most 1, of other people's keypoints in the person's box to the person's own.

        Source: arXiv 1812.00324, section 3.1.
        """
        images, annotations = [], list[dict[str, Any]]()
        for index, image_id in enumerate(self.image_ids):
            scene = self._scene(index)
            people = self._people(scene)
            boxes = []
            for person, keypoints in enumerate(people):
                x, y, width, height, area = scene.silhouette(person)
                boxes.append((x, y, x + width, y + height))
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": image_id,
                        "category_id": 1,
                        "iscrowd": 0,
                        "keypoints": _as_list(keypoints),
                        "num_keypoints": int((keypoints[:, 2] > 0).sum()),
                        "bbox": [x, y, width, height],
                        "area": area,
                    }
                )
            images.append(
                {
                    "id": image_id,
                    "file_name": f"{self.seed}_{self.first_index + index}.png",
                    "width": self.width,
                    "height": self.height,
                    "crowdIndex": _crowd_index(people, np.array(boxes)),
                }
            )
        category = {
            "id": 1,
            "name": "person",
            "supercategory": "person",
            "keypoints": list(self.keypoints.names),
            "skeleton": [[start + 1, end + 1] for start, end in self.keypoints.skeleton],
        }
        return {"images": images, "annotations": annotations, "categories": [category]}


def _as_list(keypoints: npt.NDArray[np.float32]) -> list[float | int]:
    """Keypoints (K, 3) as COCO writes them: x1, y1, v1, x2, ... with whole numbers v."""
    flat: list[float | int] = []
    for x, y, visibility in keypoints.tolist():
        flat += (x, y, int(visibility))
    return flat


def _crowd_index(people: npt.NDArray[np.float32], boxes: npt.NDArray[np.int64]) -> float:
    """Crowd index, 0 to 1, of people (P, K, 3) with boxes (P, 4) as left, top, right, bottom."""
    x, y, visibility = np.moveaxis(people, -1, 0)
    left, top, right, bottom = boxes.T[:, :, None, None]
    within = (x >= left) & (x < right) & (y >= top) & (y < bottom) & (visibility > 0)
    counts = within.sum(axis=-1)  # (P boxes, P owners)
    own = np.diagonal(counts)
    return float(np.minimum((counts.sum(axis=1) - own) / np.maximum(own, 1), 1.0).mean())
