"""The picture of a model card: people that the model finds.

Test images of a data set on disk belong to others, so only drawn people are shown without being asked; of photographs,
the owner of the model names one.
"""

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from subnet_export.exported_model import ExportedModel
from subnet_export.publish.model_card import PICTURE_FILE
from supernet.pose.data.pose_dataset import PoseDataset
from supernet.pose.drawing import contact_sheet, draw_people, draw_people_at, scaled

NUM_IMAGES = 3
HEIGHT = 320
"""Pixels of each image of a sheet."""
MOST_SIDE = 1024
"""Longer side of the picture of a photograph, in pixels."""
MIN_SCORE = 0.2
"""People with a lower score are not drawn, as in predictions."""

Image = npt.NDArray[np.uint8]


def drawn_examples(model: ExportedModel, images: PoseDataset) -> Image | None:
    """Return the people found in the first images of a data set of drawn people; None for any other data set."""
    if model.dataset.get("kind") != "synthetic":
        return None
    samples = [images[i] for i in range(min(NUM_IMAGES, len(images)))]
    predictions = model.predict_all([sample.image for sample in samples], MIN_SCORE)
    drawings = [
        draw_people_at(sample.image, people.poses, model.keypoints, HEIGHT / sample.image.shape[0], _least_value(model))
        for sample, people in zip(samples, predictions, strict=True)
    ]
    return contact_sheet(drawings, NUM_IMAGES)


def photograph(model: ExportedModel, image: Image) -> Image:
    """Return the people found in an image (H, W, 3), drawn and reduced to at most ``MOST_SIDE`` pixels."""
    factor = min(1.0, MOST_SIDE / max(image.shape[:2]))
    people = model.predict(image, MIN_SCORE)
    poses = people.poses * np.array([factor, factor, 1.0])
    return draw_people(scaled(image, factor), poses, model.keypoints, _least_value(model))


def encoded(image: Image) -> bytes:
    """Return an image (H, W, 3) as a JPEG file."""
    _, content = cv2.imencode(Path(PICTURE_FILE).suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return content.tobytes()


def _least_value(model: ExportedModel) -> float:
    return model.settings.detection_threshold
