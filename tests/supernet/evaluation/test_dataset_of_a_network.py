"""A data set fits a network of the same keypoints; what it leaves open about them is as the network has it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from supernet.errors import UserError
from supernet.evaluation.subnet_scorer import chosen_dataset, split_for
from supernet.pose.datasets import build, resolved
from supernet.pose.keypoints import COCO, CROWDPOSE, KeypointSet
from tests.helpers.coco_files import NAMES, remove_skeleton, reorder_keypoints, rewrite, write_custom_set

SIGMAS = (0.05, 0.06, 0.06, 0.08, 0.08)
NETWORK = KeypointSet("dancers", tuple(NAMES), SIGMAS, ((2, 1), (3, 4)), ((0, 1), (0, 2)))


def open_set(root: Path, **keypoints: Any) -> dict[str, Any]:
    """Write a data set whose description says no more of its keypoints than ``keypoints``."""
    return {**write_custom_set(root, 4), "keypoints": keypoints}


def changing(**entries: Any) -> Callable[[dict[str, Any]], None]:
    """Return what sets entries of the annotated category."""
    return lambda content: content["categories"][0].update(entries)


@pytest.mark.parametrize(
    "change",
    [remove_skeleton, changing(skeleton=[[1, 4]]), changing(sigmas=SIGMAS), changing(flip_pairs=[[4, 5], [2, 3]])],
)
def test_a_data_set_with_the_keypoints_of_a_network_has_the_network_s_sigmas_pairs_and_skeleton(
    change: Callable[[dict[str, Any]], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = open_set(tmp_path)
    rewrite(tmp_path, change)
    for split in ("train", "val"):
        assert split_for(NETWORK, dataset, split, "the model").keypoints is NETWORK
    assert not [message for message in caplog.messages if "sigmas" in message]
    images = split_for(NETWORK, dataset, "train", "the model")
    assert build(resolved(dataset, NETWORK, images), "test").keypoints == NETWORK


def test_mirror_pairs_that_a_network_does_not_know_stay_unknown_and_listed_ones_are_refused(tmp_path: Path) -> None:
    names = ("Snout", "p1", "p2", "LFoot", "RFoot")
    network = KeypointSet("dancers", names, SIGMAS, ((3, 4),), (), unpaired=("p1", "p2"))
    dataset = open_set(tmp_path)
    rewrite(tmp_path, changing(keypoints=names))
    assert not split_for(network, dataset, "train", "the model").keypoints.mirrors
    rewrite(tmp_path, changing(flip_pairs=[[2, 3], [4, 5]]))
    message = (
        r'flip_pairs is \[\["p1","p2"\],.* trained with \[\["LFoot","RFoot"\]\]; set dataset.keypoints.flip_pairs='
    )
    with pytest.raises(UserError, match=message):
        split_for(network, dataset, "train", "the model")


@pytest.mark.parametrize("built_in", [COCO, CROWDPOSE])
def test_a_custom_set_with_the_keypoints_of_a_built_in_one_is_evaluated_as_that(
    built_in: KeypointSet, tmp_path: Path
) -> None:
    dataset = open_set(tmp_path, names=list(built_in.names), area_from_box=built_in.area_from_box)

    def change(content: dict[str, Any]) -> None:
        del content["categories"][0]["keypoints"], content["categories"][0]["skeleton"]
        for person in content["annotations"]:
            person |= {"keypoints": [10, 10, 2] * built_in.num, "num_keypoints": built_in.num}

    rewrite(tmp_path, change)
    assert split_for(built_in, dataset, "val", "the model").keypoints is built_in


@pytest.mark.parametrize(
    ("keypoints", "change", "message"),
    [
        (
            {"sigmas": [0.1] * 5},
            None,
            r"sigmas is \[0.1,.* trained with \[0.05,.*; set dataset.keypoints.sigmas=\[0.05,",
        ),
        ({}, changing(sigmas=[0.1] * 5), r"sigmas is \[0.1,.* trained with \[0.05,.*; set dataset.keypoints.sigmas="),
        (
            {"area_from_box": True},
            None,
            "area_from_box is true .* with false; set dataset.keypoints.area_from_box=false",
        ),
        ({}, reorder_keypoints, "keypoints is 'custom' but the model was trained on 'dancers'; choose a data set"),
        ({"name": "dancers"}, reorder_keypoints, r'names is \["RHand",.* trained with \["Snout",.*; choose a data set'),
    ],
)
def test_what_a_data_set_says_otherwise_is_refused_with_the_field_and_what_to_set(
    keypoints: dict[str, Any], change: Callable[[dict[str, Any]], None] | None, message: str, tmp_path: Path
) -> None:
    dataset = open_set(tmp_path, **keypoints)
    if change is not None:
        rewrite(tmp_path, change)
    with pytest.raises(UserError, match=message) as caught:
        split_for(NETWORK, dataset, "val", "the model")
    if "; set dataset.keypoints." in str(caught.value):
        option, value = str(caught.value).split("; set dataset.keypoints.")[1].split(" or ")[0].split("=")
        followed = {**dataset, "keypoints": {**keypoints, option: json.loads(value)}}
        assert split_for(NETWORK, followed, "val", "the model").keypoints is NETWORK


def test_a_folder_alone_is_that_of_the_images_which_a_network_was_trained_on(tmp_path: Path) -> None:
    own = write_custom_set(tmp_path / "now", 2) | {"root": "/before"}
    assert chosen_dataset({"root": str(tmp_path / "now")}, own, "the model") == own | {"root": str(tmp_path / "now")}
    for root in ("/nowhere", None):
        with pytest.raises(UserError, match=rf"there is no folder {root}; give dataset\.root the folder"):
            chosen_dataset({"root": root}, own, "the model")
    with pytest.raises(UserError, match=r"kind 'synthetic' has no folder; leave out dataset\.root"):
        chosen_dataset({"root": str(tmp_path)}, {"kind": "synthetic"}, "the model")
