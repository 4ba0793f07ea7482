"""Contact sheets: training samples with their targets, and predictions next to the ground truth."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from supernet.pose.data.pose_dataset import PoseDataset
from supernet.pose.data.subset import spread_indices
from supernet.pose.drawing import (
    captioned,
    contact_sheet,
    draw_people_at,
    heatmap_overlay,
    mask_overlay,
    scaled,
    tag_places,
)
from supernet.pose.inference import PosePredictions
from supernet.pose.keypoints import KeypointSet
from supernet.pose.training.augmentation import Batch
from supernet.pose.training.objective import Targets

MAX_SAMPLES = 8
MAX_IMAGES = 12
MIN_SCORE = 0.2
"""People with a lower score are not drawn."""
_SAMPLE_SIDE, _IMAGE_SIDE = 256, 400

Image = npt.NDArray[np.uint8]


def batch_sheet(batch: Batch, targets: Targets, keypoints: KeypointSet) -> Image:
    """Draw the first samples of a training batch, a row each, with the targets of the loss.

    From left to right: the input with its people, dark red where the loss is masked; the maximum of the K heatmaps over
    the input, at half and at a quarter of its size; and the pixels of the tag maps whose tags are trained, in a colour
    per person.
    """
    cells = []
    for index in range(min(MAX_SAMPLES, len(batch.images))):
        image = np.ascontiguousarray(batch.images[index].permute(1, 2, 0).cpu().numpy())
        people = batch.people[index].cpu().numpy()
        people = people[(people[..., 2] > 0).any(axis=1)]
        factor = _SAMPLE_SIDE / image.shape[0]
        enlarged = scaled(image, factor)
        mask = (targets.high_weights[index].amin(dim=0) > 0).cpu().numpy()
        low, high = targets.low[index].cpu().numpy(), targets.high[index].cpu().numpy()
        indices, valid = targets.tag_indices[index].cpu().numpy(), targets.tag_valid[index].cpu().numpy()
        drawn = mask_overlay(draw_people_at(image, people, keypoints, factor), mask)
        cells += [
            captioned(drawn, f"input, {image.shape[1]} px; people: {len(people)}"),
            captioned(heatmap_overlay(enlarged, high), f"heatmaps, {high.shape[-1]} px"),
            captioned(heatmap_overlay(enlarged, low), f"heatmaps, {low.shape[-1]} px"),
            captioned(tag_places(enlarged, indices, valid, low.shape[1:]), f"tags, {low.shape[-1]} px"),
        ]
    return contact_sheet(cells, columns=4)


def prediction_sheet(dataset: PoseDataset, predictions: Sequence[PosePredictions]) -> Image:
    """Draw images spread evenly over a data set, with the predicted people (left) and the true ones (right).

    Args:
        dataset: Where the images come from.
        predictions: People of each image from the start of the data set, to its end or before.
    """
    cells = []
    for index in spread_indices(len(predictions), MAX_IMAGES):
        sample, people = dataset[index], predictions[index]
        poses = people.poses[people.scores >= MIN_SCORE]
        factor = _IMAGE_SIDE / max(sample.image.shape[:2])
        for drawn, label in ((poses, f"predicted above {MIN_SCORE}"), (sample.people, "true")):
            image = draw_people_at(sample.image, drawn, dataset.keypoints, factor)
            cells.append(captioned(image, f"image {sample.image_id}: {len(drawn)} {label}"))
    return contact_sheet(cells, columns=4)
