"""The sheets show the samples, targets and people they are given, and no more."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from supernet.pose import plots
from supernet.pose.drawing import captioned, draw_people_at, heatmap_overlay, mask_overlay, scaled, tag_places
from supernet.pose.inference import PosePredictions
from supernet.pose.keypoints import COCO
from supernet.pose.synthetic.dataset import SyntheticPeople
from supernet.pose.training.augmentation import Augmentation, Batch, TrainingImages, collate
from supernet.pose.training.objective import PoseObjective, Targets

Image = npt.NDArray[np.uint8]
SIDE, GAP, STRIP = 256, 4, captioned(np.zeros((1, 1, 3), np.uint8), "").shape[0] - 1


def batch_of(num_samples: int) -> tuple[Batch, Targets]:
    """Samples of 96 px of the built-in people, the first with a hole in its mask, and their targets."""
    images = TrainingImages(SyntheticPeople(COCO, num_samples, 1, 96, 96), Augmentation.none())
    batch = collate([images[index, 96, 0] for index in range(num_samples)])
    batch.mask[0, 10:20, 30:40] = False
    return batch, PoseObjective(COCO.num).targets(batch)


def cell(sheet: Image, row: int, column: int, height: int = SIDE, width: int = SIDE) -> Image:
    """One image of a sheet, without its caption."""
    top, left = row * (height + STRIP + GAP) + STRIP, column * (width + GAP)
    return sheet[top : top + height, left : left + width]


def test_a_row_shows_a_sample_its_heatmaps_and_its_tags() -> None:
    batch, targets = batch_of(3)
    sheet = plots.batch_sheet(batch, targets, COCO)
    assert sheet.shape == (3 * (SIDE + STRIP + GAP) - GAP, 4 * (SIDE + GAP) - GAP, 3)
    for row in range(3):
        image = np.ascontiguousarray(batch.images[row].permute(1, 2, 0).numpy())
        enlarged = scaled(image, SIDE / 96)
        people = draw_people_at(image, batch.people[row].numpy(), COCO, SIDE / 96)
        assert np.array_equal(cell(sheet, row, 0), mask_overlay(people, batch.mask[row].numpy()))
        assert np.array_equal(cell(sheet, row, 1), heatmap_overlay(enlarged, targets.high[row].numpy()))
        assert np.array_equal(cell(sheet, row, 2), heatmap_overlay(enlarged, targets.low[row].numpy()))
        tags = tag_places(enlarged, targets.tag_indices[row].numpy(), targets.tag_valid[row].numpy(), (24, 24))
        assert np.array_equal(cell(sheet, row, 3), tags)


def test_tags_are_drawn_under_their_keypoints() -> None:
    """Exactly the map pixels are coloured that hold a keypoint."""
    batch, targets = batch_of(1)
    tags = cell(plots.batch_sheet(batch, targets, COCO), 0, 3)
    grey = np.ascontiguousarray(batch.images[0].permute(1, 2, 0).numpy())
    empty = tag_places(scaled(grey, SIDE / 96), np.zeros((0, 17), np.int64), np.zeros((0, 17), bool), (24, 24))
    coloured = (tags != empty).any(axis=2)
    people = batch.people[0].numpy()
    points = people[people[..., 2] > 0][:, :2]
    assert len(points) > 5
    rows, columns = np.nonzero(coloured)
    # OpenCV's nearest neighbour takes output pixel i from map pixel floor(i * 24 / 256).
    drawn = {
        (row * 24 // SIDE, column * 24 // SIDE) for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
    }
    assert drawn == {(int(y // 4), int(x // 4)) for x, y in points}


def test_a_large_batch_is_cut_to_its_first_samples() -> None:
    batch, targets = batch_of(plots.MAX_SAMPLES + 3)
    sheet = plots.batch_sheet(batch, targets, COCO)
    assert sheet.shape[0] == plots.MAX_SAMPLES * (SIDE + STRIP + GAP) - GAP


def true_predictions(dataset: SyntheticPeople, indices: Sequence[int]) -> list[PosePredictions]:
    """The true people, the first of each image with a high score and the others with a low one."""
    return [
        PosePredictions(people, np.where(np.arange(len(people)) == 0, 0.9, 0.1).astype(np.float32))
        for people in (dataset[index].people for index in indices)
    ]


def test_predictions_stand_next_to_the_truth_and_people_of_low_score_are_left_out() -> None:
    dataset = SyntheticPeople(COCO, 3, 3, 120, 100)
    sheet = plots.prediction_sheet(dataset, true_predictions(dataset, range(3)))
    height, width = round(100 * 400 / 120), 400
    assert sheet.shape == (2 * (height + STRIP + GAP) - GAP, 4 * (width + GAP) - GAP, 3)
    for index in range(3):
        sample = dataset[index]
        for column, people in ((0, sample.people[:1]), (1, sample.people)):
            expected = draw_people_at(sample.image, people, COCO, width / 120)
            assert np.array_equal(cell(sheet, index // 2, index % 2 * 2 + column, height, width), expected)


def test_of_many_images_evenly_spread_ones_are_shown() -> None:
    dataset = SyntheticPeople(COCO, 40, 3, 64, 64)
    sheet = plots.prediction_sheet(dataset, true_predictions(dataset, range(40)))
    shown = [index * 39 / (plots.MAX_IMAGES - 1) for index in range(plots.MAX_IMAGES)]
    assert sheet.shape[0] == plots.MAX_IMAGES // 2 * (400 + STRIP + GAP) - GAP
    for place in (0, 5, plots.MAX_IMAGES - 1):
        sample = dataset[round(shown[place])]
        expected = draw_people_at(sample.image, sample.people, COCO, 400 / 64)
        assert np.array_equal(cell(sheet, place // 2, place % 2 * 2 + 1, 400, 400), expected)
