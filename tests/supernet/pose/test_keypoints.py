"""The two built-in keypoint sets."""

import numpy as np
import pytest
from pycocotools.cocoeval import Params

from supernet.errors import UserError
from supernet.pose.keypoints import COCO, CROWDPOSE, KeypointSet, keypoint_set


@pytest.mark.parametrize(("keypoints", "num"), [(COCO, 17), (CROWDPOSE, 14)])
def test_all_fields_describe_the_same_keypoints(keypoints: KeypointSet, num: int) -> None:
    assert keypoints.num == len(keypoints.names) == len(set(keypoints.names)) == len(keypoints.sigmas) == num
    assert all(0 <= end < num for bone in keypoints.skeleton for end in bone)
    assert {end for bone in keypoints.skeleton for end in bone} == set(range(num))


@pytest.mark.parametrize("keypoints", [COCO, CROWDPOSE])
def test_mirroring_swaps_left_and_right_by_name(keypoints: KeypointSet) -> None:
    swapped = {"left": "right", "right": "left"}
    for name, source in zip(keypoints.names, keypoints.flip_index, strict=True):
        side, _, part = name.partition("_")
        assert keypoints.names[source] == (f"{swapped[side]}_{part}" if side in swapped else name)


def test_coco_sigmas_are_those_of_pycocotools() -> None:
    np.testing.assert_allclose(COCO.sigmas, Params(iouType="keypoints").kpt_oks_sigmas, rtol=1e-12)


def test_sets_are_found_by_name_and_other_names_are_refused() -> None:
    assert keypoint_set("coco") is COCO
    assert keypoint_set("crowdpose") is CROWDPOSE
    with pytest.raises(UserError, match=r"'mpii'.*coco, crowdpose"):
        keypoint_set("mpii")
