"""Drawings show people, masks, heatmaps and tags at the right places."""

from pathlib import Path

import numpy as np
import pytest

from supernet.errors import UserError
from supernet.pose.data.image_decoding import read_image
from supernet.pose.drawing import (
    captioned,
    contact_sheet,
    draw_people,
    draw_people_at,
    heatmap_overlay,
    mask_overlay,
    save_image,
    tag_places,
)
from supernet.pose.keypoints import COCO

GREY = np.full((160, 160, 3), 128, np.uint8)
LEFT_SHOULDER, LEFT_ELBOW, RIGHT_SHOULDER, RIGHT_ELBOW = (
    COCO.names.index(name) for name in ("left_shoulder", "left_elbow", "right_shoulder", "right_elbow")
)


def test_limbs_connect_keypoints_and_left_is_lighter_than_right() -> None:
    pose = np.zeros((1, COCO.num, 3))
    pose[0, LEFT_SHOULDER], pose[0, LEFT_ELBOW] = (40.5, 20.5, 1), (40.5, 80.5, 1)
    pose[0, RIGHT_SHOULDER], pose[0, RIGHT_ELBOW] = (100.5, 20.5, 1), (100.5, 80.5, 1)
    drawn = draw_people(GREY, pose, COCO)
    assert (GREY == 128).all()
    changed = (drawn != 128).any(axis=2)
    assert changed[20:80, 40].all()
    assert changed[20:80, 100].all()
    # The shoulders are connected too; below them the area between the arms stays empty.
    assert changed[20, 40:100].all()
    assert not changed[30:, 45:95].any()
    assert not changed[:, :35].any()
    assert drawn[50, 40].astype(int).sum() > drawn[50, 100].astype(int).sum()


def test_people_differ_in_colour() -> None:
    poses = np.zeros((3, COCO.num, 3))
    for number, pose in enumerate(poses):
        pose[0] = (30 + 40 * number, 60, 1)
    drawn = draw_people(GREY, poses, COCO)
    colours = {tuple(drawn[60, 30 + 40 * number].tolist()) for number in range(3)}
    assert len(colours) == 3


def test_keypoints_at_or_below_the_minimum_score_are_left_out() -> None:
    pose = np.zeros((1, COCO.num, 3))
    pose[0, 0], pose[0, 1] = (40, 40, 0.2), (100, 100, 0.6)
    changed = (draw_people(GREY, pose, COCO, minimum_score=0.5) != 128).any(axis=2)
    assert changed[100, 100]
    assert not changed[:80, :80].any()
    assert not (draw_people(GREY, np.zeros((0, COCO.num, 3)), COCO) != 128).any()


def test_huge_and_nan_coordinates_are_drawn_without_error() -> None:
    pose = np.ones((1, COCO.num, 3))
    pose[0, LEFT_SHOULDER], pose[0, LEFT_ELBOW] = (1e30, -1e30, 1), (np.nan, 5, 1)
    assert draw_people(GREY, pose, COCO).shape == GREY.shape


def test_overlay_changes_the_image_where_a_heatmap_is_high() -> None:
    heatmaps = np.zeros((3, 40, 40), np.float32)
    heatmaps[1, 10, 30] = 1.0
    overlay = heatmap_overlay(GREY, heatmaps)
    changed = np.argwhere((overlay != 128).any(axis=2))
    # Map pixel (row 10, column 30) covers rows 40..43 and columns 120..123; bilinear spreads it by one map pixel.
    assert np.allclose(changed.mean(axis=0) + 0.5, (42, 122))
    assert np.abs(changed + 0.5 - (42, 122)).max() < 6


def test_people_on_a_scaled_image_are_drawn_at_their_scaled_places() -> None:
    pose = np.zeros((1, COCO.num, 3))
    pose[0, 0] = (40, 100, 1)
    for factor in (0.5, 1.0, 2.5):
        drawn = draw_people_at(GREY, pose, COCO, factor)
        assert drawn.shape == (round(160 * factor), round(160 * factor), 3)
        changed = np.argwhere((drawn != 128).any(axis=2)) + 0.5
        np.testing.assert_allclose(changed.mean(axis=0), (100 * factor, 40 * factor), atol=0.5)


def test_masked_pixels_are_darkened_and_reddened() -> None:
    mask = np.ones((80, 80), bool)
    mask[10:20, 30:50] = False
    overlay = mask_overlay(GREY, mask)
    assert {tuple(colour) for colour in overlay[20:40, 60:100].reshape(-1, 3).tolist()} == {(42 + 90, 42, 42)}
    overlay[20:40, 60:100] = 128
    assert (overlay == 128).all()


def test_tag_places_are_the_map_pixels_of_the_indices() -> None:
    """Map pixel (row 3, column 7) of a 40 x 40 map covers rows 12..15 and columns 28..31 of the image."""
    indices = np.array([[5 * 1600 + 3 * 40 + 7, 9 * 1600 + 30 * 40 + 2], [3 * 40 + 20, 0]])
    valid = np.array([[True, True], [True, False]])
    drawn = tag_places(GREY, indices, valid, (40, 40))
    assert drawn.shape == GREY.shape
    coloured = (drawn != 128 // 3).any(axis=2)
    expected = np.zeros((160, 160), bool)
    for row, column in [(3, 7), (30, 2), (3, 20)]:
        expected[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = True
    assert np.array_equal(coloured, expected)
    assert np.array_equal(drawn[13, 29], drawn[121, 9])
    assert not np.array_equal(drawn[13, 29], drawn[13, 81])


def test_a_caption_stands_above_the_unchanged_image() -> None:
    made = captioned(GREY, "a caption that is much too long for an image of this width")
    assert made.shape[1:] == GREY.shape[1:]
    assert np.array_equal(made[-160:], GREY)
    assert (made[:-160] < 100).any()


def test_contact_sheet_places_images_row_by_row() -> None:
    images = [np.full((10 + n, 20, 3), 40 * n, np.uint8) for n in range(5)]
    sheet = contact_sheet(images, columns=3, gap=2)
    assert sheet.shape == (2 * 14 + 2, 3 * 20 + 2 * 2, 3)
    for number, image in enumerate(images):
        top, left = number // 3 * 16, number % 3 * 22
        assert np.array_equal(sheet[top : top + len(image), left : left + 20], image)
    assert (sheet[16:, 44:] == 255).all()
    with pytest.raises(UserError, match="at least 1 image"):
        contact_sheet([], 3)


def test_saved_png_reads_back_the_same(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (12, 17, 3), dtype=np.uint8)
    save_image(tmp_path / "deep" / "image.png", image)
    assert np.array_equal(read_image(tmp_path / "deep" / "image.png"), image)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["image.png"]
