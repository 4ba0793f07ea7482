"""Grouping agrees with the published code and with a slow, obvious reference."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from supernet.errors import UserError
from supernet.pose import peaks, refinement
from supernet.pose.grouping import KEYPOINT_ORDER, Matching, group
from tests.golden.recipes import crowd_maps

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "grouping.json").read_text())
NUM_CROWDS = 500  # per variant
Array = npt.NDArray[np.float64]


Spot = tuple[int, int]
Person = dict[int, Spot]


class TooManyTiesError(Exception):
    """Too many outcomes are correct to list them."""


def slow_detections(heatmap: Array, most: int, threshold: float, reach: int) -> list[Spot]:
    highest = []
    for y, x in np.ndindex(heatmap.shape):
        around = heatmap[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
        if heatmap[y, x] > threshold and heatmap[y, x] == around.max():
            highest.append((y, x))
    kept: list[Spot] = []
    for y, x in sorted(highest, key=lambda peak: -heatmap[peak]):
        # A second peak within reach can only be as high: part of a plateau.
        if not any(abs(y - r) <= reach and abs(x - c) <= reach for r, c in kept):
            kept.append((y, x))
    return kept[:most]


def all_assignments(num_rows: int, num_columns: int, num_alone: int) -> Iterator[tuple[int | None, ...]]:
    """Every way to give rows distinct columns, except for ``num_alone`` rows that get none."""
    for alone in itertools.combinations(range(num_rows), num_alone):
        paired = [row for row in range(num_rows) if row not in alone]
        for columns in itertools.permutations(range(num_columns), len(paired)):
            chosen = dict(zip(paired, columns, strict=True))
            yield tuple(chosen.get(row) for row in range(num_rows))


def slow_assignments(cost: Array, allowed: npt.NDArray[np.bool_], alone: float | None) -> list[tuple[int | None, ...]]:
    """The cheapest assignments of allowed pairs, by trying every one; several on a tie.

    A row that gets no column costs ``alone``; with None as few rows as possible get none, at no cost.
    """
    rows, columns = cost.shape
    fewest = max(0, rows - columns)
    priced = []
    for num_alone in range(fewest, fewest + 1 if alone is None else rows + 1):
        for choice in all_assignments(rows, columns, num_alone):
            pairs = [(row, column) for row, column in enumerate(choice) if column is not None]
            if all(allowed[pair] for pair in pairs):
                priced.append((sum(cost[pair] for pair in pairs) + num_alone * (alone or 0), choice))
    least = min(price for price, _ in priced)
    return [choice for price, choice in priced if price - least < 1e-6]


def slow_crowds(heat: Array, tag: Array, matching: str, most: int, reach: int) -> list[list[Person]]:
    """All correct groupings of (K, H, W), (K, H, W, T) into people; several only where assignments tie."""
    crowds: list[list[Person]] = [[]]
    for k in [k for k in KEYPOINT_ORDER if k < len(heat)]:
        spots = slow_detections(heat[k], most, 0.1, reach)
        before, crowds = crowds, []
        for people in before:
            old = people[:most]
            choices: list[tuple[int | None, ...]] = [(None,) * len(spots)]
            distance = np.array([[np.linalg.norm(tag[k][s] - mean_tag(tag, p)) for p in old] for s in spots])
            if spots and old:
                cost = np.round(distance) * 100 - np.array([[heat[k][s]] for s in spots])
                if matching == "thresholded":
                    choices = slow_assignments(cost, distance < 1, alone=100)
                else:
                    choices = slow_assignments(cost, np.full(distance.shape, True), alone=None)
            for choice in choices:
                after = [dict(person) for person in people]
                for row, (spot, column) in enumerate(zip(spots, choice, strict=True)):
                    if column is None or distance[row, column] >= 1:
                        after.append({k: spot})
                    else:
                        after[column][k] = spot
                crowds.append(after)
        if len(crowds) > 30:
            raise TooManyTiesError
    return crowds


def mean_tag(tag: Array, person: Person) -> Array:
    tags: Array = np.mean([tag[k][place] for k, place in person.items()], axis=0)
    return tags


def slow_poses(heat: Array, tag: Array, people: list[Person], adjust: bool, refine: bool) -> tuple[Array, Array]:
    """Poses (P, K, 3) and scores (P,)."""
    num_keypoints, height, width = heat.shape
    poses = np.zeros((len(people), num_keypoints, 3))
    scores = np.zeros(len(people))
    for number, person in enumerate(people):
        scores[number] = sum(heat[k][place] for k, place in person.items()) / num_keypoints
        mean = mean_tag(tag, person)
        for k in range(num_keypoints):
            place = person.get(k)
            if place is None and refine:
                agreement = heat[k] - np.round(np.linalg.norm(tag[k] - mean, axis=-1))
                best = np.unravel_index(agreement.argmax(), (height, width))
                place = (int(best[0]), int(best[1])) if heat[k][best] > 0 else None
            if place is None:
                continue
            y, x = place
            poses[number, k] = x + 0.5, y + 0.5, heat[k][place]
            if adjust:
                right, left = heat[k, y, min(x + 1, width - 1)], heat[k, y, max(x - 1, 0)]
                below, above = heat[k, min(y + 1, height - 1), x], heat[k, max(y - 1, 0), x]
                poses[number, k, :2] += 0.25 if right > left else -0.25, 0.25 if below > above else -0.25
    return poses, scores


def small_crowd(rng: np.random.Generator) -> tuple[Array, Array]:
    """Heatmaps and tags with up to three detections per keypoint or none at all; in half of them heights repeat."""
    num_keypoints, height, width, num_tags = rng.integers((2, 5, 5, 1), (7, 12, 12, 4))
    heat = rng.uniform(-0.3, 0.1, (num_keypoints, height, width))
    coarse = rng.random() < 0.5
    for k in range(num_keypoints if rng.random() < 0.95 else 0):
        for _ in range(rng.integers(0, 4)):
            y, x = rng.integers(height), rng.integers(width)
            heat[k, y, x] = rng.choice([0.25, 0.5, 0.75]) if coarse else rng.uniform(0.1, 1)
            if coarse and rng.random() < 0.3:
                heat[k, y, min(x + 1, width - 1)] = heat[k, y, x]
    tag = rng.normal(0, 1.5, (num_keypoints, height, width, num_tags))
    return heat.astype(np.float32).astype(float), tag.astype(np.float32).astype(float)


@pytest.mark.parametrize("case", GOLDEN)
def test_people_are_those_of_the_published_code(case: dict[str, Any]) -> None:
    maps = crowd_maps(case["seed"], case["people"], case["joints"], case["height"], case["width"], case["tags"])
    poses, scores = group(
        *maps,
        detection_threshold=case["threshold"],
        adjust=case["adjust"],
        refine=case["refine"],
        matching="reference",
    )
    golden = np.array(case["poses"])
    assert poses.shape == golden.shape
    np.testing.assert_allclose(poses[..., :2], golden[..., :2], atol=1e-3)
    np.testing.assert_allclose(poses[..., 2], golden[..., 2], atol=1e-5)
    np.testing.assert_allclose(scores, case["scores"], atol=1e-5)


@pytest.mark.parametrize("treated_as", ["small", "large"])
@pytest.mark.parametrize("matching", ["thresholded", "reference"])
def test_small_crowds_equal_the_slow_reference(
    matching: Matching, treated_as: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if treated_as == "large":
        monkeypatch.setattr(peaks, "FEW", 1)
        for name, value in (("FEW", 0), ("BLOCK", 2), ("SEEDS", 2)):
            monkeypatch.setattr(refinement, name, value)
    rng = np.random.default_rng(len(matching) + len(treated_as))
    compared = empty = tied = beyond = 0
    while compared < NUM_CROWDS:
        heat, tag = small_crowd(rng)
        most, reach = int(rng.integers(1, 5)), int(rng.integers(0, 3))
        adjust, refine = bool(rng.random() < 0.5), bool(rng.random() < 0.7)
        try:
            crowds = slow_crowds(heat, tag, matching, most, reach)
        except TooManyTiesError:
            continue
        poses, scores = group(
            heat.astype(np.float32),
            tag.astype(np.float32),
            max_people=most,
            adjust=adjust,
            refine=refine,
            nms_kernel=2 * reach + 1,
            matching=matching,
        )
        outcomes = [slow_poses(heat, tag, crowd, adjust, refine) for crowd in crowds]
        assert any(
            expected.shape == poses.shape and np.allclose(poses, expected, atol=1e-6) and np.allclose(scores, values)
            for expected, values in outcomes
        ), f"case {compared}: the result is none of the {len(outcomes)} correct outcomes"
        compared += 1
        empty += len(scores) == 0
        tied += len(crowds) > 1
        beyond += len(scores) > most
    assert min(empty, tied, beyond) > NUM_CROWDS // 50


def test_forbidding_far_pairs_first_finds_every_person_of_a_crowd_once() -> None:
    for case in GOLDEN:
        maps = crowd_maps(case["seed"], case["people"], case["joints"], case["height"], case["width"], case["tags"])
        assert len(group(*maps)[0]) == case["people"]


def test_a_poor_match_is_not_made_only_to_have_one_pair_more() -> None:
    # Two people at tags 0 and 0.9. The second keypoint's detections have tags 0.02 and -0.8: for both to join a person,
    # the first would have to leave its own person to the second.
    heat, tag = np.zeros((2, 9, 30), np.float32), np.zeros((2, 9, 30), np.float32)
    heat[0, 4, 4], heat[0, 4, 24] = 0.9, 0.8
    tag[0, 4, 24] = 0.9
    heat[1, 4, 5], heat[1, 4, 15] = 0.7, 0.2
    tag[1, 4, 5], tag[1, 4, 15] = 0.02, -0.8
    x = group(heat, tag, refine=False, adjust=False)[0][:, :, 0]
    assert x.tolist() == [[4.5, 5.5], [24.5, 0], [0, 15.5]]


def test_tensors_arrays_and_a_missing_tag_dimension_give_the_same_people() -> None:
    heat, tag = crowd_maps(104, 8, 14, 64, 64, 1)
    expected = group(heat, tag)
    forms: list[tuple[Any, Any]] = [
        (heat, tag[..., 0]),
        (torch.from_numpy(heat), torch.from_numpy(tag)),
        (heat.astype(np.float64), np.asfortranarray(tag)),
    ]
    for maps in forms:
        for actual, wanted in zip(group(*maps), expected, strict=True):
            np.testing.assert_array_equal(actual, wanted)


def test_the_peak_of_pixel_i_lies_at_i_and_a_half() -> None:
    heat = np.zeros((1, 9, 9), np.float32)
    heat[0, 4, 6], heat[0, 4, 7], heat[0, 3, 6] = 1, 0.5, 0.5
    tag = np.zeros_like(heat)
    assert group(heat, tag, adjust=False)[0].tolist() == [[[6.5, 4.5, 1.0]]]
    assert group(heat, tag)[0].tolist() == [[[6.75, 4.25, 1.0]]]


def test_maps_without_a_detection_give_no_people() -> None:
    poses, scores = group(np.zeros((14, 32, 32)), np.zeros((14, 32, 32, 2)))
    assert poses.shape == (0, 14, 3)
    assert scores.shape == (0,)


@pytest.mark.parametrize("size", [(1, 2), (2, 2), (3, 1)])
def test_a_plateau_is_one_detection(size: tuple[int, int]) -> None:
    heat = np.zeros((2, 20, 20), np.float32)
    heat[:, 6 : 6 + size[0], 5 : 5 + size[1]] = 0.7
    heat[:, 12, 5] = 0.7
    tag = np.zeros_like(heat)
    tag[:, 10:] = 5
    poses, scores = group(heat, tag, adjust=False)
    assert poses[..., :2].tolist() == [[[5.5, 6.5]] * 2, [[5.5, 12.5]] * 2]
    np.testing.assert_allclose(scores, 0.7)


def test_grouping_ends_with_very_many_equal_detections() -> None:
    poses, scores = group(np.full((14, 24, 24), 0.5), np.random.default_rng(0).normal(size=(14, 24, 24)))
    assert len(poses) == len(scores) >= 30
    assert np.isfinite(poses).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("which", ["heatmaps", "tags"])
def test_maps_that_are_not_finite_are_refused(bad: float, which: str) -> None:
    maps: dict[str, Any] = {"heatmaps": np.zeros((3, 8, 8), np.float32), "tags": np.zeros((3, 8, 8, 1), np.float32)}
    maps[which][1, 2, 3] = bad
    with pytest.raises(UserError, match=f"{which} .*not finite"):
        group(**maps)


def test_huge_finite_maps_are_accepted() -> None:
    assert len(group(np.full((1, 8, 8), 3e38), np.zeros((1, 8, 8)), max_people=1)[0]) == 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"heatmaps": np.zeros((3, 8, 9))}, "do not fit together"),
        ({"heatmaps": np.zeros((8, 8)), "tags": np.zeros((8, 8))}, "do not fit together"),
        ({"nms_kernel": 4}, "nms_kernel must be odd, .* got 4"),
        ({"nms_kernel": 1001}, "nms_kernel must be .*1000, got 1001"),
        ({"max_people": 0}, "max_people must be .*, got 0"),
        ({"matching": "hungarian"}, "matching must be .*got 'hungarian'"),
        ({"detection_threshold": -0.1}, r"detection_threshold must be .*, got -0\.1"),
        ({"tag_threshold": 0}, "tag_threshold must be .*, got 0"),
    ],
)
def test_impossible_input_is_refused_by_name(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        group(**{"heatmaps": np.zeros((3, 8, 8)), "tags": np.zeros((3, 8, 8, 1)), **changed})
