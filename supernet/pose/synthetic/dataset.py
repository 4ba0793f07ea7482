"""Built-in people: an endless, annotated pose data set that is drawn on the fly and needs no files.

Each image holds one to seven articulated figures, dressed, shaded, turned any way, in front of clutter; they cover
one another, stand behind things and leave the frame. Annotations follow COCO: what hides a keypoint is known exactly.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from supernet.errors import UserError
from supernet.pose.data.pose_dataset import PoseSample
from supernet.pose.keypoints import KeypointSet
from supernet.pose.synthetic.body_parts import LANDMARKS
from supernet.pose.synthetic.rendering import paint
from supernet.pose.synthetic.scene import Scene, sample_scene
from supernet.pose.synthetic.textures import MOST_PIXELS

_LEAST_PIXELS: Final = 64


class SyntheticPeople:
    """Images ``first_index`` to ``first_index + num_images - 1`` of the endless series that ``seed`` names.

    An image depends on the seed and its number in the series only, never on the order of access. Data sets that share
    a seed and no numbers share no images, and both keypoint sets see the same images and people.

    Args:
        keypoints: The K keypoints to annotate; they must be among the figures' landmarks.
        num_images: Number of images.
        seed: Name of the series.
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
        for name, value, least in (("num_images", num_images, 0), ("seed", seed, 0), ("first_index", first_index, 0)):
            if value < least:
                raise UserError(f"{name}={value} is negative; give {least} or more")
        for name, value in (("width", width), ("height", height)):
            if not _LEAST_PIXELS <= value <= MOST_PIXELS:
                raise UserError(f"{name}={value} is not possible; give {_LEAST_PIXELS} to {MOST_PIXELS} pixels")
        missing = [name for name in keypoints.names if name not in LANDMARKS]
        if missing:
            raise UserError(f"built-in people have no {', '.join(missing)}; choose a keypoint set without")
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
        at = np.stack([figure.landmarks for figure in scene.figures])[:, self._rows]
        people = np.concatenate([at, visibility[..., None]], axis=-1).astype(np.float32)
        people[visibility == 0] = 0
        return people

    def __getitem__(self, index: int) -> PoseSample:
        """The image at ``index``, from 0; everyone in it is annotated, so all of it counts."""
        scene = self._scene(index)
        mask = np.ones((self.height, self.width), dtype=np.bool_)
        return PoseSample(paint(scene), self._people(scene), mask, index + 1)

    def ground_truth(self) -> dict[str, Any]:
        """Images, annotations and categories in COCO's format, from the scenes alone: no image is painted.

        As in COCO, ``area`` and ``bbox`` are those of the pixels in which a person is seen, and hidden keypoints are
        labelled where another near by is in view. An image's ``crowdIndex`` is CrowdPose's: the mean over people of how
        many keypoints of others lie in the person's box for each of the person's own, at most 1.

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
    """People (P, K, 3) and their boxes (P, 4) as left, top, right, bottom -> 0 for nobody near another, to 1."""
    x, y, visibility = np.moveaxis(people, -1, 0)
    left, top, right, bottom = boxes.T[:, :, None, None]
    within = (x >= left) & (x < right) & (y >= top) & (y < bottom) & (visibility > 0)
    counts = within.sum(axis=-1)  # (P boxes, P owners)
    own = np.diagonal(counts)
    return float(np.minimum((counts.sum(axis=1) - own) / np.maximum(own, 1), 1.0).mean())
