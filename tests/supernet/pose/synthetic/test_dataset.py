"""Built-in people: repeatable, annotated correctly, and hard enough to need grouping."""

import contextlib
import functools
import hashlib
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO as CocoIndex
from pycocotools.cocoeval import COCOeval

from supernet.errors import UserError
from supernet.pose.keypoints import COCO, CROWDPOSE, KeypointSet
from supernet.pose.synthetic.body_parts import LANDMARKS, neighbouring_landmarks
from supernet.pose.synthetic.dataset import SyntheticPeople
from supernet.pose.synthetic.scene import Scene, sample_scene
from supernet.pose.synthetic.shapes import SHIFT
from supernet.pose.synthetic.skeleton import POINT, sample_skeletons


@functools.cache
def ground_truth(keypoints: KeypointSet, num_images: int = 100, seed: int = 7) -> dict[str, Any]:
    return SyntheticPeople(keypoints, num_images, seed).ground_truth()


def keypoints_of(truth: dict[str, Any]) -> np.ndarray:
    """All people's keypoints (N, K, 3)."""
    num = len(truth["categories"][0]["keypoints"])
    return np.array([entry["keypoints"] for entry in truth["annotations"]]).reshape(-1, num, 3)


def people_per_image(truth: dict[str, Any]) -> np.ndarray:
    counts = np.bincount([entry["image_id"] for entry in truth["annotations"]], minlength=len(truth["images"]) + 1)
    return counts[1:]


def scene(index: int, seed: int = 7) -> Scene:
    return sample_scene(np.random.default_rng([seed, index]), 192, 192)


def test_images_depend_on_seed_and_number_only() -> None:
    forwards, backwards = SyntheticPeople(COCO, 6, 3), SyntheticPeople(COCO, 6, 3)
    first = [forwards[index] for index in range(6)]
    second = [backwards[index] for index in reversed(range(6))][::-1]
    for sample, repeated in zip(first, second, strict=True):
        np.testing.assert_array_equal(sample.image, repeated.image)
        np.testing.assert_array_equal(sample.people, repeated.people)
        np.testing.assert_array_equal(sample.mask, repeated.mask)


def test_another_process_draws_the_same_bytes() -> None:
    program = (
        "import hashlib; from supernet.pose.keypoints import COCO\n"
        "from supernet.pose.synthetic.dataset import SyntheticPeople\n"
        "s = SyntheticPeople(COCO, 9, 3)[8]; print(hashlib.sha256(s.image.tobytes() + s.people.tobytes()).hexdigest())"
    )
    root = Path(__file__).parents[4]
    ended = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    sample = SyntheticPeople(COCO, 9, 3)[8]
    assert ended.stdout.strip() == hashlib.sha256(sample.image.tobytes() + sample.people.tobytes()).hexdigest()


def test_other_numbers_and_other_seeds_give_other_images() -> None:
    people = SyntheticPeople(COCO, 2, 3)
    assert not np.array_equal(people[0].image, people[1].image)
    assert not np.array_equal(people[0].image, SyntheticPeople(COCO, 1, 4)[0].image)


def test_first_index_continues_the_series() -> None:
    later = SyntheticPeople(COCO, 2, 3, first_index=4)
    np.testing.assert_array_equal(later[1].image, SyntheticPeople(COCO, 6, 3)[5].image)
    assert list(later.image_ids) == [1, 2]
    assert later[1].image_id == 2


def test_samples_have_the_promised_shapes() -> None:
    people = SyntheticPeople(CROWDPOSE, 3, 0, width=256, height=160)
    sample = people[2]
    assert sample.image.shape == (160, 256, 3)
    assert sample.image.dtype == np.uint8
    assert sample.image.flags.c_contiguous
    assert sample.people.shape[1:] == (14, 3)
    assert sample.people.dtype == np.float32
    assert sample.mask.shape == (160, 256)
    assert sample.mask.all()
    assert len(people) == len(people.image_ids) == 3


@pytest.mark.parametrize("keypoints", [COCO, CROWDPOSE], ids=lambda keypoints: keypoints.name)
def test_samples_and_annotations_agree(keypoints: KeypointSet) -> None:
    people = SyntheticPeople(keypoints, 12, 7)
    truth = people.ground_truth()
    for index in range(12):
        entries = [entry for entry in truth["annotations"] if entry["image_id"] == people.image_ids[index]]
        annotated = np.array([entry["keypoints"] for entry in entries]).reshape(-1, keypoints.num, 3)
        np.testing.assert_array_equal(annotated, people[index].people)


def test_the_ground_truth_scores_ap_1_in_pycocotools() -> None:
    truth = ground_truth(COCO, 30)
    results = [
        {key: entry[key] for key in ("image_id", "category_id", "keypoints")} | {"score": 1.0}
        for entry in truth["annotations"]
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        index = CocoIndex()
        index.dataset = truth
        index.createIndex()
        evaluation = COCOeval(index, index.loadRes(results), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1.0)


@pytest.mark.parametrize("keypoints", [COCO, CROWDPOSE], ids=lambda keypoints: keypoints.name)
def test_annotations_are_valid(keypoints: KeypointSet) -> None:
    truth = ground_truth(keypoints)
    entries, points = truth["annotations"], keypoints_of(truth)
    assert [entry["id"] for entry in entries] == list(range(1, len(entries) + 1))
    for entry, person in zip(entries, points, strict=True):
        x, y, width, height = entry["bbox"]
        assert 0 <= x < x + width <= 192
        assert 0 <= y < y + height <= 192
        assert 0 < entry["area"] <= width * height
        assert entry["iscrowd"] == 0
        assert entry["num_keypoints"] == (person[:, 2] > 0).sum() >= 3
    assert truth["categories"][0]["keypoints"] == list(keypoints.names)
    assert all(0 <= image["crowdIndex"] <= 1 for image in truth["images"])


def test_visible_keypoints_lie_in_the_box_and_unlabelled_ones_at_zero() -> None:
    truth = ground_truth(COCO)
    points = keypoints_of(truth)
    assert set(np.unique(points[..., 2])) == {0, 1, 2}
    labelled = points[..., 2] > 0
    assert (points[~labelled] == 0).all()
    assert (points[labelled][:, :2] >= 0).all()
    assert (points[labelled][:, :2] < 192).all()
    boxes = np.array([entry["bbox"] for entry in truth["annotations"]])[:, None]
    inside = (points[..., :2] >= boxes[..., :2]) & (points[..., :2] <= boxes[..., :2] + boxes[..., 2:])
    assert inside[points[..., 2] == 2].all()


def test_both_keypoint_sets_show_the_same_people() -> None:
    seventeen, fourteen = keypoints_of(ground_truth(COCO)), keypoints_of(ground_truth(CROWDPOSE))
    shared = [name for name in COCO.names if name in CROWDPOSE.names]
    assert len(shared) == 12
    np.testing.assert_array_equal(
        seventeen[:, [COCO.names.index(name) for name in shared]],
        fourteen[:, [CROWDPOSE.names.index(name) for name in shared]],
    )
    np.testing.assert_array_equal(SyntheticPeople(COCO, 1, 7)[0].image, SyntheticPeople(CROWDPOSE, 1, 7)[0].image)


def test_a_landmark_inside_the_outline_of_a_nearer_part_is_never_visible() -> None:
    checked = 0
    for index in range(25):
        drawn = scene(index)
        for person, figure in enumerate(drawn.figures):
            own = {part.identity for part in figure.parts}
            last = max(place for place, part in enumerate(drawn.layers) if part.identity in own)
            nearer = [outline for part in drawn.layers[last + 1 :] for outline in part.outlines]
            for landmark, point in enumerate(figure.landmarks):
                where = tuple(float(value) for value in (point - 0.5) * (1 << SHIFT))
                depth = max((cv2.pointPolygonTest(outline, where, True) for outline in nearer), default=-1.0)
                if depth > (1 << SHIFT):  # More than a pixel inside.
                    checked += 1
                    assert drawn.visibility[person, landmark] < 2
    assert checked > 50


def test_a_visible_landmark_shows_its_own_person() -> None:
    for index in range(25):
        drawn = scene(index)
        for person, figure in enumerate(drawn.figures):
            identities = {part.identity for part in figure.parts}
            for x, y in figure.landmarks[drawn.visibility[person] == 2]:
                assert int(drawn.owners[int(y), int(x)]) in identities


@pytest.mark.parametrize(("yaw", "left_is_right"), [(0.0, True), (180.0, False)], ids=["front", "back"])
def test_the_left_side_is_on_the_right_of_the_image_in_front_views_only(yaw: float, left_is_right: bool) -> None:
    skeletons = sample_skeletons(np.random.default_rng(0), 300, np.full(300, yaw), elevation=5.0)
    upright = skeletons.points[:, POINT["neck"], 1] > 0.25
    assert upright.sum() > 200
    for name in ("shoulder", "hip"):
        left, right = (skeletons.points[upright, POINT[f"{side}_{name}"], 0] for side in ("left", "right"))
        assert ((left > right) == left_is_right).all()


def test_the_left_shoulder_is_on_the_right_when_the_face_is_visible() -> None:
    points = keypoints_of(ground_truth(COCO))
    place = {name: points[:, index] for index, name in enumerate(COCO.names)}
    eyes_seen = (place["left_eye"][:, 2] > 0) & (place["right_eye"][:, 2] > 0)
    trunk = [place[name] for name in ("left_shoulder", "right_shoulder", "left_hip", "right_hip")]
    seen = np.all([part[:, 2] > 0 for part in trunk], axis=0)
    span = place["left_shoulder"][:, 0] - place["right_shoulder"][:, 0]
    height = 0.5 * (trunk[2] + trunk[3] - trunk[0] - trunk[1])[:, 1]
    upright = seen & (np.abs(span) > 0.5 * height) & (height > 0)
    assert (upright & eyes_seen).sum() > 20
    assert (span[upright & eyes_seen] > 0).mean() > 0.97
    back = upright & (place["nose"][:, 2] == 0) & (place["nose"][:, 1] == 0) & (place["left_eye"][:, 2] == 0)
    back &= place["right_eye"][:, 2] == 0
    back &= (place["left_ear"][:, 2] > 0) | (place["right_ear"][:, 2] > 0)  # the head is in the image
    assert back.sum() >= 5
    assert (span[back] < 0).mean() > 0.8


def test_faces_seen_from_behind_are_not_labelled() -> None:
    rows = [LANDMARKS.index(name) for name in ("nose", "left_eye", "right_eye")]
    away = 0
    for index in range(80):
        for figure in scene(index).figures:
            ears = figure.landmarks[LANDMARKS.index("left_ear")] - figure.landmarks[LANDMARKS.index("right_ear")]
            neck = figure.landmarks[LANDMARKS.index("neck")] - figure.landmarks[LANDMARKS.index("head")]
            upright = neck[1] > 0.15 * figure.stature  # a person who bends forward may show a nose
            if upright and ears[0] < -0.08 * figure.stature:
                away += 1
                assert not figure.labelled[rows].any()
    assert away > 10


def test_crowds_small_hidden_and_cut_people_are_common() -> None:
    truth = ground_truth(COCO)
    counts, points = people_per_image(truth), keypoints_of(truth)
    heights = np.array([entry["bbox"][3] for entry in truth["annotations"]])
    assert counts.min() >= 1
    assert (counts >= 3).mean() > 0.4
    assert (counts >= 5).mean() > 0.1
    assert (heights < 50).mean() > 0.08
    assert ((heights >= 50) & (heights <= 150)).mean() > 0.6
    drawn = [scene(index) for index in range(100)]
    positions = np.concatenate([[figure.landmarks for figure in drawn_scene.figures] for drawn_scene in drawn])[:, 5:17]
    is_visible = np.concatenate([drawn_scene.visibility for drawn_scene in drawn])[:, 5:17] == 2
    hidden = ((positions >= 0) & (positions < 192)).all(axis=-1) & ~is_visible
    assert (hidden.sum(axis=1) >= 3).mean() > 0.2
    assert (points[:, 5:, 2] == 0).any(axis=1).mean() > 0.08
    assert (points[..., 2] == 2).mean() > 0.5


def test_hidden_keypoints_are_labelled_if_a_neighbour_is_visible() -> None:
    points = keypoints_of(ground_truth(COCO))
    hidden, seen = points[..., 2] == 1, points[..., 2] == 2
    assert hidden.sum() / (points[..., 2] > 0).sum() == pytest.approx(0.128, abs=0.03)  # as in 86 people of COCO
    bones = {frozenset(COCO.names[end] for end in bone) for bone in COCO.skeleton}
    for row, name in enumerate(COCO.names):
        if name.partition("_")[2] in ("elbow", "wrist", "knee", "ankle"):
            near = [COCO.names.index(other) for bone in bones if name in bone for other in bone - {name}]
            assert len(near) == 1 + (name.partition("_")[2] in ("elbow", "knee"))
            assert hidden[:, row].sum() > 3
            assert seen[hidden[:, row]][:, near].any(axis=1).all()
    # Keypoints without a visible neighbour have no label, although they lie in the image.
    drawn = [scene(index) for index in range(40)]
    wrist, elbow = LANDMARKS.index("left_wrist"), LANDMARKS.index("left_elbow")
    deep = [
        visibility[wrist]
        for drawn_scene in drawn
        for figure, visibility in zip(drawn_scene.figures, drawn_scene.visibility, strict=True)
        if ((figure.landmarks[wrist] > 0) & (figure.landmarks[wrist] < 192)).all() and visibility[elbow] < 2
    ]
    assert deep.count(0) > 5
    assert 1 not in deep


def test_landmarks_that_are_not_labelled_do_not_label_their_neighbours() -> None:
    """For example a landmark beyond the border, or the nose of a head seen from behind."""
    visibility = np.concatenate([scene(index).visibility for index in range(100)])
    assert (visibility == 1).sum() > 300
    assert not ((visibility == 1) & ~((visibility == 2) @ neighbouring_landmarks())).any()


def test_other_people_hide_keypoints_in_many_images() -> None:
    images = 0
    for index in range(60):
        drawn = scene(index)
        for figure, visibility in zip(drawn.figures, drawn.visibility, strict=True):
            x, y = figure.landmarks[visibility == 1].astype(int).T
            part = drawn.owners[y, x].astype(int)
            first = figure.first_identity
            if ((part > 0) & (part < 255) & ((part < first) | (part >= first + 19))).any():
                images += 1
                break
    assert images >= 15


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"num_images": -1}, "num_images"),
        ({"seed": -1}, "seed"),
        ({"width": 10}, "width"),
        ({"height": 5000}, "height"),
    ],
)
def test_impossible_sizes_are_refused(changed: dict[str, int], name: str) -> None:
    with pytest.raises(UserError, match=name):
        SyntheticPeople(COCO, **({"num_images": 1, "seed": 0} | changed))


def test_images_past_the_end_are_refused() -> None:
    people = SyntheticPeople(COCO, 2, 0)
    with pytest.raises(IndexError):
        people[2]
