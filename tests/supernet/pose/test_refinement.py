"""Searching block by block gives the result of searching everywhere, ties included."""

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from supernet.pose import refinement
from supernet.pose.refinement import BLOCK, by_blocks, complete, everywhere

Floats = npt.NDArray[np.float32]
SIZES = [(3, 5), (BLOCK, BLOCK), (40, 49), (64, 96), (97, 63), (1, 200), (130, 1)]


def maps(rng: np.random.Generator, kind: str, height: int, width: int, num_tags: int) -> tuple[Floats, Floats]:
    """A heatmap (H, W) and tags (H, W, T) as trained, untrained and quantised networks give them."""
    heat, tags = rng.uniform(-0.1, 0.6, (height, width)), rng.normal(0, 3, (height, width, num_tags))
    if kind == "smooth":
        heat, tags = (
            np.asarray(cv2.blur(heat, (9, 9)), float),
            np.asarray(cv2.blur(10 * tags, (25, 25)), float).reshape(tags.shape),
        )
    if kind == "coarse":
        heat, tags = np.round(heat * 4) / 4, np.round(tags / 2) * 2
    if kind == "constant":
        heat, tags = np.full_like(heat, 0.25), np.full_like(tags, 1.5)
    return heat.astype(np.float32), tags.astype(np.float32)


def of_one_map(heat: Floats, tags: Floats, means: Floats) -> list[int]:
    """Places that the search by blocks finds for all people in one map."""
    places: list[int] = by_blocks(heat[None], tags[None], np.zeros(len(means), np.int64), means).tolist()
    return places


@pytest.mark.parametrize("num_tags", [1, 2, 3, 5])
@pytest.mark.parametrize("kind", ["noise", "smooth", "coarse", "constant"])
def test_blocks_find_the_first_highest_pixel(kind: str, num_tags: int) -> None:
    rng = np.random.default_rng(num_tags)
    for height, width in SIZES:
        for _ in range(8):
            heat, tags = maps(rng, kind, height, width, num_tags)
            means = rng.normal(0, 4, (3, num_tags)).astype(np.float32)
            expected = [int((heat - np.rint(np.sqrt(np.square(tags - mean).sum(axis=2)))).argmax()) for mean in means]
            assert everywhere(heat, tags, means).tolist() == expected
            assert of_one_map(heat, tags, means) == expected


@pytest.mark.parametrize("pairs", [1, 4, 1000])
@pytest.mark.parametrize("kind", ["noise", "smooth", "coarse"])
def test_pairs_of_several_maps_are_searched_in_their_own(
    kind: str, pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refinement, "_PAIRS", pairs)
    rng = np.random.default_rng(0)
    both = [maps(rng, kind, 64, 96, 1) for _ in range(3)]
    heat, tags = np.stack([first for first, _ in both]), np.stack([second for _, second in both])
    keypoints, means = rng.integers(0, 3, 11), rng.normal(0, 4, (11, 1)).astype(np.float32)
    expected = [everywhere(heat[k], tags[k], means[i : i + 1])[0] for i, k in enumerate(keypoints)]
    assert by_blocks(heat, tags, keypoints, means).tolist() == expected


def test_tags_whose_distance_overflows_are_searched_too() -> None:
    heat, tags = maps(np.random.default_rng(0), "noise", 64, 64, 2)
    tags[:] = 3e38
    tags[40, 50] = (1, 1)
    with np.errstate(over="ignore"):
        assert of_one_map(heat, tags, np.ones((1, 2), np.float32)) == [40 * 64 + 50]
        assert of_one_map(heat, tags, np.full((1, 2), -3e38, np.float32)) == [0]


@pytest.mark.parametrize("few", [0, 1])
def test_only_missing_keypoints_are_added_and_only_where_there_is_heat(
    few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refinement, "FEW", few)
    heat = np.full((3, 40, 40), -0.5, np.float32)
    tags = np.full((3, 40, 40, 1), 9, np.float32)
    heat[1, 30, 35], tags[1, 30, 35] = 0.3, 2
    heat[1, 5, 5], tags[1, 5, 5] = 0.4, 7
    places = np.array([[17, -1, -1], [-1, 4, -1]])
    values = np.array([[0.9, 0, 0], [0, 0.8, 0]], np.float32)
    completed, heights = complete(heat, tags, places, values, np.array([[2], [7]], np.float32))
    # Only the first person's second keypoint has heat where the tag agrees.
    assert completed.tolist() == [[17, 30 * 40 + 35, -1], [-1, 4, -1]]
    np.testing.assert_array_equal(heights, np.array([[0.9, 0.3, 0], [0, 0.8, 0]], np.float32))
