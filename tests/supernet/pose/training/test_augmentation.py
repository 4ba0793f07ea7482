"""Augmented samples: geometry, flips, masks, colours, batches and repeatability."""

import dataclasses

import numpy as np
import numpy.typing as npt
import pytest
import torch

from supernet.errors import UserError
from supernet.pose.data.pose_dataset import PoseSample
from supernet.pose.keypoints import COCO, CROWDPOSE, KeypointSet
from supernet.pose.training.augmentation import (
    SMALLEST_FOCUS,
    Augmentation,
    Sample,
    TrainingImages,
    augment,
    collate,
    window_matrix,
)
from supernet.pose.training.objective import PoseObjective
from supernet.space import SearchSpace

NONE = Augmentation.none()
PLAIN_COLOUR = Augmentation(brightness=0.0, contrast=0.0, colour=0.0)


def resolutions(space: str) -> tuple[int, ...]:
    """The resolutions of a space in ``conf/space``."""
    return SearchSpace.load(space).resolutions


def image(width: int, height: int, num_people: int = 3, seed: int = 0) -> PoseSample:
    """Noise with annotated people whose keypoints lie anywhere in the image."""
    rng = np.random.default_rng(seed)
    people = rng.random((num_people, COCO.num, 3)) * (width, height, 1)
    people[..., 2] = rng.integers(0, 3, people.shape[:2])
    return PoseSample(
        image=rng.integers(0, 256, (height, width, 3), dtype=np.uint8),
        people=people.astype(np.float32),
        mask=np.ones((height, width), dtype=np.bool_),
        image_id=seed + 1,
    )


def spot(width: int, height: int, x: float, y: float) -> PoseSample:
    """A black image with one soft white disc around (x, y), annotated as the first keypoint of one person."""
    columns, rows = np.arange(width) + 0.5, np.arange(height)[:, None] + 0.5
    disc = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * (min(width, height) / 40) ** 2))
    people = np.zeros((1, COCO.num, 3), np.float32)
    people[0, 0] = (x, y, 2)
    image = np.repeat(disc[..., None], 3, axis=2).astype(np.uint8)
    return PoseSample(image, people, np.ones((height, width), np.bool_), 1)


def centre_of_light(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Mean position (x, y) of the light in an image, pixel i covering i .. i + 1."""
    light = image[..., 0].astype(np.float64)
    places = np.arange(len(light)) + 0.5
    return np.asarray(np.array([light.sum(axis=0) @ places, light.sum(axis=1) @ places]) / light.sum(), np.float64)


@pytest.mark.parametrize("resolution", [128, 160, 256, 320, 512])
def test_keypoints_move_with_the_image_content(resolution: int) -> None:
    rng = np.random.default_rng(resolution)
    seen = 0
    for _ in range(12):
        x, y = rng.uniform(0.3, 0.7, 2) * (320, 240)
        sample = augment(spot(320, 240, x, y), resolution, rng, PLAIN_COLOUR, COCO)
        for person in sample.people:
            point = person[person[:, 2] > 0][0, :2]
            if (np.abs(point - resolution / 2) < 0.35 * resolution).all():
                # Half a pixel of the finer heatmap is one input pixel; the disc's own centre is far closer.
                assert np.abs(centre_of_light(sample.image) - point).max() < 0.2
                seen += 1
    assert seen >= 6


@pytest.mark.parametrize("resolution", [128, 192, 256, 384, 512])
def test_keypoints_return_through_the_inverse_map(resolution: int) -> None:
    rng = np.random.default_rng(1)
    source = image(400, 300)
    matrix = window_matrix(400, 300, resolution, 1.4, 25.0, (190.0, 160.0), flip=True)
    points = source.people[..., :2] @ matrix[:, :2].T + matrix[:, 2]
    back = (points - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    assert np.abs(back - source.people[..., :2]).max() < 1e-3
    # Rotation and zoom keep angles, and the window's centre maps to the input's centre.
    assert np.allclose(matrix[:, :2] @ (190.0, 160.0) + matrix[:, 2], resolution / 2)
    assert np.allclose(abs(np.linalg.det(matrix[:, :2])) ** 0.5, resolution / (1.4 * 300))
    sample = augment(source, resolution, rng, Augmentation(scale_min=2.0, scale_max=2.0), COCO)
    assert sample.people.dtype == np.float32
    assert (sample.people[..., :2] < resolution).all()


@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize("resolution", sorted({r for name in ("nano", "litepose") for r in resolutions(name)}))
def test_keypoints_come_back_from_the_heatmaps_within_half_a_pixel(resolution: int, flip: float) -> None:
    augmentation = dataclasses.replace(PLAIN_COLOUR, flip_probability=flip)
    rng = np.random.default_rng(resolution)
    returned = 0
    for seed in range(6):
        source = image(400, 300, num_people=1, seed=seed)
        sample = augment(source, resolution, rng, augmentation, COCO)
        if not len(sample.people):
            continue
        order = list(COCO.flip_index) if flip else list(range(COCO.num))
        (moved,), annotated = sample.people, source.people[0, order]
        inside = moved[:, 2] > 0
        assert inside.sum() > 3
        # The affine map from image to input, fitted to the points alone.
        ones = np.column_stack([annotated[inside, :2], np.ones(inside.sum())]).astype(float)
        linear_and_offset, *_ = np.linalg.lstsq(ones, moved[inside, :2].astype(float), rcond=None)
        linear, offset = linear_and_offset[:2], linear_and_offset[2]
        targets = PoseObjective(COCO.num).targets(collate([sample]))
        for maps, stride in ((targets.low[0].numpy(), 4), (targets.high[0].numpy(), 2)):
            for k in np.flatnonzero(inside):
                y, x = np.unravel_index(maps[k].argmax(), maps[k].shape)
                back = ((np.array([x, y]) + 0.5) * stride - offset) @ np.linalg.inv(linear)
                # Half a heatmap pixel along the heatmap's axes, which are rotated and scaled in the image.
                assert np.abs((back - annotated[k, :2]) @ linear).max() <= 0.5 * stride + 1e-3
                returned += 1
    assert returned > 50


def test_rotation_is_clockwise_on_screen_and_zoom_follows_the_window() -> None:
    matrix = window_matrix(200, 100, 64, scale=2.0, degrees=90.0, centre=(80.0, 40.0), flip=False)
    above = matrix[:, :2] @ (80.0, 30.0) + matrix[:, 2]
    # 10 px of a 200 px window are 3.2 px of a 64 px input.
    assert np.allclose(above, (32 + 3.2, 32))


def test_variations_fill_their_ranges_and_stay_inside() -> None:
    source = spot(200, 200, 100, 100)
    source.people[0, 1] = (100, 80, 2)
    varied = Augmentation(flip_probability=0.0, brightness=0.0, contrast=0.0, colour=0.0)
    rng = np.random.default_rng(0)
    shifts, angles, windows = [], [], []
    for _ in range(400):
        first, second = augment(source, 64, rng, varied, COCO).people[0, :2, :2].astype(np.float64)
        shifts.append(first / 64 - 0.5)
        step = second - first
        angles.append(np.degrees(np.arctan2(step[0], -step[1])))
        windows.append(20 * 64 / np.hypot(*step) / 200)
    # The shift of the centre appears rotated, so its length is bounded by that of the corner.
    lengths = np.hypot(*np.transpose(shifts))
    assert 0.25 < lengths.max() <= 0.2 * 2**0.5 + 1e-6
    assert -30.001 <= min(angles) < -28
    assert 28 < max(angles) <= 30.001
    assert 0.7499 <= min(windows) < 0.77
    assert 1.47 < max(windows) <= 1.5001


def test_without_variation_a_square_image_of_the_input_size_is_unchanged() -> None:
    source = image(96, 96)
    sample = augment(source, 96, np.random.default_rng(0), NONE, COCO)
    assert np.array_equal(sample.image, source.image)
    annotated = source.people[..., 2] > 0
    assert np.array_equal(sample.people[annotated], source.people[annotated])
    assert sample.mask.shape == (48, 48)
    assert sample.mask.all()


def test_flipping_twice_is_the_identity() -> None:
    always = dataclasses.replace(NONE, flip_probability=1.0)
    source = image(64, 64)
    source.people[source.people[..., 2] == 0] = 0
    rng = np.random.default_rng(0)
    once = augment(source, 64, rng, always, COCO)
    assert np.array_equal(once.image, source.image[:, ::-1])
    left, right = COCO.names.index("left_wrist"), COCO.names.index("right_wrist")
    assert np.array_equal(once.people[:, left, 2], source.people[:, right, 2])
    again = PoseSample(once.image, once.people, np.ones((64, 64), np.bool_), 1)
    twice = augment(again, 64, rng, always, COCO)
    assert np.array_equal(twice.image, source.image)
    assert np.allclose(twice.people, source.people, atol=1e-4)


def test_short_side_fills_the_input_and_the_ends_of_the_long_side_are_cut() -> None:
    source = image(200, 100, num_people=1)
    source.people[0, :3] = ((100, 50, 2), (149, 99, 2), (151, 50, 2))
    source.people[0, 3:] = 0
    sample = augment(source, 64, np.random.default_rng(0), NONE, COCO)
    assert np.allclose(sample.people[0, :3], ((32, 32, 2), (63.36, 63.36, 2), (0, 0, 0)))


def test_sliding_shows_every_place_of_the_long_side_and_nothing_outside() -> None:
    source = PoseSample(
        np.full((100, 240, 3), 200, np.uint8), np.zeros((0, 17, 3), np.float32), np.ones((100, 240), bool), 1
    )
    source.image[:, :4] = source.image[:, -4:] = 255
    rng = np.random.default_rng(0)
    samples = [augment(source, 64, rng, dataclasses.replace(NONE, slide=True), COCO) for _ in range(200)]
    assert all(sample.image.min() >= 199 for sample in samples)
    assert any(sample.image[:, 0].max() > 250 for sample in samples)
    assert any(sample.image[:, -1].max() > 250 for sample in samples)


def test_people_without_keypoints_inside_are_dropped() -> None:
    source = image(200, 100, num_people=3)
    source.people[..., :2] = (100, 50)
    source.people[..., 2] = 2
    source.people[1, :, 0] = 10
    sample = augment(source, 64, np.random.default_rng(0), NONE, COCO)
    assert sample.people.shape == (2, COCO.num, 3)


def test_mask_moves_with_the_image() -> None:
    source = image(128, 128)
    source.mask[:64, 64:] = False
    always = dataclasses.replace(NONE, flip_probability=1.0)
    expected = np.ones((32, 32), np.bool_)
    expected[:16, :16] = False
    assert np.array_equal(augment(source, 64, np.random.default_rng(0), always, COCO).mask, expected)


def test_outside_the_image_is_black_and_counts() -> None:
    source = PoseSample(
        np.full((64, 64, 3), 255, np.uint8), np.zeros((0, 17, 3), np.float32), np.zeros((64, 64), bool), 1
    )
    sample = augment(source, 64, np.random.default_rng(0), dataclasses.replace(NONE, scale_min=2, scale_max=2), COCO)
    inside = np.zeros((64, 64), bool)
    inside[16:48, 16:48] = True
    assert (sample.image[inside] == 255).all()
    assert (sample.image[~inside] < 128).all()
    assert (sample.image[:15] == 0).all()
    assert np.array_equal(sample.mask, ~inside[::2, ::2])


def test_changes_of_colour_follow_their_formula() -> None:
    source = image(32, 32)
    augmentation = dataclasses.replace(NONE, brightness=0.3, contrast=0.5, colour=0.2)
    sample = augment(source, 32, np.random.default_rng(5), augmentation, COCO)
    draws = 2 * np.random.default_rng(5).random(11) - 1
    gains = (1 + 0.5 * draws[7]) * (1 + 0.2 * draws[8:11])
    expected = np.clip((source.image - 127.5) * gains + 127.5 + 255 * 0.3 * draws[6], 0, 255)
    assert np.abs(sample.image - expected).max() <= 0.5


def test_same_key_gives_the_same_sample_and_another_seed_another() -> None:
    class Images:
        keypoints = COCO
        image_ids = (1, 2)

        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> PoseSample:
            return image(192, 160, seed=index)

        def ground_truth(self) -> dict[str, object]:
            return {}

    images = TrainingImages(Images(), Augmentation())
    assert len(images) == 2
    first, again, other = images[1, 128, 7], images[1, 128, 7], images[1, 128, 8]
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.people, again.people)
    assert not np.array_equal(first.image, other.image)
    assert first.image_id == 2
    loader = torch.utils.data.DataLoader(images, batch_sampler=[[(0, 64, 1), (1, 64, 2)]], collate_fn=collate)
    (batch,) = loader
    assert batch.images.shape == (2, 3, 64, 64)


def test_collate_keeps_all_people() -> None:
    def sample(counts: list[int], image_id: int) -> Sample:
        people = np.zeros((len(counts), CROWDPOSE.num, 3), np.float32)
        for person, count in zip(people, counts, strict=True):
            person[:count] = (count, image_id, 2)
        return Sample(np.full((32, 32, 3), image_id, np.uint8), people, np.ones((16, 16), np.bool_), image_id)

    batch = collate([sample([1, 5, 3, 5] * 20, 7), sample([], 8), sample([2], 9)])
    assert batch.images.shape == (3, 3, 32, 32)
    assert batch.images.dtype == torch.uint8
    assert batch.people.shape == (3, 80, CROWDPOSE.num, 3)
    assert batch.people[0, :, 0, 0].tolist() == [1, 5, 3, 5] * 20
    assert batch.people[1].abs().sum() == 0
    assert batch.people[2, :, 0, 0].tolist() == [2] + 79 * [0]
    assert batch.mask.dtype == torch.bool
    assert batch.image_ids.tolist() == [7, 8, 9]
    assert collate([sample([], 1)]).people.shape == (1, 1, CROWDPOSE.num, 3)


def test_impossible_amounts_are_refused() -> None:
    with pytest.raises(UserError, match="scale_min"):
        Augmentation(scale_min=2.0, scale_max=1.0)
    with pytest.raises(UserError, match="flip_probability"):
        Augmentation(flip_probability=1.5)
    with pytest.raises(UserError, match="rotation_degrees"):
        Augmentation(rotation_degrees=float("nan"))


def test_a_focused_window_shows_its_person_at_the_wanted_size() -> None:
    person = np.zeros((1, COCO.num, 3), np.float32)
    person[0, :2] = [[300, 100, 2], [340, 180, 2]]  # 80 px high
    source = PoseSample(np.zeros((240, 400, 3), np.uint8), person, np.ones((240, 400), np.bool_), 1)
    focused = Augmentation(
        rotation_degrees=0.0, scale_max=2.0, flip_probability=0.0, focus_probability=1.0, focus_min=2.0, focus_max=3.0
    )
    heights, tops = [], []
    for seed in range(50):
        sample = augment(source, 64, np.random.default_rng(seed), focused, COCO)
        if not (sample.people[0, :2, 2] > 0).all():
            continue  # part of the person may lie outside
        heights.append(float(np.ptp(sample.people[0, :2, 1])) / 64)
        tops.append(float(sample.people[0, 0, 1]) / 64)
    assert 1 / 3 - 1e-3 <= min(heights) < 0.36 < 0.47 < max(heights) <= 1 / 2 + 1e-3
    assert max(tops) - min(tops) > 0.4  # the person is not always in the middle


def test_a_focused_window_is_not_smaller_than_its_limit() -> None:
    person = np.zeros((1, COCO.num, 3), np.float32)
    person[0, :2] = [[200, 100, 2], [204, 108, 2]]
    source = PoseSample(np.zeros((200, 400, 3), np.uint8), person, np.ones((200, 400), np.bool_), 1)
    focused = Augmentation(rotation_degrees=0.0, flip_probability=0.0, focus_probability=1.0)
    sample = augment(source, 100, np.random.default_rng(0), focused, COCO)
    zoom = float(np.ptp(sample.people[0, :2, 1])) / 8
    assert zoom == pytest.approx(100 / (SMALLEST_FOCUS * 200))


def test_without_people_a_focused_window_is_an_ordinary_one() -> None:
    source = image(400, 200, num_people=0)
    ordinary, focused = (
        augment(source, 64, np.random.default_rng(1), choice, COCO)
        for choice in (Augmentation(), Augmentation(focus_probability=1.0))
    )
    assert np.array_equal(ordinary.image, focused.image)


def test_people_below_the_smallest_size_are_masked_and_not_trained() -> None:
    two = np.zeros((2, COCO.num, 3), np.float32)
    two[0, :2] = [[20, 20, 2], [24, 30, 2]]
    two[1, :2] = [[60, 30, 2], [70, 80, 2]]
    source = PoseSample(np.zeros((100, 100, 3), np.uint8), two, np.ones((100, 100), np.bool_), 1)
    sample = augment(source, 100, np.random.default_rng(0), dataclasses.replace(NONE, smallest_person=20.0), COCO)
    assert len(sample.people) == 1
    np.testing.assert_allclose(sample.people[0, :2, :2], two[1, :2, :2], atol=1e-3)
    assert not sample.mask[10:15, 10:12].any()
    assert sample.mask[15:40, 30:35].all()


def test_people_of_a_single_keypoint_have_no_size_and_stay() -> None:
    keypoint = KeypointSet("ball", ("ball",), (0.07,), (), ())
    people = np.array([[[30, 40, 2]]], np.float32)
    source = PoseSample(np.zeros((100, 100, 3), np.uint8), people, np.ones((100, 100), np.bool_), 1)
    sample = augment(source, 100, np.random.default_rng(0), dataclasses.replace(NONE, smallest_person=20.0), keypoint)
    np.testing.assert_allclose(sample.people, people, atol=1e-3)
    assert sample.mask.all()
