"""Custom keypoint sets: from names, files and configuration, and the contradictions between them."""

import re
from typing import Any

import pytest

from supernet.errors import UserError
from supernet.io.schema import from_mapping
from supernet.pose.coco.categories import CategoryFault, choose_category
from supernet.pose.custom_keypoints import CustomKeypoints, check_names, from_entry, from_plain, to_entry
from supernet.pose.keypoint_names import derived_pairs, sources_of
from supernet.pose.keypoints import COCO, CROWDPOSE, KeypointSet

FACE = {"keypoints": ["chin", "left_eye", "right_eye"], "skeleton": [[1, 2], [1, 3]]}


def complete(category: dict[str, Any], **configured: Any) -> KeypointSet:
    return from_mapping(CustomKeypoints, configured, "keypoints").complete(category)


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
        ("l1", "r1"),
        ("tl", "tr"),
        ("lank", "rank"),
        ("corner_tl3", "corner_tr3"),
    ],
)
def test_sides_are_read_in_many_spellings(left: str, right: str) -> None:
    assert derived_pairs(("chin", right, "tail", left)) == ((3, 1),)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("left_eye", "chin"), "pair 'left_eye',.*set flip_pairs"),
        (("left_eye", "LeftEye", "right_eye"), "pair 'left_eye', 'LeftEye', 'right_eye',"),
    ],
)
def test_names_without_clear_pairs_are_refused(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        derived_pairs(names)
    assert complete({}, names=list(names), flip_pairs=[], sigmas=[1.0] * len(names)).flip_pairs == ()


def test_keypoints_listed_as_unpaired_need_no_counterpart_and_the_others_are_paired() -> None:
    names = ["left_eye", "right_eye", "left_horn", "la", "ra"]
    keypoints = complete({}, names=names, sigmas=[1.0] * 5, unpaired=["left_horn", "la"])
    assert keypoints.flip_pairs == ((0, 1),)
    assert not keypoints.mirrors


@pytest.mark.parametrize(
    ("names", "unpaired"),
    [
        (["thing"], []),
        (["nose", "neck"], []),
        (["a", "b", "nose"], ["a", "b"]),
        (["tl", "tr", "br", "bl"], []),
        (["corner1", "corner2"], ["corner1", "corner2"]),
        (["left_eye", "right_eye", "face-0"], []),  # which annotations may contradict
    ],
)
def test_names_without_sides_switch_mirroring_off(names: list[str], unpaired: list[str]) -> None:
    sigmas = [1.0] * len(names)
    keypoints = complete({}, names=names, sigmas=sigmas)
    assert keypoints.unpaired == tuple(unpaired)
    assert keypoints.mirrors == (not unpaired)
    assert keypoints.flip_index[: 2 * len(keypoints.flip_pairs)] == tuple(
        {0: 1, 1: 0, 2: 3, 3: 2}[k] for k in range(2 * len(keypoints.flip_pairs))
    )
    read = from_plain(keypoints.to_plain())
    assert (read, read.unpaired) == (keypoints, keypoints.unpaired)
    assert complete({}, names=names, sigmas=sigmas, unpaired=[]).mirrors
    if not keypoints.flip_pairs:
        assert complete({}, names=names, sigmas=sigmas, flip_pairs=[]).mirrors


def test_a_category_gives_names_skeleton_sigmas_and_pairs() -> None:
    face = complete({**FACE, "sigmas": [0.1, 0.2, 0.2], "flip_pairs": [["left_eye", "right_eye"]]}, name="face")
    assert face == KeypointSet(
        "face", ("chin", "left_eye", "right_eye"), (0.1, 0.2, 0.2), ((1, 2),), ((0, 1), (0, 2)), False
    )
    assert face.sides == ("", "left", "right")


def test_configuration_overrides_the_category() -> None:
    category = {**FACE, "sigmas": [0.1, 0.2, 0.2], "flip_pairs": [[2, 3]]}
    configured = {"sigmas": [1, 2.0, 3.0], "flip_pairs": [["right_eye", "left_eye"]], "skeleton": []}
    keypoints = complete(category, **configured, area_from_box=True)
    assert keypoints.sigmas == (1.0, 2.0, 3.0)
    assert keypoints.flip_pairs == ((2, 1),)
    assert keypoints.skeleton == ()
    assert keypoints.area_from_box


def test_unknown_sigmas_are_those_of_published_keypoints_or_coco_s_median_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert complete(FACE).sigmas == (sorted(COCO.sigmas)[8], 0.025, 0.025)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert re.search("sigmas of chin .* 0.072", caplog.text)
    caplog.clear()
    published = complete({}, names=["LeftEye", "right eye", "neck", "left_shoulder", "right_shoulder"])
    assert caplog.messages == []
    assert published.sigmas == (0.025, 0.025, 0.079, 0.079, 0.079)


@pytest.mark.parametrize(
    ("category", "configured", "message"),
    [
        ({}, {}, "names of the keypoints are missing"),
        ({"keypoints": ["a", "a"]}, {}, "'a' is listed more than once"),
        ({"keypoints": ["a", "\ud800", "c"]}, {}, r"keypoint name '\\ud800'"),
        ({"keypoints": 5}, {}, "names must be .*, got 5"),
        ({"keypoints": ["a", 5]}, {}, r"names\[1\] must be .*, got 5"),
        (FACE, {"names": ["chin", "right_eye", "left_eye"]}, "calls keypoint 2 'left_eye', but .* it is 'right_eye'"),
        (FACE, {"names": ["chin"]}, "lists 3 keypoints, but .* has 1"),
        (FACE, {"sigmas": [0.1, 0.1]}, "sigmas must be 3 numbers above 0"),
        (FACE, {"sigmas": [0.1, 0.1, 0.0]}, "sigmas must be 3 numbers above 0"),
        (FACE, {"sigmas": [0.1, 0.1, float("nan")]}, r"sigmas\[2\] must be finite, got nan"),
        (FACE, {"flip_pairs": []}, "do not pair 'left_eye' with 'right_eye'"),
        (FACE, {"flip_pairs": [[1, 2]]}, "do not pair 'left_eye' with 'right_eye'"),
        (FACE, {"flip_pairs": [[0, 1]]}, r"flip_pairs holds \[0, 1\].*pair of the 3 keypoints"),
        (
            FACE,
            {"flip_pairs": [["left_eye", "chin", "right_eye"]]},
            r"flip_pairs holds \['left_eye', 'chin', 'right_eye'\]",
        ),
        (FACE, {"flip_pairs": [["left_eye", "right_eye"], ["chin", "left_eye"]]}, "name a keypoint twice"),
        (FACE, {"skeleton": [["chin", "nose"]]}, r"skeleton holds \['chin', 'nose'\]"),
        (
            {**FACE, "skeleton": [[1, 4]]},
            {},
            r"skeleton holds \[1, 4\].*leave it out with dataset\.keypoints\.skeleton=\[\]",
        ),
        (FACE, {"unpaired": ["nose"]}, "unpaired names 'nose'"),
        ({**FACE, "skeleton": [[1, True]]}, {}, r"skeleton holds"),
    ],
)
def test_missing_or_contradictory_entries_are_refused(
    category: dict[str, Any], configured: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        complete(category, **{"sigmas": [0.1] * 3, **configured})
    assert "\n" not in str(caught.value)


def test_coco_s_own_pairs_counted_from_0_are_refused() -> None:
    with pytest.raises(UserError, match="do not pair 'left_eye' with 'right_eye'"):
        complete({"keypoints": list(COCO.names), "flip_pairs": [list(pair) for pair in COCO.flip_pairs]})


@pytest.mark.parametrize("name", ["coco", "crowdpose", ""])
def test_the_name_of_a_built_in_set_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"must not be {name!r}"):
        complete(FACE, name=name)


def test_every_set_is_read_back_from_its_plain_form() -> None:
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


@pytest.mark.parametrize(
    ("configured", "option"),
    [
        ({"flip_pairs": [[0, 1]]}, "flip_pairs"),
        ({"skeleton": [[1, 9]]}, "skeleton"),
        ({"sigmas": [0.1]}, "sigmas"),
        ({"unpaired": ["nose"]}, "unpaired"),
    ],
)
def test_a_wrong_option_is_named_and_not_the_annotation_file(configured: dict[str, Any], option: str) -> None:
    keypoints = from_mapping(CustomKeypoints, configured, "keypoints")
    with pytest.raises(UserError, match=f"^dataset.keypoints.{option} "):
        choose_category([{"id": 1, "name": "cat", **FACE}], [1], keypoints, None)
    with pytest.raises(CategoryFault):
        choose_category([{"id": 1, "name": "cat", **FACE, "skeleton": [[1, 9]]}], [1], CustomKeypoints(), None)


def test_keypoints_of_two_sets_are_the_same_by_name_whatever_its_spelling() -> None:
    others = ("nose", "left_eye", "LEFT EYE", "?", "tail")
    assert sources_of(("Left-Eye", "LEFT EYE", "tail", "nosetip", "!", "?", "NOSE"), others) == [
        1,
        2,
        4,
        None,
        None,
        3,
        0,
    ]
    assert sources_of(COCO.names, COCO.names) == list(range(COCO.num))
    assert sources_of([], others) == []
