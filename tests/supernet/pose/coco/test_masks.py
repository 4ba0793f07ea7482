"""Masks of segmentations equal those of pycocotools and drawn rectangles."""

import cv2
import numpy as np
from pycocotools import mask as coco_masks

from supernet.pose.coco.masks import box_pixels, run_lengths, segmentation_pixels


def test_run_lengths_agree_with_pycocotools() -> None:
    rng = np.random.default_rng(0)
    for share in (0.0, 0.02, 0.5, 0.98, 1.0):
        expected = rng.random((37, 53)) < share
        packed = coco_masks.encode(np.asfortranarray(expected, np.uint8))
        text = packed["counts"].decode()
        covered = segmentation_pixels({"size": [37, 53], "counts": text}, width=53, height=37)
        assert np.array_equal(covered, expected)
        assert np.array_equal(
            segmentation_pixels({"size": [37, 53], "counts": run_lengths(text)}, width=53, height=37), expected
        )


def test_several_polygons_cover_their_union() -> None:
    polygons = [[10, 5, 40, 5, 40, 25, 10, 25], [30.0, 20.0, 55.0, 20.0, 55.0, 35.0, 30.0, 35.0]]
    covered = segmentation_pixels(polygons, width=60, height=40)
    expected = np.zeros((40, 60), np.uint8)
    cv2.rectangle(expected, (10, 5), (39, 24), 1, -1)
    cv2.rectangle(expected, (30, 20), (54, 34), 1, -1)
    assert np.array_equal(covered, expected.astype(bool))


def test_boxes_are_clipped_to_the_image() -> None:
    covered = box_pixels((-5.0, 38.5, 8.5, 1e12), 60, 40)
    expected = np.zeros((40, 60), bool)
    expected[38:, :4] = True
    assert np.array_equal(covered, expected)
