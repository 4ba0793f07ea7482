"""People from lists of detections are those of grouping, and lists hold what the maps hold."""

from dataclasses import replace

import numpy as np
import pytest

from subnet_export.decoding.detections import group_detections, list_detections
from supernet.errors import UserError
from supernet.io.schema import from_mapping
from supernet.pose.grouping import group
from supernet.pose.inference import InferenceSettings
from tests.golden.decode_recipe import people
from tests.golden.recipes import crowd_maps
from tests.helpers.golden_people import GoldenPeople, golden_people


@pytest.mark.parametrize("case", golden_people(), ids=lambda case: case.name)
def test_people_are_the_golden_ones(case: GoldenPeople) -> None:
    settings = from_mapping(InferenceSettings, case.decoder["inference"], "inference")
    case.check(*group_detections(case.detections, settings))


def test_the_golden_people_are_those_of_grouping() -> None:
    for case in golden_people():
        case.check(*people(case.detections, from_mapping(InferenceSettings, case.decoder["inference"], "inference")))


@pytest.mark.parametrize("decoding", ["published", "unbiased"])
def test_lists_give_the_people_that_maps_give_before_filling_in(decoding: str) -> None:
    settings = InferenceSettings(max_people=12, refine=False, decoding=decoding)  # type: ignore[arg-type]
    heat, tags = crowd_maps(3, 7, 14, 96, 128, tags=1)
    expected, expected_scores = group(heat, tags, **settings.grouping)
    listed = list_detections(heat, tags[..., 0], settings)
    poses, scores = group_detections(listed, settings)
    assert len(scores) > 5
    np.testing.assert_array_equal(poses, expected)
    np.testing.assert_array_equal(scores, expected_scores)
    assert (np.diff(listed[..., 2], axis=1) <= 0).all()
    assert (listed[..., 2] < settings.detection_threshold).any()  # to fill in from
    filled, filled_scores = group_detections(listed, replace(settings, refine=True))
    np.testing.assert_array_equal(filled_scores, scores)  # filling in adds to poses only
    is_seen = poses[..., 2] > 0
    np.testing.assert_array_equal(filled[is_seen], poses[is_seen])
    assert (filled[..., 2] > 0).sum() > is_seen.sum()


def test_wrong_detections_are_refused() -> None:
    for wrong in (np.zeros((2, 3)), np.zeros((2, 3, 5)), np.full((2, 3, 4), np.nan)):
        with pytest.raises(UserError, match="detections"):
            group_detections(wrong, InferenceSettings())
