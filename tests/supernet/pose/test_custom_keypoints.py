"""Keypoint sets of one's own: what names tell, what files and configuration tell, and what contradicts."""

import re
import warnings
from typing import Any

import pytest

from supernet.errors import UserError
from supernet.io.schema import from_mapping
from supernet.pose.custom_keypoints import CustomKeypoints, check_names, derived_pairs, from_entry, from_plain, to_entry
from supernet.pose.keypoints import COCO, CROWDPOSE, KeypointSet

FACE = {"keypoints": ["chin", "left_eye", "right_eye"], "skeleton": [[1, 2], [1, 3]]}


def complete(category: dict[str, Any], **told: Any) -> KeypointSet:
    return from_mapping(CustomKeypoints, told, "keypoints").complete(category)


@pytest.mark.parametrize("keypoints", [COCO, CROWDPOSE])
def test_pairs_derived_from_the_names_are_the_published_ones(keypoints: KeypointSet) -> None:
    assert derived_pairs(keypoints.names) == keypoints.flip_pairs


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("left_eye", "right_eye"),
        ("eye_left", "eye_right"),
        ("Left Eye", "Right Eye"),
        ("LeftEye", "RightEye"),
        ("lefteye", "righteye"),
        ("l_eye", "r_eye"),
        ("eye-L", "eye-R"),
        ("LEye", "REye"),
        ("eye.l.2", "eye.r.2"),
    ],
)
def test_sides_are_told_in_many_spellings(left: str, right: str) -> None:
    assert derived_pairs(("chin", right, "tail", left)) == ((3, 1),)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("left_eye", "chin"), "which keypoint mirrors which of 'left_eye'; set flip_pairs"),
        (("point1", "point2", "lip"), "no keypoint's name tells left or right"),
        (("left_eye", "LeftEye", "right_eye"), "which of 'left_eye', 'LeftEye', 'right_eye'"),
    ],
)
def test_names_that_do_not_tell_the_pairs_are_refused(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        derived_pairs(names)
    assert complete({}, names=list(names), flip_pairs=[], sigmas=[1.0] * len(names)).flip_pairs == ()


def test_a_category_tells_names_skeleton_sigmas_and_pairs() -> None:
    found = complete({**FACE, "sigmas": [0.1, 0.2, 0.2], "flip_pairs": [["left_eye", "right_eye"]]}, name="face")
    assert found == KeypointSet(
        "face", ("chin", "left_eye", "right_eye"), (0.1, 0.2, 0.2), ((1, 2),), ((0, 1), (0, 2)), False
    )
    assert found.sides == ("", "left", "right")


def test_configuration_goes_before_the_category() -> None:
    category = {**FACE, "sigmas": [0.1, 0.2, 0.2], "flip_pairs": [[2, 3]]}
    told = {"sigmas": [1, 2.0, 3.0], "flip_pairs": [["right_eye", "left_eye"]], "skeleton": []}
    found = complete(category, **told, area_from_box=True)
    assert found.sigmas == (1.0, 2.0, 3.0)
    assert found.flip_pairs == ((2, 1),)
    assert found.skeleton == ()
    assert found.area_from_box


def test_unknown_sigmas_are_those_of_published_keypoints_or_coco_s_median_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="sigmas of chin are not known and taken as 0.072"):
        found = complete(FACE)
    assert found.sigmas == (sorted(COCO.sigmas)[8], 0.025, 0.025)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        everything = complete({}, names=["LeftEye", "right eye", "neck", "left_shoulder", "right_shoulder"])
    assert everything.sigmas == (0.025, 0.025, 0.079, 0.079, 0.079)


@pytest.mark.parametrize(
    ("category", "told", "message"),
    [
        ({}, {}, "names of the keypoints are not known"),
        ({"keypoints": ["a", "a"]}, {}, "'a' is listed more than once"),
        ({"keypoints": ["a", "\ud800", "c"]}, {}, r"called '\\ud800', which cannot be shown"),
        ({"keypoints": 5}, {}, "names is 5"),
        ({"keypoints": ["a", 5]}, {}, r"names\[1\] is 5"),
        (FACE, {"names": ["chin", "right_eye", "left_eye"]}, "calls keypoint 2 'left_eye', but .* it is 'right_eye'"),
        (FACE, {"names": ["chin"]}, "lists 3 keypoints, but .* has 1"),
        (FACE, {"sigmas": [0.1, 0.1]}, "sigmas must be 3 numbers above 0"),
        (FACE, {"sigmas": [0.1, 0.1, 0.0]}, "sigmas must be 3 numbers above 0"),
        (FACE, {"sigmas": [0.1, 0.1, float("nan")]}, r"sigmas\[2\] is nan; it must be finite"),
        (FACE, {"flip_pairs": []}, "do not pair 'left_eye' with 'right_eye'"),
        (FACE, {"flip_pairs": [[1, 2]]}, "do not pair 'left_eye' with 'right_eye'"),
        (FACE, {"flip_pairs": [[0, 1]]}, r"holds \[0, 1\], which is no pair of the 3 keypoints"),
        (FACE, {"flip_pairs": [["left_eye", "chin", "right_eye"]]}, "no pair"),
        (FACE, {"flip_pairs": [["left_eye", "right_eye"], ["chin", "left_eye"]]}, "name a keypoint twice"),
        (FACE, {"skeleton": [["chin", "nose"]]}, r"skeleton holds \['chin', 'nose'\]"),
        ({**FACE, "skeleton": [[1, 4]]}, {}, r"skeleton holds \[1, 4\]"),
        ({**FACE, "skeleton": [[1, True]]}, {}, r"skeleton holds"),
    ],
)
def test_what_is_missing_or_contradicts_is_refused(
    category: dict[str, Any], told: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        complete(category, **{"sigmas": [0.1] * 3, **told})
    assert "\n" not in str(caught.value)


def test_coco_s_own_numbers_from_0_are_noticed() -> None:
    with pytest.raises(UserError, match="do not pair 'left_eye' with 'right_eye'"):
        complete({"keypoints": list(COCO.names), "flip_pairs": [list(pair) for pair in COCO.flip_pairs]})


@pytest.mark.parametrize("name", ["coco", "crowdpose", ""])
def test_a_built_in_set_s_name_is_not_for_others(name: str) -> None:
    with pytest.raises(UserError, match=f"cannot be called {name!r}"):
        complete(FACE, name=name)


def test_every_set_is_found_again_from_its_plain_form() -> None:
    own = complete({**FACE, "sigmas": [0.1, 0.2, 1 / 3]}, name="face", area_from_box=True)
    assert from_plain(own.to_plain()) == own
    assert from_entry(to_entry(own)) == own
    assert to_entry(COCO) == {"set": "coco", "names": list(COCO.names)}
    assert from_entry(to_entry(COCO)) is COCO
    assert COCO.to_plain() == "coco"
    assert from_plain("crowdpose") is CROWDPOSE
    plain = own.to_plain()
    assert isinstance(plain, dict)
    for key in plain.keys() - {"name"}:
        with pytest.raises(UserError, match=f"'face' is unknown .* has no {key}"):
            from_plain({other: value for other, value in plain.items() if other != key})


def test_spelling_of_names_does_not_count_but_their_order_does() -> None:
    check_names(["Nose", "left eye", "RightEye"], ("nose", "left_eye", "right_eye"), "face")
    with pytest.raises(UserError, match=re.escape("calls keypoint 2 'right_eye', but in the keypoint set face it is")):
        check_names(["nose", "right_eye", "left_eye"], ("nose", "left_eye", "right_eye"), "face")
